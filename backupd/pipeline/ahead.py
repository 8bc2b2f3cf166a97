"""Work that threads do ahead of whoever takes it, in order and never too much of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import repeat
from typing import TypeVar

T = TypeVar("T")

_END = object()


def in_order(futures: Iterable[Future[T]], ahead_max: int) -> Generator[T, None, None]:
    """The results in order; at most ``ahead_max + 1`` are under way: the next is asked for when there is room.

    What still waits is cancelled when this ends early.
    """
    ahead: deque[Future[T]] = deque()
    try:
        for future in futures:
            ahead.append(future)
            if len(ahead) > ahead_max:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()


def in_background(items: Generator[T, None, None], ahead_max: int) -> Generator[T, None, None]:
    """The items of a generator that a thread of its own runs, up to ``ahead_max + 1`` items ahead.

    What the generator raises is raised here, in its turn; when this ends early, the
    generator is closed and its thread is gone.
    """
    with closing(items), ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        asked: Iterator[Future[T | object]] = (thread.submit(next, items, _END) for _ in repeat(None))
        with closing(in_order(asked, ahead_max)) as given:
            for item in given:
                if item is _END:
                    return
                yield item  # type: ignore[misc]
