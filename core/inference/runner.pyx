"""Runs one model version for decisions, on threads that a decision can walk away from.

**A run.** The deciding thread fills a job and starts it. Where the model's graph has a bounded running time (no loops, no
branches: `core.inference.validation` says so) and the time measured when it was warmed leaves ample room before the
deadline, the run happens right there: a logistic model takes 2 us and a change of threads takes several times that.
Otherwise the job goes to the pool and the thread sleeps on the job's state word (a futex) until the state says
done or the deadline comes.

**Late.** The waiting thread marks the job abandoned, sets the run's terminate flag (the runtime looks at it between nodes,
so a hanging loop ends soon, a single huge node does not) and goes on. Worker and caller hold a reference each; whoever lets
go last returns the job. While an abandoned run is over the model's time budget the model is BUSY: nothing is started
that would hang as well, so a hanging model holds at most `in_flight_limit` threads.

**State.** A job moves OPEN -> QUEUED -> RUNNING -> DONE or FAILED; the caller may turn QUEUED or RUNNING into ABANDONED.
Every change is one compare-and-swap, so exactly one side wins; the worker counts down what the caller counted up.

**Scores.** Only the chosen output is fetched: a column of a tensor, or one key of the maps that scikit-learn exporters
write. What is not finite, or outside [0, 1] for a propensity, leaves its row unscored.

Jobs are kept in a free list per model with their buffers, which grow and are then reused: a decision allocates
nothing of its own here. (The runtime allocates the output and its scratch itself.)
"""

import math
import re
from collections.abc import Mapping, Sequence

cimport cython
from libc.math cimport NAN, exp, isfinite
from libc.stdint cimport INT64_MAX, UINT32_MAX, int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset, strdup, strlen

from core.inference cimport pool
from core.inference.ort cimport (
    ELEMENT_BFLOAT16,
    ELEMENT_BOOL,
    ELEMENT_DOUBLE,
    ELEMENT_FLOAT,
    ELEMENT_FLOAT16,
    ELEMENT_INT8,
    ELEMENT_INT16,
    ELEMENT_INT32,
    ELEMENT_INT64,
    ELEMENT_STRING,
    ELEMENT_UINT8,
    ELEMENT_UINT16,
    ELEMENT_UINT32,
    ELEMENT_UINT64,
    KIND_MAP,
    KIND_SEQUENCE,
    KIND_TENSOR,
    allocator,
    api,
    element_bytes,
    env,
    memory,
    runtime_load,
    status_text,
)

from core.errors import BadValue, ModelError
from core.inference.tensor import ELEMENTS, TensorType
from core.limits import MODEL_INPUTS
from core.limits import MODEL_ROWS as _MODEL_ROWS

cdef extern from "<pthread.h>" nogil:
    int pthread_mutex_init(pthread_mutex_t* mutex, void* attributes)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)
    int pthread_mutex_destroy(pthread_mutex_t* mutex)

cdef extern from *:
    """
    #include <errno.h>
    #include <limits.h>
    #include <linux/futex.h>
    #include <sys/syscall.h>
    #include <time.h>
    #include <unistd.h>

    static inline int32_t add32(int32_t* word, int32_t by) { return __atomic_add_fetch(word, by, __ATOMIC_ACQ_REL); }
    static inline int64_t add64(int64_t* word, int64_t by) { return __atomic_add_fetch(word, by, __ATOMIC_ACQ_REL); }
    static inline void count64(int64_t* word, int64_t by) { __atomic_fetch_add(word, by, __ATOMIC_RELAXED); }
    static inline int32_t load32(int32_t* word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
    static inline int64_t load64(int64_t* word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
    static inline void store32(int32_t* word, int32_t to) { __atomic_store_n(word, to, __ATOMIC_RELEASE); }
    static inline void store64(int64_t* word, int64_t to) { __atomic_store_n(word, to, __ATOMIC_RELEASE); }
    static inline int swap32(int32_t* word, int32_t from, int32_t to) {
        return __atomic_compare_exchange_n(word, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    static inline int32_t exchange32(int32_t* word, int32_t to) {
        return __atomic_exchange_n(word, to, __ATOMIC_ACQ_REL);
    }
    static inline void max64(int64_t* word, int64_t seen) {
        int64_t before = __atomic_load_n(word, __ATOMIC_RELAXED);
        while (before < seen &&
               !__atomic_compare_exchange_n(word, &before, seen, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
    }
    static inline int64_t monotonic_ns(void) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
    }
    /* Sleeps while *word is `seen`, at most until `deadline_ns` of CLOCK_MONOTONIC; 1 when that time has come. */
    static inline int sleep_on(int32_t* word, int32_t seen, int64_t deadline_ns) {
        struct timespec until = {deadline_ns / 1000000000, deadline_ns % 1000000000};
        long answer = syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, seen,
                              deadline_ns == INT64_MAX ? NULL : &until, NULL, FUTEX_BITSET_MATCH_ANY);
        return answer == -1 && errno == ETIMEDOUT;
    }
    static inline void wake(int32_t* word) { syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1); }

    /* IEEE 754 binary16 and bfloat16, rounding to nearest, ties to even. */
    static inline uint16_t to_half(double number) {
        uint64_t bits; memcpy(&bits, &number, 8);
        uint16_t sign = (uint16_t) (bits >> 48) & 0x8000;
        if (number != number) return sign | 0x7e00;
        double size = number < 0 ? -number : number;
        if (size >= 65520.0) return sign | 0x7c00;
        if (size < 0x1p-14) return sign | (uint16_t) __builtin_rint(size * 0x1p24);
        int exponent; double fraction = __builtin_frexp(size, &exponent);
        return sign | (uint16_t) (((exponent + 13) << 10) + (int) __builtin_rint(fraction * 2048.0));
    }
    static inline double from_half(uint16_t half) {
        int exponent = (half >> 10) & 31, fraction = half & 1023;
        double size = exponent == 31 ? (fraction ? __builtin_nan("") : __builtin_inf())
                    : exponent ? __builtin_ldexp(fraction + 1024, exponent - 25) : __builtin_ldexp(fraction, -24);
        return half & 0x8000 ? -size : size;
    }
    static inline uint16_t to_brain(double number) {
        float narrow = (float) number; uint32_t bits; memcpy(&bits, &narrow, 4);
        if (number != number) return 0x7fc0;
        return (uint16_t) ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }
    static inline double from_brain(uint16_t brain) {
        uint32_t bits = (uint32_t) brain << 16; float number; memcpy(&number, &bits, 4); return number;
    }
    """
    int32_t add32(int32_t* word, int32_t by) noexcept nogil
    int64_t add64(int64_t* word, int64_t by) noexcept nogil
    void count64(int64_t* word, int64_t by) noexcept nogil
    int32_t load32(int32_t* word) noexcept nogil
    int64_t load64(int64_t* word) noexcept nogil
    void store32(int32_t* word, int32_t to) noexcept nogil
    void store64(int64_t* word, int64_t to) noexcept nogil
    int swap32(int32_t* word, int32_t before, int32_t to) noexcept nogil
    int32_t exchange32(int32_t* word, int32_t to) noexcept nogil
    void max64(int64_t* word, int64_t seen) noexcept nogil
    int64_t monotonic_ns() noexcept nogil
    int sleep_on(int32_t* word, int32_t seen, int64_t deadline_ns) noexcept nogil
    void wake(int32_t* word) noexcept nogil
    uint16_t to_half(double number) noexcept nogil
    double from_half(uint16_t half) noexcept nogil
    uint16_t to_brain(double number) noexcept nogil
    double from_brain(uint16_t brain) noexcept nogil

cdef enum:
    # A job's state.
    OPEN = 0
    QUEUED = 1
    RUNNING = 2
    ABANDONED = 3
    DONE = 4
    FAILED = 5

cdef enum:
    BY_COLUMN = 0
    BY_NUMBER = 1
    BY_TEXT = 2

cdef enum:
    PLATT = 1
    ISOTONIC = 2

cdef enum:
    # Jobs kept for reuse per model: as many as threads that decide at the same moment.
    FREE_JOBS = 16
    # A job that grew past this goes back to the allocator instead (a batch run of a wide model).
    FREE_BYTES = 4194304
    # Text of one job; beyond it rows are unscored. 64 texts of the longest string attribute for 1,000 rows.
    TEXT_BYTES = 67108864
    # How many times the measured time must fit before the deadline for a run on the caller's thread.
    INLINE_ROOM = 8
    # Input dimensions; the widest seen in the field is 4.
    RANK = 8

cdef int MODEL_ROWS = _MODEL_ROWS


# --- holders --------------------------------------------------------------------------------------------------


cdef Handle* handle_hold(Handle* handle) noexcept nogil:
    add64(&handle.refs, 1)
    return handle


cdef void handle_drop(Handle* handle) noexcept nogil:
    cdef Job* job
    cdef int index
    if handle == NULL or add64(&handle.refs, -1) != 0:
        return
    while handle.free_jobs != NULL:
        job = handle.free_jobs
        handle.free_jobs = job.next_free
        _job_free(job, handle.input_count)
    if handle.session != NULL:
        api.ReleaseSession(handle.session)
    if handle.inputs != NULL:
        for index in range(handle.input_count):
            free(handle.inputs[index].name)
    free(handle.inputs)
    free(handle.input_names)
    free(handle.output_name)
    free(handle.key_text)
    free(handle.point_x)
    free(handle.point_y)
    pthread_mutex_destroy(&handle.lock)
    free(handle)


cdef int64_t now_ns() noexcept nogil:
    return monotonic_ns()


# --- jobs -----------------------------------------------------------------------------------------------------


cdef void _job_free(Job* job, int input_count) noexcept nogil:
    cdef int index
    if job.cells != NULL:
        for index in range(input_count):
            if job.cells[index].value != NULL:
                api.ReleaseValue(job.cells[index].value)
            free(job.cells[index].data)
    free(job.cells)
    free(job.text)
    free(job.pointers)
    free(job.scores)
    free(job.void_rows)
    if job.run_options != NULL:
        api.ReleaseRunOptions(job.run_options)
    free(job)


cdef int _job_reserve(Job* job, int rows) noexcept nogil:
    """Room for ``rows`` rows in every array; 0, or -1 when memory is out (the job stays as it was)."""
    cdef Handle* handle = job.handle
    cdef Input* input
    cdef Cells* cells
    cdef size_t bytes
    cdef size_t most = 0
    cdef void* grown
    cdef int index
    cdef int padded = rows
    if handle.batch > 0:
        padded = (rows + handle.batch - 1) // handle.batch * handle.batch
    for index in range(handle.input_count):
        input = &handle.inputs[index]
        cells = &job.cells[index]
        bytes = <size_t> padded * <size_t> input.width * (input.bytes if input.bytes else sizeof(uint32_t))
        if bytes > cells.capacity:
            grown = realloc(cells.data, bytes)
            if grown == NULL:
                return -1
            cells.data = <char*> grown
            cells.capacity = bytes
            if cells.value != NULL:
                api.ReleaseValue(cells.value)
                cells.value = NULL
        memset(cells.data, 0, bytes)
        if input.bytes == 0 and <size_t> input.width > most:
            most = <size_t> input.width
    if most * <size_t> padded > job.pointer_capacity:
        grown = realloc(job.pointers, most * <size_t> padded * sizeof(char*))
        if grown == NULL:
            return -1
        job.pointers = <const char**> grown
        job.pointer_capacity = most * <size_t> padded
    if padded > job.reserved:
        grown = realloc(job.scores, <size_t> padded * sizeof(double))
        if grown == NULL:
            return -1
        job.scores = <double*> grown
        grown = realloc(job.void_rows, <size_t> padded)
        if grown == NULL:
            return -1
        job.void_rows = <uint8_t*> grown
        job.reserved = padded
    memset(job.void_rows, 0, <size_t> padded)
    if job.text == NULL:
        job.text = <char*> malloc(256)
        if job.text == NULL:
            return -1
        job.text_capacity = 256
    job.text[0] = 0
    job.text_used = 1
    return 0


cdef Job* job_new(Handle* handle, int rows) noexcept nogil:
    cdef Job* job
    cdef void* status
    if rows < 1 or rows > MODEL_ROWS:
        return NULL
    pthread_mutex_lock(&handle.lock)
    job = handle.free_jobs
    if job != NULL:
        handle.free_jobs = job.next_free
        handle.free_count -= 1
    pthread_mutex_unlock(&handle.lock)
    if job == NULL:
        job = <Job*> calloc(1, sizeof(Job))
        if job == NULL:
            return NULL
        job.cells = <Cells*> calloc(<size_t> handle.input_count, sizeof(Cells))
        if job.cells == NULL:
            free(job)
            return NULL
        status = api.CreateRunOptions(&job.run_options)
        if status != NULL:
            api.ReleaseStatus(status)
            _job_free(job, handle.input_count)
            return NULL
    job.handle = handle_hold(handle)
    job.refs = 1
    job.state = OPEN
    job.rows = rows
    if job.terminated:
        status = api.RunOptionsUnsetTerminate(job.run_options)
        if status != NULL:
            api.ReleaseStatus(status)
        job.terminated = 0
    if _job_reserve(job, rows) != 0:
        _job_free(job, handle.input_count)
        handle_drop(handle)
        return NULL
    return job


cdef void job_release(Job* job) noexcept nogil:
    cdef Handle* handle
    cdef size_t bytes
    cdef int index
    if job == NULL or add32(&job.refs, -1) != 0:
        return
    handle = job.handle
    bytes = job.text_capacity
    for index in range(handle.input_count):
        bytes += job.cells[index].capacity
    pthread_mutex_lock(&handle.lock)
    if handle.free_count < FREE_JOBS and bytes <= FREE_BYTES:
        job.next_free = handle.free_jobs
        handle.free_jobs = job
        handle.free_count += 1
        job = NULL
    pthread_mutex_unlock(&handle.lock)
    if job != NULL:
        _job_free(job, handle.input_count)
    handle_drop(handle)


# --- filling --------------------------------------------------------------------------------------------------


cdef int _store(char* at, int element, double number) noexcept nogil:
    """Writes a number as the element type; -1 when it cannot be held. Whole numbers must be whole only by rounding down
    towards zero, as a cast does: 3.7 into int64 is 3."""
    cdef float single
    cdef uint16_t half
    cdef int64_t whole
    cdef uint64_t positive
    if element == ELEMENT_FLOAT:
        single = <float> number
        memcpy(at, &single, 4)
        return 0
    if element == ELEMENT_DOUBLE:
        memcpy(at, &number, 8)
        return 0
    if element == ELEMENT_FLOAT16 or element == ELEMENT_BFLOAT16:
        half = to_half(number) if element == ELEMENT_FLOAT16 else to_brain(number)
        memcpy(at, &half, 2)
        return 0
    if element == ELEMENT_STRING or not isfinite(number):
        return -1
    if element == ELEMENT_BOOL:
        at[0] = 1 if number != 0 else 0
        return 0
    if element == ELEMENT_UINT64:
        if number <= -1.0 or number >= 18446744073709551616.0:
            return -1
        positive = <uint64_t> number if number > 0 else 0
        memcpy(at, &positive, 8)
        return 0
    if number < -9223372036854775808.0 or number >= 9223372036854775808.0:
        return -1
    whole = <int64_t> number
    if element == ELEMENT_INT64:
        memcpy(at, &whole, 8)
    elif element == ELEMENT_INT32 and -2147483648 <= whole <= 2147483647:
        memcpy(at, &whole, 4)
    elif element == ELEMENT_UINT32 and 0 <= whole <= <int64_t> UINT32_MAX:
        memcpy(at, &whole, 4)
    elif (element == ELEMENT_INT16 and -32768 <= whole <= 32767) or (element == ELEMENT_UINT16 and 0 <= whole <= 65535):
        memcpy(at, &whole, 2)
    elif (element == ELEMENT_INT8 and -128 <= whole <= 127) or (element == ELEMENT_UINT8 and 0 <= whole <= 255):
        memcpy(at, &whole, 1)
    else:
        return -1
    return 0


cdef void job_number(Job* job, int input, int row, int column, double number) noexcept nogil:
    cdef Input* kind = &job.handle.inputs[input]
    cdef size_t cell = <size_t> row * <size_t> kind.width + <size_t> column
    if _store(job.cells[input].data + cell * kind.bytes, kind.element, number) != 0:
        job.void_rows[row] = 1


cdef void job_number_all(Job* job, int input, int column, double number) noexcept nogil:
    cdef Input* kind = &job.handle.inputs[input]
    cdef size_t stride = <size_t> kind.width * kind.bytes
    cdef char* first = job.cells[input].data + <size_t> column * kind.bytes
    cdef char* at = first
    cdef int _row
    if _store(first, kind.element, number) != 0:
        job_void(job, -1)
        return
    for _row in range(1, job.rows):
        at += stride
        if kind.bytes == 4:
            memcpy(at, first, 4)
        elif kind.bytes == 8:
            memcpy(at, first, 8)
        else:
            memcpy(at, first, kind.bytes)


cdef uint32_t _keep_text(Job* job, const char* text, uint32_t length) noexcept nogil:
    """Copies a text into the job; its offset, or UINT32_MAX when there is no room."""
    cdef size_t needed = job.text_used + length + 1
    cdef size_t capacity = job.text_capacity
    cdef void* grown
    cdef uint32_t offset
    if length == 0:
        return 0
    if needed > TEXT_BYTES:
        return UINT32_MAX
    if needed > capacity:
        while capacity < needed:
            capacity *= 2
        grown = realloc(job.text, capacity)
        if grown == NULL:
            return UINT32_MAX
        job.text = <char*> grown
        job.text_capacity = capacity
    offset = <uint32_t> job.text_used
    memcpy(job.text + offset, text, length)
    job.text[offset + length] = 0
    job.text_used = needed
    return offset


cdef void job_text(Job* job, int input, int row, int column, const char* text, uint32_t length) noexcept nogil:
    cdef Input* kind = &job.handle.inputs[input]
    cdef uint32_t offset = UINT32_MAX
    if kind.bytes == 0:
        offset = _keep_text(job, text, length)
    if offset == UINT32_MAX:
        job.void_rows[row] = 1
        return
    (<uint32_t*> job.cells[input].data)[<size_t> row * <size_t> kind.width + <size_t> column] = offset


cdef void job_text_all(Job* job, int input, int column, const char* text, uint32_t length) noexcept nogil:
    cdef Input* kind = &job.handle.inputs[input]
    cdef uint32_t* cells = <uint32_t*> job.cells[input].data
    cdef uint32_t offset = UINT32_MAX
    cdef int row
    if kind.bytes == 0:
        offset = _keep_text(job, text, length)
    if offset == UINT32_MAX:
        job_void(job, -1)
        return
    for row in range(job.rows):
        cells[<size_t> row * <size_t> kind.width + <size_t> column] = offset


cdef void job_void(Job* job, int row) noexcept nogil:
    if row < 0:
        memset(job.void_rows, 1, <size_t> job.rows)
    else:
        job.void_rows[row] = 1


# --- running --------------------------------------------------------------------------------------------------


cdef void _keep_words(Handle* handle, const char* words) noexcept nogil:
    cdef size_t length = strlen(words)
    if length >= sizeof(handle.fault):
        length = sizeof(handle.fault) - 1
    pthread_mutex_lock(&handle.lock)
    memcpy(handle.fault, words, length)
    handle.fault[length] = 0
    pthread_mutex_unlock(&handle.lock)


cdef int _failed(Handle* handle, void* status) noexcept nogil:
    """Whether a call failed; keeps the runtime's words and releases the status."""
    if status == NULL:
        return 0
    _keep_words(handle, api.GetErrorMessage(status))
    api.ReleaseStatus(status)
    return 1


cdef int _inputs(Job* job, int first, int rows, void** values) noexcept nogil:
    """The runtime's tensors over rows [first, first + rows); 0 or -1. Values in ``values`` belong to the job's cells."""
    cdef Handle* handle = job.handle
    cdef Input* input
    cdef Cells* cells
    cdef uint32_t* offsets
    cdef size_t count
    cdef size_t cell
    cdef size_t bytes
    cdef int64_t shape[RANK]
    cdef int index
    for index in range(handle.input_count):
        input = &handle.inputs[index]
        cells = &job.cells[index]
        if cells.value != NULL and (input.bytes == 0 or cells.value_rows != rows or handle.batch > 0):
            api.ReleaseValue(cells.value)
            cells.value = NULL
        if cells.value == NULL:
            memcpy(shape, input.shape, sizeof(shape))
            shape[0] = rows
            count = <size_t> rows * <size_t> input.width
            if input.bytes > 0:
                bytes = count * input.bytes
                if _failed(handle, api.CreateTensorWithDataAsOrtValue(
                        memory, cells.data + <size_t> first * <size_t> input.width * input.bytes, bytes, shape,
                        <size_t> input.rank, input.element, &cells.value)):
                    return -1
            else:
                if _failed(handle, api.CreateTensorAsOrtValue(
                        allocator, shape, <size_t> input.rank, ELEMENT_STRING, &cells.value)):
                    return -1
                offsets = <uint32_t*> cells.data + <size_t> first * <size_t> input.width
                for cell in range(count):
                    job.pointers[cell] = job.text + offsets[cell]
                if _failed(handle, api.FillStringTensor(cells.value, job.pointers, count)):
                    return -1
            cells.value_rows = rows
        values[index] = cells.value
    return 0


cdef double _element(const char* data, int element, size_t index) noexcept nogil:
    if element == ELEMENT_FLOAT:
        return (<const float*> data)[index]
    if element == ELEMENT_DOUBLE:
        return (<const double*> data)[index]
    if element == ELEMENT_INT64:
        return <double> (<const int64_t*> data)[index]
    if element == ELEMENT_INT32:
        return (<const int32_t*> data)[index]
    if element == ELEMENT_INT16:
        return (<const int16_t*> data)[index]
    if element == ELEMENT_INT8:
        return (<const int8_t*> data)[index]
    if element == ELEMENT_UINT64:
        return <double> (<const uint64_t*> data)[index]
    if element == ELEMENT_UINT32:
        return (<const uint32_t*> data)[index]
    if element == ELEMENT_UINT16:
        return (<const uint16_t*> data)[index]
    if element == ELEMENT_UINT8 or element == ELEMENT_BOOL:
        return (<const uint8_t*> data)[index]
    if element == ELEMENT_FLOAT16:
        return from_half((<const uint16_t*> data)[index])
    if element == ELEMENT_BFLOAT16:
        return from_brain((<const uint16_t*> data)[index])
    return NAN


cdef int _tensor_facts(Handle* handle, void* value, int* element, size_t* count, int64_t* first) noexcept nogil:
    """A tensor's element type, element count and first dimension (1 for a scalar); 0 or -1."""
    cdef void* info = NULL
    cdef size_t rank = 0
    cdef int64_t shape[RANK]
    cdef int failed
    if _failed(handle, api.GetTensorTypeAndShape(value, &info)):
        return -1
    first[0] = 1
    failed = (
        _failed(handle, api.GetTensorElementType(info, element))
        or _failed(handle, api.GetTensorShapeElementCount(info, count))
        or _failed(handle, api.GetDimensionsCount(info, &rank))
    )
    if not failed and rank > RANK:
        _keep_words(handle, b"the output has more than 8 dimensions")
        failed = 1
    if not failed and rank > 0:
        failed = _failed(handle, api.GetDimensions(info, shape, rank))
        first[0] = shape[0]
    api.ReleaseTensorTypeAndShapeInfo(info)
    return -1 if failed else 0


cdef int _from_tensor(Job* job, void* value, int first, int taken, int rows) noexcept nogil:
    cdef Handle* handle = job.handle
    cdef int element = 0
    cdef size_t count = 0
    cdef size_t width
    cdef int64_t leading = 0
    cdef void* data = NULL
    cdef int row
    if _tensor_facts(handle, value, &element, &count, &leading) != 0:
        return -1
    if leading != rows or count % <size_t> rows != 0:
        _keep_words(handle, b"the output does not have one row for each row of input")
        return -1
    width = count // <size_t> rows
    if handle.select != BY_COLUMN or <size_t> handle.key >= width:
        _keep_words(handle, b"the output does not have the column that output.class or output.column names")
        return -1
    if element == ELEMENT_STRING:
        _keep_words(handle, b"the output holds texts, not numbers")
        return -1
    if _failed(handle, api.GetTensorMutableData(value, &data)):
        return -1
    for row in range(taken):
        job.scores[first + row] = _element(<char*> data, element, <size_t> row * width + <size_t> handle.key)
    return 0


cdef int64_t _find_key(Handle* handle, void* keys, size_t count, int element) noexcept nogil:
    """Position of the wanted key, or -1."""
    cdef void* data = NULL
    cdef size_t index
    cdef size_t length = 0
    cdef size_t wanted
    cdef char text[256]
    if handle.select == BY_NUMBER and element == ELEMENT_INT64:
        if _failed(handle, api.GetTensorMutableData(keys, &data)):
            return -1
        for index in range(count):
            if (<int64_t*> data)[index] == handle.key:
                return <int64_t> index
    elif handle.select == BY_TEXT and element == ELEMENT_STRING:
        wanted = strlen(handle.key_text)
        for index in range(count):
            if _failed(handle, api.GetStringTensorElementLength(keys, index, &length)):
                return -1
            if length != wanted or length > 255:
                continue
            if _failed(handle, api.GetStringTensorElement(keys, length, index, text)):
                return -1
            if memcmp(text, handle.key_text, length) == 0:
                return <int64_t> index
    _keep_words(handle, b"the output's maps do not have the key that output.class names")
    return -1


cdef int _from_map(Job* job, void* pairs, int row) noexcept nogil:
    cdef Handle* handle = job.handle
    cdef void* keys = NULL
    cdef void* values = NULL
    cdef void* data = NULL
    cdef int element = 0
    cdef size_t count = 0
    cdef int64_t leading = 0
    cdef int64_t found = -1
    if not _failed(handle, api.GetValue(pairs, 0, allocator, &keys)):
        if _tensor_facts(handle, keys, &element, &count, &leading) == 0:
            found = _find_key(handle, keys, count, element)
        api.ReleaseValue(keys)
    if found < 0:
        return -1
    if _failed(handle, api.GetValue(pairs, 1, allocator, &values)):
        return -1
    if (
        _tensor_facts(handle, values, &element, &count, &leading) != 0
        or _failed(handle, api.GetTensorMutableData(values, &data))
    ):
        api.ReleaseValue(values)
        return -1
    job.scores[row] = _element(<char*> data, element, <size_t> found)
    api.ReleaseValue(values)
    return 0


cdef int _from_sequence(Job* job, void* value, int first, int taken, int rows) noexcept nogil:
    cdef Handle* handle = job.handle
    cdef void* pairs = NULL
    cdef size_t count = 0
    cdef int row
    cdef int failed
    if _failed(handle, api.GetValueCount(value, &count)):
        return -1
    if count != <size_t> rows:
        _keep_words(handle, b"the output does not have one map for each row of input")
        return -1
    for row in range(taken):
        if _failed(handle, api.GetValue(value, row, allocator, &pairs)):
            return -1
        failed = _from_map(job, pairs, first + row)
        api.ReleaseValue(pairs)
        if failed:
            return -1
    return 0


cdef int _execute(Job* job) noexcept nogil:
    """Runs the model and fills the scores; 0, or -1 with the reason in the handle."""
    cdef Handle* handle = job.handle
    cdef int64_t began = monotonic_ns()
    cdef int64_t spent
    cdef void** values
    cdef void* result = NULL
    cdef int kind = 0
    cdef int first = 0
    cdef int rows = handle.batch if handle.batch > 0 else job.rows
    cdef int taken
    cdef int failed = 0
    cdef int row
    cdef int64_t unscored = 0
    cdef void* few[64]
    values = few
    if handle.input_count > 64:
        values = <void**> malloc(<size_t> handle.input_count * sizeof(void*))
        if values == NULL:
            _keep_words(handle, b"memory is out")
            return -1
    while first < job.rows and not failed:
        taken = job.rows - first
        if taken > rows:
            taken = rows
        failed = _inputs(job, first, rows, values)
        if failed:
            break
        result = NULL
        if _failed(handle, api.Run(handle.session, job.run_options, handle.input_names, values,
                                   <size_t> handle.input_count, <const char* const*> &handle.output_name, 1, &result)):
            failed = 1
            break
        failed = _failed(handle, api.GetValueType(result, &kind))
        if not failed:
            if kind == KIND_TENSOR:
                failed = _from_tensor(job, result, first, taken, rows)
            elif kind == KIND_SEQUENCE:
                failed = _from_sequence(job, result, first, taken, rows)
            elif kind == KIND_MAP and rows == 1:
                failed = _from_map(job, result, first)
            else:
                _keep_words(handle, b"the output is neither a tensor nor a sequence of maps")
                failed = 1
        api.ReleaseValue(result)
        first += taken
    if values != few:
        free(values)
    if not failed:
        for row in range(job.rows):
            job.scores[row] = NAN if job.void_rows[row] else _calibrate(handle, job.scores[row])
            unscored += job.scores[row] != job.scores[row]
    spent = monotonic_ns() - began
    count64(&handle.spent_ns, spent)
    max64(&handle.slowest_ns, spent)
    count64(&handle.rows, job.rows)
    count64(&handle.unscored, unscored)
    return -1 if failed else 0


cdef double _calibrate(Handle* handle, double score) noexcept nogil:
    cdef int low
    cdef int high
    cdef int middle
    cdef double* x = handle.point_x
    cdef double* y = handle.point_y
    if not isfinite(score):
        return NAN
    if handle.calibration == PLATT:
        score = 1.0 / (1.0 + exp(handle.platt_a * score + handle.platt_b))
    elif handle.calibration == ISOTONIC:
        low = 0
        high = handle.points - 1
        if score <= x[0]:
            score = y[0]
        elif score >= x[high]:
            score = y[high]
        else:
            while high - low > 1:  # x[low] < score < x[high]
                middle = (low + high) // 2
                if x[middle] <= score:
                    low = middle
                else:
                    high = middle
            score = y[low] + (y[high] - y[low]) * ((score - x[low]) / (x[high] - x[low]))
    if handle.bounded:
        # Single precision leaves a sum of probabilities a few units in the last place past its bound.
        if not (-1e-5 <= score <= 1.00001):
            return NAN
        if score < 0.0:
            return 0.0
        if score > 1.0:
            return 1.0
    return score


cdef void _work(pool.Task* task) noexcept nogil:
    """On a thread of the pool: runs a job, tells its caller, lets go."""
    cdef Job* job = <Job*> task
    cdef Handle* handle = job.handle
    cdef int failed
    if swap32(&job.state, QUEUED, RUNNING):
        failed = _execute(job)
        if exchange32(&job.state, FAILED if failed else DONE) == ABANDONED:
            add32(&handle.abandoned, -1)
        else:
            wake(&job.state)
    else:
        add32(&handle.abandoned, -1)  # the caller left before anything was begun
    add32(&handle.in_flight, -1)
    job_release(job)


cdef int job_start(Job* job, int64_t deadline_ns) noexcept nogil:
    cdef Handle* handle = job.handle
    cdef int64_t now = monotonic_ns()
    cdef int64_t left = deadline_ns - now if deadline_ns - now < handle.budget_ns else handle.budget_ns
    cdef double needed
    job.started_ns = now
    if left <= 0:
        count64(&handle.late, 1)
        return LATE
    if load32(&handle.abandoned) > 0 and now >= load64(&handle.stuck_at_ns):
        count64(&handle.busy, 1)
        return BUSY
    if handle.inline_base_ns >= 0.0:
        needed = handle.inline_base_ns + handle.inline_row_ns * job.rows
        if needed * INLINE_ROOM <= left:
            count64(&handle.runs, 1)
            count64(&handle.inline_runs, 1)
            if _execute(job) != 0:
                count64(&handle.faulty, 1)
                job.state = FAILED
                return FAULTY
            job.state = DONE
            return SCORED
    if add32(&handle.in_flight, 1) > handle.in_flight_limit:
        add32(&handle.in_flight, -1)
        count64(&handle.busy, 1)
        return BUSY
    job.task.run = _work
    job.state = QUEUED
    add32(&job.refs, 1)
    if pool.submit(&job.task) != 0:
        add32(&job.refs, -1)
        add32(&handle.in_flight, -1)
        job.state = OPEN
        count64(&handle.busy, 1)
        return BUSY
    count64(&handle.runs, 1)
    return SCORED


cdef int job_wait(Job* job, int64_t deadline_ns) noexcept nogil:
    cdef Handle* handle = job.handle
    cdef int64_t until = deadline_ns
    cdef int32_t state = load32(&job.state)
    cdef void* status
    if state == DONE:
        return SCORED
    if handle.budget_ns < until - job.started_ns:
        until = job.started_ns + handle.budget_ns
    while True:
        state = load32(&job.state)
        if state == DONE:
            return SCORED
        if state == FAILED:
            count64(&handle.faulty, 1)
            return FAULTY
        if state == OPEN:
            return BUSY
        if not sleep_on(&job.state, state, until) and monotonic_ns() < until:
            continue
        state = load32(&job.state)
        if state == DONE or state == FAILED:
            continue
        # Counted before the swap, so that the worker never counts down what is not yet counted.
        if add32(&handle.abandoned, 1) == 1:
            store64(&handle.stuck_at_ns, job.started_ns + handle.budget_ns)
        if swap32(&job.state, state, ABANDONED):
            status = api.RunOptionsSetTerminate(job.run_options)
            if status != NULL:
                api.ReleaseStatus(status)
            job.terminated = 1
            count64(&handle.late, 1)
            return LATE
        add32(&handle.abandoned, -1)


cdef int job_run(Job* job, int64_t deadline_ns) noexcept nogil:
    cdef int outcome = job_start(job, deadline_ns)
    if outcome != SCORED:
        return outcome
    return job_wait(job, deadline_ns)


cdef double job_score(Job* job, int row) noexcept nogil:
    return job.scores[row]


# --- loading --------------------------------------------------------------------------------------------------


_HINTS = (
    ("is not a registered function/op", "Export the model for operators of ai.onnx or ai.onnx.ml."),
    ("No Op registered for", "Export the model for an opset that this runtime knows."),
    ("Fatal error: ai.onnx", "Operator libraries of other domains are not loaded here."),
    ("Protobuf parsing failed", "The file is truncated or is no ONNX model; copy it again."),
    ("ModelProto does not have a graph", "The file is truncated or is no ONNX model; copy it again."),
    ("Failed to construct locale", "The model's StringNormalizer names a locale this system lacks; install it "
                                   "(locale-gen) or export the model without it."),
    ("Unsupported model IR version", "Export the model with an older onnx release, or update onnxruntime."),
    ("is under development and support", "Export the model with an older target opset."),
)

# The runtime's own file, line and function, which say nothing to the owner of a model.
_SOURCES = re.compile(
    r"Exception during initialization: |/[\w/.-]+\.(?:cc|h):\d+ |"
    r"(?:\w+ )*onnxruntime::\S*?(?:<[^()]*>)?[\w:~]*\([^()]*\)(?: const)?(?:::<lambda\(\)>)? |\[with [^\]]*\] "
)


def explain(str words) -> tuple:
    """The runtime's words in one line without its own source paths, and what to do, '' when we know nothing."""
    hint = ""
    for known, advice in _HINTS:
        if known in words:
            hint = advice
            break
    line = _SOURCES.sub("", " ".join(words.split()))
    if len(line) > 400:
        line = f"{line[:400]}..."
    return line.rstrip("."), hint


cdef object _refuse(str name, void* status, str doing):
    words, hint = explain(status_text(status))
    return ModelError(name, f"{doing}: {words}", hint)


cdef void* _open(str name, bytes model) except NULL:
    cdef void* options = NULL
    cdef void* session = NULL
    cdef void* status = NULL
    cdef const char* data = <const char*> model
    cdef size_t size = len(model)
    status = api.CreateSessionOptions(&options)
    if status != NULL:
        raise _refuse(name, status, "the runtime has no session options")
    steps = (
        "execution mode", "one thread", "one thread", "log level", "optimisation level", "memory pattern", "arena",
        "spinning",
    )
    for step, doing in enumerate(steps):
        if step == 0:
            status = api.SetSessionExecutionMode(options, 0)
        elif step == 1:
            status = api.SetIntraOpNumThreads(options, 1)
        elif step == 2:
            status = api.SetInterOpNumThreads(options, 1)
        elif step == 3:
            status = api.SetSessionLogSeverityLevel(options, 4)
        elif step == 4:
            status = api.SetSessionGraphOptimizationLevel(options, 99)
        elif step == 5:
            # Rows differ from call to call; the planner would keep a plan and a block for every shape ever seen.
            status = api.DisableMemPattern(options)
        elif step == 6:
            # An arena never gives back what one large batch took; malloc does, and costs no more here (measured).
            status = api.DisableCpuMemArena(options)
        else:
            status = api.AddSessionConfigEntry(options, b"session.intra_op.allow_spinning", b"0")
        if status != NULL:
            api.ReleaseSessionOptions(options)
            raise _refuse(name, status, f"the runtime does not take the {doing}")
    with nogil:
        status = api.CreateSessionFromArray(env, data, size, options, &session)
        api.ReleaseSessionOptions(options)
    if status != NULL:
        raise _refuse(name, status, "it cannot be loaded")
    return session


cdef object _tensor_type(void* session, bint output, size_t index):
    """One input's or output's name, type and shape."""
    cdef void* info = NULL
    cdef const void* tensor = NULL
    cdef void* status
    cdef char* text = NULL
    cdef int kind = 0
    cdef int element = 0
    cdef size_t rank = 0
    cdef int64_t shape[RANK]
    if output:
        status = api.SessionGetOutputName(session, index, allocator, &text)
    else:
        status = api.SessionGetInputName(session, index, allocator, &text)
    if status != NULL:
        raise ModelError("?", f"a name cannot be read: {status_text(status)}")
    name = text.decode("utf-8", "replace")
    status = api.AllocatorFree(allocator, text)
    if status != NULL:
        api.ReleaseStatus(status)
    if output:
        status = api.SessionGetOutputTypeInfo(session, index, &info)
    else:
        status = api.SessionGetInputTypeInfo(session, index, &info)
    if status != NULL:
        raise ModelError("?", f"the type of '{name}' cannot be read: {status_text(status)}")
    try:
        status = api.GetOnnxTypeFromTypeInfo(info, &kind)
        if status != NULL:
            raise ModelError("?", f"the type of '{name}' cannot be read: {status_text(status)}")
        if kind != KIND_TENSOR:
            return TensorType(name, {2: "sequence", 3: "map"}.get(kind, "other"), ())
        status = api.CastTypeInfoToTensorInfo(info, &tensor)
        if status == NULL:
            status = api.GetTensorElementType(tensor, &element)
        if status == NULL:
            status = api.GetDimensionsCount(tensor, &rank)
        if status == NULL and rank <= RANK:
            status = api.GetDimensions(tensor, shape, rank)
        if status != NULL:
            raise ModelError("?", f"the type of '{name}' cannot be read: {status_text(status)}")
        sizes = tuple([shape[axis] for axis in range(rank)]) if rank <= RANK else tuple([1] * <int> rank)
        return TensorType(name, ELEMENTS.get(element, "other"), sizes)
    finally:
        api.ReleaseTypeInfo(info)


def _batch_of(str name, inputs: Sequence[TensorType]) -> int:
    """Rows a model takes at once: 0 for any number, or the first dimension all its inputs fix."""
    fixed = {}
    for tensor in inputs:
        if len(tensor.shape) > 0 and tensor.shape[0] >= 0:
            fixed.setdefault(tensor.shape[0], tensor.name)
    if not fixed:
        return 0
    if len(fixed) > 1:
        told = ", ".join([f"'{owner}' {rows}" for rows, owner in fixed.items()])
        raise ModelError(name, f"its inputs disagree on the number of rows: {told}",
                         "A scoring model has one row dimension, first in every input; export the model for inference.")
    (rows,) = fixed
    if rows < 1 or rows > _MODEL_ROWS:
        raise ModelError(name, f"its inputs have {rows} rows", f"Between 1 and {_MODEL_ROWS} can be served.")
    return rows


def _with_width(str name, tensor: TensorType, bound: Mapping[str, int]) -> TensorType:
    """The tensor with its columns counted; refused when it cannot be fed."""
    if tensor.element not in ELEMENTS.values():
        raise ModelError(name, f"its input '{tensor.name}' is a {tensor.element}, not a tensor of numbers or texts",
                         "Export the model with plain tensors as inputs.")
    shape = tensor.shape
    if len(shape) > RANK:
        raise ModelError(name, f"its input '{tensor.name}' has {len(shape)} dimensions", f"At most {RANK} are served.")
    width = 1
    free_axes = 0
    for axis in range(1, len(shape)):
        if shape[axis] < 0:
            free_axes += 1
        else:
            width *= shape[axis]
    columns = bound.get(tensor.name, 0)
    if free_axes == 1 and columns > 0 and width > 0 and columns % width == 0:
        width = columns
    elif free_axes > 0:
        raise ModelError(name, f"its input '{tensor.name}' is {tensor}: how many columns a row has is not said",
                         "Give the input's dimensions after the first in the file, or bind its columns in model.yaml.")
    if width < 1 or width > 1 << 20:
        raise ModelError(name, f"its input '{tensor.name}' is {tensor}: {width} columns a row",
                         "A row needs at least one column.")
    if columns and columns != width:
        raise ModelError(name, f"its input '{tensor.name}' is {tensor} and takes {width} columns; {columns} are bound",
                         "Bind exactly as many columns as the model was trained with, in the same order.")
    return TensorType(tensor.name, tensor.element, shape, width)


def _choose_output(str name, outputs: Sequence[TensorType], str wanted) -> TensorType:
    if wanted:
        for tensor in outputs:
            if tensor.name == wanted:
                return tensor
        listed = ", ".join([f"'{tensor.name}' {tensor}" for tensor in outputs])
        raise ModelError(name, f"it has no output '{wanted}'", f"Its outputs are {listed}.")
    scores = [tensor for tensor in outputs
              if tensor.element in ("float32", "float64", "float16", "bfloat16", "sequence", "map")]
    if len(scores) == 1:
        return scores[0]
    listed = ", ".join([f"'{tensor.name}' {tensor}" for tensor in outputs])
    raise ModelError(name, "which of its outputs is the score is not said",
                     f"Name one under output.name in model.yaml. Its outputs are {listed}.")


@cython.final
cdef class Runner:
    """One model version, loaded; see runner.pyi for what each argument means and when ModelError is raised."""

    def __cinit__(self):
        self.handle = <Handle*> calloc(1, sizeof(Handle))
        if self.handle == NULL:
            raise MemoryError
        self.handle.refs = 1
        self.handle.inline_base_ns = -1.0
        pthread_mutex_init(&self.handle.lock, NULL)

    def __init__(
        self, str name, bytes model, *, widths=None, str output="", selected=None, bint value=False, platt=None,
        isotonic=(), double budget_ms=20.0, int in_flight=8,
    ):
        cdef Handle* handle = self.handle
        cdef Input* input
        cdef void* status
        cdef size_t count = 0
        cdef size_t index
        cdef int axis
        if handle.session != NULL:
            raise BadValue("Runner", "it holds a model already", "Make a new Runner for each model version.")
        self.name = name
        runtime_load()
        handle.session = _open(name, model)
        status = api.SessionGetInputCount(handle.session, &count)
        if status != NULL:
            raise _refuse(name, status, "its inputs cannot be counted")
        if count < 1 or count > <size_t> MODEL_INPUTS:
            raise ModelError(name, f"it has {count} inputs", f"Between 1 and {MODEL_INPUTS} are served.")
        inputs = tuple([_with_width(name, _tensor_type(handle.session, False, index), widths or {})
                        for index in range(count)])
        handle.batch = _batch_of(name, inputs)
        handle.inputs = <Input*> calloc(count, sizeof(Input))
        handle.input_names = <const char**> calloc(count, sizeof(char*))
        if handle.inputs == NULL or handle.input_names == NULL:
            raise MemoryError
        handle.input_count = <int> count
        numbers = {text: number for number, text in ELEMENTS.items()}
        for index in range(count):
            tensor = inputs[index]
            input = &handle.inputs[index]
            encoded = tensor.name.encode()
            input.name = strdup(<const char*> encoded)
            handle.input_names[index] = input.name
            input.element = numbers[tensor.element]
            input.bytes = element_bytes(input.element)
            input.width = tensor.width
            input.rank = len(tensor.shape) if len(tensor.shape) > 0 else 1
            fixed = 1
            for axis in range(1, input.rank):
                input.shape[axis] = tensor.shape[axis]
                fixed *= max(tensor.shape[axis], 1)
            for axis in range(1, input.rank):
                if input.shape[axis] < 0:
                    input.shape[axis] = tensor.width // fixed
        status = api.SessionGetOutputCount(handle.session, &count)
        if status != NULL:
            raise _refuse(name, status, "its outputs cannot be counted")
        outputs = tuple([_tensor_type(handle.session, True, index) for index in range(count)])
        chosen = _choose_output(name, outputs, output)
        self.inputs = inputs
        self.outputs = outputs
        self.output = chosen.name
        encoded = chosen.name.encode()
        handle.output_name = strdup(<const char*> encoded)
        _choose_class(self, chosen, selected)
        whole = chosen.element in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
        if chosen.element == "string" or (whole and not value):
            raise ModelError(name, f"its output '{chosen.name}' is {chosen}: labels, not propensities",
                             "Name the output with the probabilities under output.name, or say output.kind: value.")
        handle.bounded = 0 if value else 1
        if platt is not None:
            handle.calibration = PLATT
            handle.platt_a, handle.platt_b = platt
        elif isotonic:
            _choose_curve(self, isotonic)
        handle.budget_ns = <int64_t> (budget_ms * 1e6)
        handle.in_flight_limit = in_flight

    def __dealloc__(self):
        handle_drop(self.handle)

    @property
    def batch(self):
        return self.handle.batch

    @property
    def fault(self):
        cdef char words[1024]
        pthread_mutex_lock(&self.handle.lock)
        memcpy(words, self.handle.fault, sizeof(words))
        pthread_mutex_unlock(&self.handle.lock)
        return words.decode("utf-8", "replace")

    @property
    def on_callers_thread(self):
        return self.handle.inline_base_ns >= 0.0

    def stats(self):
        cdef Handle* handle = self.handle
        return {
            "runs": load64(&handle.runs), "inline_runs": load64(&handle.inline_runs), "rows": load64(&handle.rows),
            "unscored": load64(&handle.unscored), "late": load64(&handle.late), "faulty": load64(&handle.faulty),
            "busy": load64(&handle.busy), "spent_ns": load64(&handle.spent_ns),
            "slowest_ns": load64(&handle.slowest_ns), "in_flight": load32(&handle.in_flight),
        }

    def run(self, rows, *, double timeout_ms=math.inf):
        cdef Job* job = _fill(self, rows)
        cdef int64_t deadline = INT64_MAX
        cdef int outcome
        cdef int row
        if timeout_ms < 1e12:
            deadline = monotonic_ns() + <int64_t> (timeout_ms * 1e6)
        with nogil:
            outcome = job_run(job, deadline)
        scores = [job.scores[row] for row in range(job.rows)] if outcome == SCORED else []
        job_release(job)
        return ("SCORED", "LATE", "FAULTY", "BUSY")[outcome], scores

    def measure(self, rows, *, int repeats=32, bint handed=False):
        cdef Job* job = _fill(self, rows)
        cdef int64_t began
        cdef int failed = 0
        times = []
        for _ in range(repeats):
            began = monotonic_ns()
            with nogil:
                failed = _execute(job) if not handed else job_start(job, INT64_MAX) or job_wait(job, INT64_MAX)
            if failed:
                break
            times.append(monotonic_ns() - began)
        scores = [job.scores[row] for row in range(job.rows)]
        job_release(job)
        if failed:
            words, hint = explain(self.fault)
            raise ModelError(self.name, f"a run failed: {words}", hint)
        times.sort()
        return times[len(times) // 2], scores

    def run_on_callers_thread(self, double base_ns, double row_ns):
        if not (base_ns >= 0.0 and row_ns >= 0.0):
            raise BadValue("base_ns, row_ns", "they must be 0 or more")
        self.handle.inline_row_ns = row_ns
        self.handle.inline_base_ns = base_ns


cdef Job* _fill(Runner runner, rows) except NULL:
    """A job with the cells of ``rows``: for each input, by name, a list of rows of cells."""
    cdef Job* job
    cdef int number
    cdef int row
    cdef int column
    cdef int count = -1
    for tensor in runner.inputs:
        if tensor.name not in rows:
            raise ModelError(runner.name, f"the row has no value for its input '{tensor.name}'",
                             "Give every input of the model.")
        if count < 0:
            count = len(rows[tensor.name])
        if len(rows[tensor.name]) != count:
            raise ModelError(runner.name, f"its input '{tensor.name}' has {len(rows[tensor.name])} rows, others {count}")
    for name in rows:
        if not any([tensor.name == name for tensor in runner.inputs]):
            raise ModelError(runner.name, f"it has no input '{name}'",
                             f"Its inputs are {', '.join([tensor.name for tensor in runner.inputs])}.")
    job = job_new(runner.handle, count)
    if job == NULL:
        raise ModelError(runner.name, f"{count} rows cannot be taken", f"Between 1 and {_MODEL_ROWS} rows a call.")
    try:
        for number, tensor in enumerate(runner.inputs):
            for row, cells in enumerate(rows[tensor.name]):
                if len(cells) != tensor.width:
                    raise ModelError(
                        runner.name, f"its input '{tensor.name}' takes {tensor.width} columns; row {row} has {len(cells)}")
                for column, cell in enumerate(cells):
                    if isinstance(cell, str):
                        encoded = cell.encode()
                        job_text(job, number, row, column, <const char*> encoded, len(encoded))
                    elif cell is None:
                        job_void(job, row)
                    else:
                        job_number(job, number, row, column, cell)
    except BaseException:
        job_release(job)
        raise
    return job


cdef object _choose_class(Runner runner, chosen, selected):
    cdef Handle* handle = runner.handle
    width = 1
    for size in chosen.shape[1:]:
        width = -1 if size < 0 or width < 0 else width * size
    if chosen.element in ("sequence", "map"):
        if isinstance(selected, str):
            encoded = selected.encode()
            if len(encoded) > 255 or b"\0" in encoded:
                raise ModelError(runner.name, "output.class is longer than 255 bytes or holds NUL")
            handle.select = BY_TEXT
            handle.key_text = strdup(<const char*> encoded)
        else:
            handle.select = BY_NUMBER
            handle.key = 1 if selected is None else selected
        return
    handle.select = BY_COLUMN
    if isinstance(selected, str):
        raise ModelError(runner.name, f"output.class is '{selected}', and its output '{chosen.name}' is {chosen}",
                         "Give the column's number, from 0.")
    if selected is None:
        # Two columns are the probabilities of no and yes; one is the score itrunner.
        handle.key = 1 if width == 2 else 0
        if width > 2:
            raise ModelError(runner.name, f"its output '{chosen.name}' is {chosen}: which column is the score is not said",
                             "Give its number, from 0, under output.class in model.yaml.")
    else:
        handle.key = selected


cdef object _choose_curve(Runner runner, points):
    cdef Handle* handle = runner.handle
    cdef int index
    cdef int count = len(points)
    handle.point_x = <double*> malloc(<size_t> count * sizeof(double))
    handle.point_y = <double*> malloc(<size_t> count * sizeof(double))
    if handle.point_x == NULL or handle.point_y == NULL:
        raise MemoryError
    for index in range(count):
        handle.point_x[index], handle.point_y[index] = points[index]
    handle.points = count
    handle.calibration = ISOTONIC
