/* Gives the targets of targets.pyx to libFuzzer, which owns main: an interpreter is started, tests/fuzz/prepare.py makes what a
   target needs, and from then on inputs go to its C function.

   Everything runs in the main thread, which holds the GIL from start to end: Python's other threads sleep for ever.
   RAPPORT_FUZZ_TARGET names the target, RAPPORT_FUZZ_PYTHON the interpreter whose packages are used, RAPPORT_FUZZ_FOLDER where
   stores are kept. What a target finds is told and ends the process by abort(), so that libFuzzer keeps the input. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef int (*Target)(const uint8_t *, size_t);

extern size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

static Target target;
static PyObject *mutate; /* (bytes, most, seed) -> bytes; owned for ever */
static PyObject *words;  /* (found) -> None, tells what it is; owned for ever */

static void fail(void) {
    PyErr_Print();
    abort();
}

static const char *setting(const char *name) {
    const char *value = getenv(name);
    if (value == NULL) {
        fprintf(stderr, "%s is not set: `make fuzz-bytes` does that.\n", name);
        exit(64);
    }
    return value;
}

int LLVMFuzzerInitialize(int *count, char ***arguments) {
    PyConfig config;
    PyObject *module, *made, *where;
    (void)count;
    (void)arguments;
    PyConfig_InitPythonConfig(&config);
    config.parse_argv = 0;
    config.install_signal_handlers = 0;
    if (PyStatus_Exception(PyConfig_SetBytesString(&config, &config.executable, setting("RAPPORT_FUZZ_PYTHON"))) ||
        PyStatus_Exception(Py_InitializeFromConfig(&config)))
        abort();
    PyConfig_Clear(&config);
    if (PyRun_SimpleString("import sys; sys.path.insert(0, '')") != 0)
        abort();
    module = PyImport_ImportModule("tests.fuzz.prepare");
    if (module == NULL)
        fail();
    made = PyObject_CallMethod(module, "prepare", "ss", setting("RAPPORT_FUZZ_TARGET"), setting("RAPPORT_FUZZ_FOLDER"));
    if (made == NULL)
        fail();
    if (!PyArg_ParseTuple(made, "OOO", &where, &mutate, &words))
        fail();
    target = (Target)PyLong_AsVoidPtr(where);
    if (target == NULL)
        fail();
    /* `made` and the module are kept: they hold what the target uses. */
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int found = target(data, size);
    if (found) {
        if (PyObject_CallFunction(words, "i", found) == NULL)
            PyErr_Print();
        abort();
    }
    return 0;
}

/* One change in two is libFuzzer's own, to the bytes; the others know what the bytes mean. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned int seed) {
    PyObject *changed;
    char *bytes;
    Py_ssize_t length;
    if (seed & 1)
        return LLVMFuzzerMutate(data, size, most);
    changed = PyObject_CallFunction(mutate, "y#nI", (const char *)data, (Py_ssize_t)size, (Py_ssize_t)most, seed);
    if (changed == NULL || PyBytes_AsStringAndSize(changed, &bytes, &length) != 0)
        fail();
    if ((size_t)length > most)
        length = (Py_ssize_t)most;
    memcpy(data, bytes, (size_t)length);
    Py_DECREF(changed);
    return (size_t)length;
}
