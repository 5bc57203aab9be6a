"""A value as the kernel holds it, and the frame of values one decision reads from.

A frame is an array of `Value`, one for each input the plan uses (attributes, facts, aggregates, the clock,
consents...); the plan fixes their order. Missing is a state, never a number, so that three-valued logic needs no
reserved values outside records. Text is borrowed: `text` points into the record, the request, the plan
or the decision's arena, and is valid until the decision ends.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef enum State:
    MISSING = 0  # not known: conditions on it are unknown
    PRESENT = 1
    FAILED = 2  # an expression overflowed, divided by zero, or converted what cannot be converted

cdef struct Value:
    int64_t i  # bool (0, 1), int, timestamp and duration (microseconds), enum code; money: minor units
    double f  # double; money: major units, the correctly rounded quotient of its minor units
    const char* text  # string or enum label, UTF-8, not terminated; set: its heap encoding
    uint32_t length  # bytes at text
    uint8_t state  # a State
