"""Futures that follow one another: what comes of a value that is not there yet.

The committer sets its futures' results on its own thread, where what follows runs too; so it must be short, and must never
wait for another future of the committer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

Value = TypeVar("Value")
Made = TypeVar("Made")


def done(value: Value) -> Future[Value]:
    """A future that has its value."""
    future: Future[Value] = Future()
    future.set_result(value)
    return future


def then(first: Future[Value], make: Callable[[Value], Made]) -> Future[Made]:
    """A future of ``make(value)``, made as soon as ``first`` has its value, on the thread that gave it.

    An error of either becomes the future's own.
    """
    made: Future[Made] = Future()

    def follow(future: Future[Value]) -> None:
        try:
            made.set_result(make(future.result()))
        except BaseException as error:
            made.set_exception(error)

    first.add_done_callback(follow)
    return made


def settled(futures: Sequence[Future[Any]]) -> Future[Sequence[Future[Any]]]:
    """A future of them all, there when each has a value or an error."""
    every: Future[Sequence[Future[Any]]] = Future()
    if not futures:
        return done(futures)
    left, lock = len(futures), threading.Lock()

    def count(future: Future[Any]) -> None:
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last:
            every.set_result(futures)

    for future in futures:
        future.add_done_callback(count)
    return every


def pass_on(first: Future[Value], to: Future[Value]) -> None:
    """Gives ``to`` the value or error of ``first`` once it has it."""

    def follow(future: Future[Value]) -> None:
        error = future.exception()
        if error is None:
            to.set_result(future.result())
        else:
            to.set_exception(error)

    first.add_done_callback(follow)
