"""Loads ONNX Runtime's shared library out of the onnxruntime wheel and binds the slots of its function table.

The Python package is found, never imported: it would bring a second copy of the runtime into the process. Its shared
library exports one name, ``OrtGetApiBase``, which hands out the table for an API version. Version 5 (2020) holds
everything used here, and every later release still serves it.

The library is loaded when the first model is, not when this module is imported: every plan's code links against this
module, and a process without models should not wait for a runtime that it never calls.

A wrong slot would call a wrong function, so nothing is taken on trust: loading makes a status, a number tensor and a
text tensor and reads them back, loads a one-node model written out below, asks for its inputs and outputs by name and
type, and runs it. A library that does not answer as expected is refused with `ConfigError`.
"""

import importlib.util
import threading
from pathlib import Path

from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset, strcmp

from core.errors import ConfigError

cdef extern from "<dlfcn.h>" nogil:
    void* dlopen(const char* path, int mode)
    void* dlsym(void* library, const char* name)
    const char* dlerror()
    int RTLD_NOW
    int RTLD_LOCAL

cdef struct ApiBase:
    const void* (*GetApi)(uint32_t version) noexcept nogil
    const char* (*GetVersionString)() noexcept nogil

ctypedef const ApiBase* (*GetApiBase)() noexcept nogil

cdef enum:
    API_VERSION = 5


def _message(number: int, body: bytes) -> bytes:
    """A length-delimited protobuf field; bodies here are shorter than 128 bytes."""
    return bytes((number << 3 | 2, len(body))) + body


def _probe() -> bytes:
    """A model of one Identity node from X, float[?, 1], to Y, as protobuf."""
    dimensions = _message(1, b"") + _message(1, b"\x08\x01")  # free, 1
    kind = _message(1, b"\x08\x01" + _message(2, dimensions))  # a tensor of floats
    value = [_message(1, name.encode()) + _message(2, kind) for name in ("X", "Y")]
    node = _message(1, b"X") + _message(2, b"Y") + _message(4, b"Identity")
    graph = _message(1, node) + _message(2, b"probe") + _message(11, value[0]) + _message(12, value[1])
    return b"\x08\x07" + _message(7, graph) + _message(8, b"\x10\x0d")


cdef uint32_t element_bytes(int element) noexcept nogil:
    if element == ELEMENT_FLOAT or element == ELEMENT_INT32 or element == ELEMENT_UINT32:
        return 4
    if element == ELEMENT_DOUBLE or element == ELEMENT_INT64 or element == ELEMENT_UINT64:
        return 8
    if element == ELEMENT_INT16 or element == ELEMENT_UINT16 or element == ELEMENT_FLOAT16 or element == ELEMENT_BFLOAT16:
        return 2
    if element == ELEMENT_INT8 or element == ELEMENT_UINT8 or element == ELEMENT_BOOL:
        return 1
    return 0


cdef object status_text(void* status):
    text = api.GetErrorMessage(status).decode("utf-8", "replace")
    api.ReleaseStatus(status)
    return text


cdef int _bind(void** slots) noexcept:
    # Numbers are positions in the function table; gaps are functions not used here.
    (<void**> &api.CreateStatus)[0] = slots[0]
    (<void**> &api.GetErrorCode)[0] = slots[1]
    (<void**> &api.GetErrorMessage)[0] = slots[2]
    (<void**> &api.CreateEnv)[0] = slots[3]
    (<void**> &api.CreateSessionFromArray)[0] = slots[8]
    (<void**> &api.Run)[0] = slots[9]
    (<void**> &api.CreateSessionOptions)[0] = slots[10]
    (<void**> &api.SetSessionExecutionMode)[0] = slots[13]
    (<void**> &api.DisableMemPattern)[0] = slots[17]
    (<void**> &api.DisableCpuMemArena)[0] = slots[19]
    (<void**> &api.SetSessionLogSeverityLevel)[0] = slots[22]
    (<void**> &api.SetSessionGraphOptimizationLevel)[0] = slots[23]
    (<void**> &api.SetIntraOpNumThreads)[0] = slots[24]
    (<void**> &api.SetInterOpNumThreads)[0] = slots[25]
    (<void**> &api.SessionGetInputCount)[0] = slots[30]
    (<void**> &api.SessionGetOutputCount)[0] = slots[31]
    (<void**> &api.SessionGetInputTypeInfo)[0] = slots[33]
    (<void**> &api.SessionGetOutputTypeInfo)[0] = slots[34]
    (<void**> &api.SessionGetInputName)[0] = slots[36]
    (<void**> &api.SessionGetOutputName)[0] = slots[37]
    (<void**> &api.CreateRunOptions)[0] = slots[39]
    (<void**> &api.RunOptionsSetTerminate)[0] = slots[46]
    (<void**> &api.RunOptionsUnsetTerminate)[0] = slots[47]
    (<void**> &api.CreateTensorAsOrtValue)[0] = slots[48]
    (<void**> &api.CreateTensorWithDataAsOrtValue)[0] = slots[49]
    (<void**> &api.GetTensorMutableData)[0] = slots[51]
    (<void**> &api.FillStringTensor)[0] = slots[52]
    (<void**> &api.CastTypeInfoToTensorInfo)[0] = slots[55]
    (<void**> &api.GetOnnxTypeFromTypeInfo)[0] = slots[56]
    (<void**> &api.GetTensorElementType)[0] = slots[60]
    (<void**> &api.GetDimensionsCount)[0] = slots[61]
    (<void**> &api.GetDimensions)[0] = slots[62]
    (<void**> &api.GetTensorShapeElementCount)[0] = slots[64]
    (<void**> &api.GetTensorTypeAndShape)[0] = slots[65]
    (<void**> &api.GetValueType)[0] = slots[67]
    (<void**> &api.CreateCpuMemoryInfo)[0] = slots[69]
    (<void**> &api.AllocatorFree)[0] = slots[76]
    (<void**> &api.GetAllocatorWithDefaultOptions)[0] = slots[78]
    (<void**> &api.GetValue)[0] = slots[80]
    (<void**> &api.GetValueCount)[0] = slots[81]
    (<void**> &api.ReleaseStatus)[0] = slots[93]
    (<void**> &api.ReleaseSession)[0] = slots[95]
    (<void**> &api.ReleaseValue)[0] = slots[96]
    (<void**> &api.ReleaseRunOptions)[0] = slots[97]
    (<void**> &api.ReleaseTypeInfo)[0] = slots[98]
    (<void**> &api.ReleaseTensorTypeAndShapeInfo)[0] = slots[99]
    (<void**> &api.ReleaseSessionOptions)[0] = slots[100]
    (<void**> &api.GetStringTensorElementLength)[0] = slots[127]
    (<void**> &api.GetStringTensorElement)[0] = slots[128]
    (<void**> &api.AddSessionConfigEntry)[0] = slots[130]
    return 0


cdef object _must(void* status, str what):
    if status != NULL:
        raise ConfigError("onnxruntime", f"its function table answered {what} with: {status_text(status)}",
                          hint="Install a release of onnxruntime that pyproject.toml allows.")


cdef object _expect(bint condition, str what):
    if not condition:
        raise ConfigError("onnxruntime", f"its function table is not the expected one: {what}",
                          hint="Install a release of onnxruntime that pyproject.toml allows.")


cdef object _check_values():
    cdef void* status = api.CreateStatus(3, b"rapport")
    _expect(status != NULL and api.GetErrorCode(status) == 3, "a status lost its code")
    _expect(status_text(status) == "rapport", "a status lost its text")
    cdef float numbers[2]
    cdef int64_t shape[2]
    cdef int64_t seen[2]
    cdef void* value = NULL
    cdef void* data = NULL
    cdef void* info = NULL
    cdef size_t size = 0
    cdef int element = 0
    cdef int kind = 0
    shape[0] = 2
    shape[1] = 1
    _must(api.CreateTensorWithDataAsOrtValue(memory, numbers, 8, shape, 2, ELEMENT_FLOAT, &value), "a tensor")
    _must(api.GetTensorMutableData(value, &data), "its data")
    _expect(data == <void*> numbers, "a tensor over a buffer lies elsewhere")
    _must(api.GetTensorTypeAndShape(value, &info), "its shape")
    _must(api.GetTensorElementType(info, &element), "its element type")
    _must(api.GetDimensionsCount(info, &size), "its rank")
    _expect(element == ELEMENT_FLOAT and size == 2, "a tensor's type or rank is wrong")
    _must(api.GetDimensions(info, seen, 2), "its dimensions")
    _must(api.GetTensorShapeElementCount(info, &size), "its element count")
    _expect(seen[0] == 2 and seen[1] == 1 and size == 2, "a tensor's dimensions are wrong")
    api.ReleaseTensorTypeAndShapeInfo(info)
    _must(api.GetValueType(value, &kind), "a value's kind")
    _expect(kind == KIND_TENSOR, "a tensor is not called one")
    api.ReleaseValue(value)
    cdef const char* texts[2]
    cdef char text[8]
    texts[0] = b"one"
    texts[1] = b"second"
    _must(api.CreateTensorAsOrtValue(allocator, shape, 2, ELEMENT_STRING, &value), "a text tensor")
    _must(api.FillStringTensor(value, texts, 2), "filling it")
    _must(api.GetStringTensorElementLength(value, 1, &size), "a text's length")
    _expect(size == 6, "a text's length is wrong")
    memset(text, 0, 8)
    _must(api.GetStringTensorElement(value, 6, 1, text), "a text")
    _expect(strcmp(text, b"second") == 0, "a text came back altered")
    api.ReleaseValue(value)


cdef object _check_session():
    cdef void* options = NULL
    cdef void* session = NULL
    cdef void* info = NULL
    cdef const void* tensor = NULL
    cdef void* run_options = NULL
    cdef char* name = NULL
    cdef size_t count = 0
    cdef int kind = 0
    model = _probe()
    _must(api.CreateSessionOptions(&options), "session options")
    _must(api.SetSessionExecutionMode(options, 0), "the execution mode")
    _must(api.SetSessionLogSeverityLevel(options, 4), "the log level")
    _must(api.SetSessionGraphOptimizationLevel(options, 99), "the optimisation level")
    _must(api.SetIntraOpNumThreads(options, 1), "one thread")
    _must(api.SetInterOpNumThreads(options, 1), "one thread")
    _must(api.DisableMemPattern(options), "the memory pattern")
    _must(api.DisableCpuMemArena(options), "the arena")
    _must(api.AddSessionConfigEntry(options, b"session.intra_op.allow_spinning", b"0"), "spinning")
    _must(api.CreateSessionFromArray(env, <const char*> model, len(model), options, &session), "a one-node model")
    api.ReleaseSessionOptions(options)
    _must(api.SessionGetInputCount(session, &count), "the input count")
    _expect(count == 1, "the one-node model's inputs are miscounted")
    _must(api.SessionGetOutputCount(session, &count), "the output count")
    _expect(count == 1, "the one-node model's outputs are miscounted")
    _must(api.SessionGetInputName(session, 0, allocator, &name), "an input's name")
    _expect(strcmp(name, b"X") == 0, "the input is not called X")
    _must(api.AllocatorFree(allocator, name), "freeing a name")
    _must(api.SessionGetOutputName(session, 0, allocator, &name), "an output's name")
    _expect(strcmp(name, b"Y") == 0, "the output is not called Y")
    _must(api.AllocatorFree(allocator, name), "freeing a name")
    _must(api.SessionGetOutputTypeInfo(session, 0, &info), "an output's type")
    api.ReleaseTypeInfo(info)
    _must(api.SessionGetInputTypeInfo(session, 0, &info), "an input's type")
    _must(api.GetOnnxTypeFromTypeInfo(info, &kind), "a type's kind")
    _must(api.CastTypeInfoToTensorInfo(info, &tensor), "a tensor's type")
    _expect(kind == KIND_TENSOR and tensor != NULL, "the input is not a tensor")
    api.ReleaseTypeInfo(info)
    cdef float number = 2.5
    cdef int64_t shape[2]
    cdef void* value = NULL
    cdef void* result = NULL
    cdef void* data = NULL
    cdef const char* input_names[1]
    cdef const char* output_names[1]
    shape[0] = shape[1] = 1
    input_names[0] = b"X"
    output_names[0] = b"Y"
    _must(api.CreateTensorWithDataAsOrtValue(memory, &number, 4, shape, 2, ELEMENT_FLOAT, &value), "a tensor")
    _must(api.CreateRunOptions(&run_options), "run options")
    _must(api.RunOptionsSetTerminate(run_options), "terminating")
    cdef void* status = api.Run(session, run_options, input_names, &value, 1, output_names, 1, &result)
    _expect(status != NULL, "a run told to terminate ended well")
    status_text(status)
    _must(api.RunOptionsUnsetTerminate(run_options), "not terminating")
    _must(api.Run(session, run_options, input_names, &value, 1, output_names, 1, &result), "a run")
    _must(api.GetTensorMutableData(result, &data), "its result")
    _expect((<float*> data)[0] == 2.5, "the one-node model answered with another number")
    api.ReleaseValue(result)
    api.ReleaseValue(value)
    api.ReleaseRunOptions(run_options)
    api.ReleaseSession(session)


def _library() -> Path:
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("onnxruntime", "the package is not installed", hint="pip install onnxruntime")
    for location in spec.submodule_search_locations:
        found = sorted(Path(location, "capi").glob("libonnxruntime.so.*"))
        if found:
            return found[len(found) - 1]
    raise ConfigError("onnxruntime", "its wheel holds no capi/libonnxruntime.so.*",
                      hint="Install the wheel from the Python package index; other builds link the runtime statically.")


cdef object _load():
    global env, memory, allocator
    cdef void* library
    cdef GetApiBase get_base
    cdef const ApiBase* base
    cdef const void* table
    path = bytes(_library())
    library = dlopen(<const char*> path, RTLD_NOW | RTLD_LOCAL)
    if library == NULL:
        raise ConfigError("onnxruntime", f"its library cannot be loaded: {dlerror().decode('utf-8', 'replace')}",
                          hint="Reinstall onnxruntime for this platform.")
    get_base = <GetApiBase> dlsym(library, b"OrtGetApiBase")
    _expect(get_base != NULL, "OrtGetApiBase is not exported")
    base = get_base()
    _expect(base != NULL, "OrtGetApiBase gave nothing")
    version = base.GetVersionString().decode("ascii", "replace")
    _expect(version.split(".")[0] == "1", f"release {version} is not of the 1.x line")
    table = base.GetApi(API_VERSION)
    _expect(table != NULL, f"release {version} does not serve API version {API_VERSION}")
    _bind(<void**> table)
    _must(api.CreateEnv(4, b"rapport", &env), "an environment")
    _must(api.CreateCpuMemoryInfo(0, 0, &memory), "a memory description")
    _must(api.GetAllocatorWithDefaultOptions(&allocator), "an allocator")
    _check_values()
    _check_session()
    return version


_loading = threading.Lock()
_version = ""


cdef int runtime_load() except -1:
    global _version
    if not _version:
        with _loading:
            if not _version:
                _version = _load()
    return 0


def version() -> str:
    """The runtime's own version; loads the runtime. Raises ConfigError."""
    runtime_load()
    return _version
