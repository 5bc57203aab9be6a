"""A seat: the desk that one native thread decides with, and how it is replaced.

The thread sits down for a decision and rises after it; whoever replaces the desk waits until it has risen. So once `seat_give`
returns, the old desk is used by nobody and no later decision uses it: two uncontended locks a decision, 40 ns, buy both.
The thread itself makes the change when it rises: one that decides without pause would sit again before the waiter wakes.
"""

from core.kernel.desk_state cimport Desk
from server.transport.linux cimport (
    pthread_cond_broadcast,
    pthread_cond_destroy,
    pthread_cond_init,
    pthread_cond_t,
    pthread_cond_wait,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_t,
    pthread_mutex_unlock,
)

cdef struct Seat:
    pthread_mutex_t mutex  # guards everything here
    pthread_cond_t risen  # broadcast when the thread rises while somebody waits for it
    Desk* desk  # borrowed from a DeskHolder that the plane keeps; NULL: no program is loaded
    Desk* coming  # takes the desk's place when the thread rises, if somebody waits for that
    unsigned char taken  # the thread sits
    unsigned char awaited  # somebody waits until `coming` is the desk


cdef inline void seat_open(Seat* seat) noexcept nogil:
    """Makes an empty seat."""
    pthread_mutex_init(&seat.mutex, NULL)
    pthread_cond_init(&seat.risen, NULL)
    seat.desk = seat.coming = NULL
    seat.taken = seat.awaited = 0


cdef inline void seat_close(Seat* seat) noexcept nogil:
    """Frees the seat, which nobody uses any more."""
    pthread_cond_destroy(&seat.risen)
    pthread_mutex_destroy(&seat.mutex)


cdef inline Desk* seat_sit(Seat* seat) noexcept nogil:
    """The desk, until `seat_rise`; NULL without a program."""
    cdef Desk* desk
    pthread_mutex_lock(&seat.mutex)
    seat.taken = 1
    desk = seat.desk
    pthread_mutex_unlock(&seat.mutex)
    return desk


cdef inline void seat_rise(Seat* seat) noexcept nogil:
    """Ends the use of the desk and of everything it answered."""
    pthread_mutex_lock(&seat.mutex)
    seat.taken = 0
    if seat.awaited:
        seat.desk = seat.coming
        seat.awaited = 0
        pthread_cond_broadcast(&seat.risen)
    pthread_mutex_unlock(&seat.mutex)


cdef inline void seat_give(Seat* seat, Desk* desk) noexcept nogil:
    """Replaces the desk; returns when nobody uses the one before. One caller at a time."""
    pthread_mutex_lock(&seat.mutex)
    if seat.taken:
        seat.coming = desk
        seat.awaited = 1
        while seat.awaited:
            pthread_cond_wait(&seat.risen, &seat.mutex)
    else:
        seat.desk = desk
    pthread_mutex_unlock(&seat.mutex)
