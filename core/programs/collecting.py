"""Pauses Python's cyclic garbage collector while a program is made.

A program is hundreds of thousands of objects that live on, and none of them is in a cycle. The collector would walk all of
them again each time their number has grown by a quarter, and find nothing: a fifth of the time to check 3,000 offers,
and half of the time to unpack an image, measured here.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
# How many threads are inside `paused`, and whether the first of them found the collector on; both under the lock.
_inside = 0
_was_on = False


@contextmanager
def paused() -> Iterator[None]:
    """Within it the collector does not run by itself, in any thread; reference counting goes on as ever."""
    global _inside, _was_on  # noqa: PLW0603 - the collector is one for the process, and so is this count
    with _lock:
        if _inside == 0:
            _was_on = gc.isenabled()
            gc.disable()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _was_on:
                gc.enable()
