"""The part of ONNX Runtime's C API that Rapport calls, with declarations of our own.

The runtime hands out one table of function pointers that only ever grows at its end, so a number, once given,
stays: `ort.pyx` copies the slots used here into `Api`, in the table's order. Everything the runtime makes is
opaque (`void`) and belongs to whoever asked for it, who gives it back with the matching ``Release``. Every call
that can fail returns a status, NULL when it went well; the caller releases it. All of them may be called without
the GIL and from any thread.
"""

from libc.stdint cimport int64_t, uint32_t

cdef enum ElementType:  # of a tensor's elements; ONNX's own numbers
    ELEMENT_UNDEFINED = 0
    ELEMENT_FLOAT = 1
    ELEMENT_UINT8 = 2
    ELEMENT_INT8 = 3
    ELEMENT_UINT16 = 4
    ELEMENT_INT16 = 5
    ELEMENT_INT32 = 6
    ELEMENT_INT64 = 7
    ELEMENT_STRING = 8
    ELEMENT_BOOL = 9
    ELEMENT_FLOAT16 = 10
    ELEMENT_DOUBLE = 11
    ELEMENT_UINT32 = 12
    ELEMENT_UINT64 = 13
    ELEMENT_BFLOAT16 = 16

cdef enum ValueKind:  # what an input or output is
    KIND_UNKNOWN = 0
    KIND_TENSOR = 1
    KIND_SEQUENCE = 2
    KIND_MAP = 3

cdef struct Api:
    # errors
    void* (*CreateStatus)(int code, const char* message) noexcept nogil
    int (*GetErrorCode)(const void* status) noexcept nogil
    const char* (*GetErrorMessage)(const void* status) noexcept nogil  # valid until the status is released
    void (*ReleaseStatus)(void* status) noexcept nogil
    # environment: one a process, never released, because worker threads may outlive the interpreter's teardown
    void* (*CreateEnv)(int log_level, const char* log_id, void** env) noexcept nogil
    # sessions: loading is not for the decision path, running is, from any number of threads at once
    void* (*CreateSessionOptions)(void** options) noexcept nogil
    void (*ReleaseSessionOptions)(void* options) noexcept nogil
    void* (*SetSessionExecutionMode)(void* options, int mode) noexcept nogil
    void* (*DisableMemPattern)(void* options) noexcept nogil
    void* (*DisableCpuMemArena)(void* options) noexcept nogil
    void* (*SetSessionLogSeverityLevel)(void* options, int level) noexcept nogil
    void* (*SetSessionGraphOptimizationLevel)(void* options, int level) noexcept nogil
    void* (*SetIntraOpNumThreads)(void* options, int threads) noexcept nogil
    void* (*SetInterOpNumThreads)(void* options, int threads) noexcept nogil
    void* (*AddSessionConfigEntry)(void* options, const char* key, const char* value) noexcept nogil
    void* (*CreateSessionFromArray)(
        const void* env, const void* model, size_t size, const void* options, void** session) noexcept nogil
    void (*ReleaseSession)(void* session) noexcept nogil
    void* (*SessionGetInputCount)(const void* session, size_t* count) noexcept nogil
    void* (*SessionGetOutputCount)(const void* session, size_t* count) noexcept nogil
    void* (*SessionGetInputTypeInfo)(const void* session, size_t index, void** info) noexcept nogil
    void* (*SessionGetOutputTypeInfo)(const void* session, size_t index, void** info) noexcept nogil
    void* (*SessionGetInputName)(const void* session, size_t index, void* allocator, char** name) noexcept nogil
    void* (*SessionGetOutputName)(const void* session, size_t index, void* allocator, char** name) noexcept nogil
    void* (*Run)(
        void* session, const void* options, const char* const* input_names, void** inputs,
        size_t input_count, const char* const* output_names, size_t output_count, void** outputs) noexcept nogil
    # one run's options: only its terminate flag, which makes a run stop before its next node
    void* (*CreateRunOptions)(void** options) noexcept nogil
    void* (*RunOptionsSetTerminate)(void* options) noexcept nogil
    void* (*RunOptionsUnsetTerminate)(void* options) noexcept nogil
    void (*ReleaseRunOptions)(void* options) noexcept nogil
    # values
    void* (*CreateTensorAsOrtValue)(
        void* allocator, const int64_t* shape, size_t rank, int element, void** value) noexcept nogil
    void* (*CreateTensorWithDataAsOrtValue)(  # borrows `data`, which must outlive the value
        const void* memory, void* data, size_t bytes, const int64_t* shape, size_t rank, int element,
        void** value) noexcept nogil
    void* (*GetTensorMutableData)(void* value, void** data) noexcept nogil  # valid until the value is released
    void* (*FillStringTensor)(void* value, const char* const* texts, size_t count) noexcept nogil  # copies
    void* (*GetStringTensorElementLength)(const void* value, size_t index, size_t* length) noexcept nogil
    void* (*GetStringTensorElement)(const void* value, size_t size, size_t index, void* text) noexcept nogil
    void* (*GetTensorTypeAndShape)(const void* value, void** info) noexcept nogil
    void* (*GetValueType)(const void* value, int* kind) noexcept nogil
    void* (*GetValue)(const void* value, int index, void* allocator, void** part) noexcept nogil
    void* (*GetValueCount)(const void* value, size_t* count) noexcept nogil
    void (*ReleaseValue)(void* value) noexcept nogil
    # types
    void* (*CastTypeInfoToTensorInfo)(const void* info, const void** tensor) noexcept nogil  # borrowed from `info`
    void* (*GetOnnxTypeFromTypeInfo)(const void* info, int* kind) noexcept nogil
    void* (*GetTensorElementType)(const void* tensor, int* element) noexcept nogil
    void* (*GetDimensionsCount)(const void* tensor, size_t* rank) noexcept nogil
    void* (*GetDimensions)(const void* tensor, int64_t* shape, size_t rank) noexcept nogil  # -1 for a free dimension
    void* (*GetTensorShapeElementCount)(const void* tensor, size_t* count) noexcept nogil
    void (*ReleaseTypeInfo)(void* info) noexcept nogil
    void (*ReleaseTensorTypeAndShapeInfo)(void* tensor) noexcept nogil
    # memory
    void* (*CreateCpuMemoryInfo)(int allocator_kind, int memory_kind, void** memory) noexcept nogil
    void* (*GetAllocatorWithDefaultOptions)(void** allocator) noexcept nogil  # the runtime's own, never released
    void* (*AllocatorFree)(void* allocator, void* pointer) noexcept nogil

cdef int runtime_load() except -1  # to be called before anything below is used; loads at the first call. Raises ConfigError

cdef Api api  # filled once, by runtime_load; constant afterwards
cdef void* env  # the process's one environment
cdef void* memory  # describes ordinary memory, for tensors over buffers of ours
cdef void* allocator  # the runtime's default allocator

cdef uint32_t element_bytes(int element) noexcept nogil  # 0 for strings and what is not supported
cdef object status_text(void* status)  # the runtime's words; releases the status. Needs the GIL
