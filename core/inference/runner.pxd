"""One loaded, warmed model version as the decision thread sees it: jobs, nogil and noexcept throughout.

A decision takes a job for as many rows as it has offers (one, for a model of customer scope), fills its cells,
starts it, waits for it until its deadline, reads the scores and releases the job. It releases the job exactly
once, whatever came of it; after LATE the worker may still be at it, and the last of the two to let go returns the
job to the model's free list. A job is filled and read by one thread; different jobs of one model are independent.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from core.inference.pool cimport Task

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass

cdef enum Outcome:
    SCORED = 0  # scores can be read; single rows may still be unscored (NaN)
    LATE = 1  # the deadline, or the model's own time budget, passed first
    FAULTY = 2  # the runtime refused or failed
    BUSY = 3  # not started: earlier runs of this model hang, or too many are under way, or no thread is left

cdef struct Input:
    char* name  # owned
    int element  # an ElementType
    uint32_t bytes  # of one cell; 0 for text
    int width  # cells of one row
    int rank  # dimensions, 1 at least
    int64_t shape[8]  # as the runtime is told; [0] is set for every run

cdef struct Handle:
    int64_t refs  # atomic: one of the Runner's, one for each job out of the free list, one for each plan that holds it
    void* session  # owned; the runtime's, run by any number of threads at once
    int input_count  # of inputs
    Input* inputs  # owned
    const char** input_names  # owned array of the inputs' names
    char* output_name  # owned
    int select  # how a score is found in the output: by column, whole number key, or text key
    int64_t key  # the column or the whole number key
    char* key_text  # owned; the text key
    int batch  # rows of a run where the model fixes them, 0 where it does not
    int bounded  # 0: a real-valued output; 1: a propensity, unscored outside [0, 1]
    int calibration  # 0 none, 1 Platt, 2 isotonic
    double platt_a  # 1 / (1 + exp(platt_a s + platt_b))
    double platt_b  # likewise
    int points  # of the isotonic curve
    double* point_x  # owned, ascending
    double* point_y  # owned, same length
    int64_t budget_ns  # longest wait for one run
    double inline_base_ns  # measured time of a run of one row when it is safe to run on the caller's thread; < 0: it is not
    double inline_row_ns  # and of every further row
    int in_flight_limit  # of in_flight; beyond it the model is BUSY
    int32_t in_flight  # atomic: jobs started and not yet ended, late ones included
    int32_t abandoned  # atomic: of these, late ones
    int64_t stuck_at_ns  # atomic: while abandoned > 0, when the first of them is over the budget
    pthread_mutex_t lock  # guards free_jobs, free_count, fault
    Job* free_jobs
    int free_count  # of free_jobs
    char fault[1024]  # the runtime's last words, for status and logs
    # Atomic counters since loading. A run is a job that was started; times are inside the runtime, in nanoseconds.
    int64_t runs
    int64_t inline_runs
    int64_t rows
    int64_t unscored
    int64_t late
    int64_t faulty
    int64_t busy
    int64_t spent_ns
    int64_t slowest_ns

cdef struct Cells:  # one input of one job
    char* data  # owned: rows x width cells; for text uint32 offsets into the job's text
    size_t capacity  # bytes at data
    void* value  # owned: the runtime's tensor over data, kept while data and rows stay the same
    int value_rows  # rows of value

cdef struct Job:
    Task task  # first, so that a Task* is a Job*
    int32_t refs  # atomic: the caller's and, once started, the worker's
    int32_t state  # atomic: see runner.pyx; also the word the caller sleeps on
    Handle* handle
    int rows  # to be scored
    int reserved  # rows the arrays have room for, padding to whole batches included
    Cells* cells  # owned, one for each input
    char* text  # owned: the texts of all cells, each ended by NUL; offset 0 is the empty text
    size_t text_used  # bytes of text in use
    size_t text_capacity
    const char** pointers  # owned scratch: one input's texts
    size_t pointer_capacity
    double* scores  # owned, one for each row; NaN when unscored
    uint8_t* void_rows  # owned: 1 where a row cannot be scored whatever the model says
    void* run_options  # owned
    int terminated  # whether run_options still says stop
    int64_t started_ns  # when job_start was called
    Job* next_free

cdef Handle* handle_hold(Handle* handle) noexcept nogil  # one more holder; gives it back
cdef void handle_drop(Handle* handle) noexcept nogil  # one holder less; the last one frees session and memory

cdef int64_t now_ns() noexcept nogil  # CLOCK_MONOTONIC, the clock of every deadline here

# A zeroed job for 1..MODEL_ROWS rows, or NULL when memory is out or rows are out of range.
cdef Job* job_new(Handle* handle, int rows) noexcept nogil
# Sets a cell. A number is converted to the input's element type; one that does not fit (NaN or out of range into a
# whole number, a number into a text input, a text into a number input) leaves the row unscored. Text is copied.
cdef void job_number(Job* job, int input, int row, int column, double number) noexcept nogil
cdef void job_text(Job* job, int input, int row, int column, const char* text, uint32_t length) noexcept nogil
# The same for every row: attributes and facts are equal for all offers of a decision.
cdef void job_number_all(Job* job, int input, int column, double number) noexcept nogil
cdef void job_text_all(Job* job, int input, int column, const char* text, uint32_t length) noexcept nogil
# A row (or, for -1, every row) that is not to be scored, because an input is missing and has no value for that.
cdef void job_void(Job* job, int row) noexcept nogil
# Begins. Gives SCORED (begun, or already done), or LATE, BUSY or FAULTY. Several models' jobs may be begun before the first wait.
cdef int job_start(Job* job, int64_t deadline_ns) noexcept nogil
# Waits for a job that job_start began: SCORED, LATE or FAULTY.
cdef int job_wait(Job* job, int64_t deadline_ns) noexcept nogil
# job_start and job_wait in one.
cdef int job_run(Job* job, int64_t deadline_ns) noexcept nogil
# After SCORED: the calibrated propensity (or value) of a row, NaN when unscored.
cdef double job_score(Job* job, int row) noexcept nogil
cdef void job_release(Job* job) noexcept nogil

cdef class Runner:
    cdef Handle* handle  # one reference, dropped when the Runner goes; hold one more to keep it longer
    cdef readonly str name  # "<model>/<version>", for messages
    cdef readonly tuple inputs  # of TensorType, in the model's order: the order of `input` above
    cdef readonly tuple outputs  # of TensorType
    cdef readonly str output  # the output that is read
