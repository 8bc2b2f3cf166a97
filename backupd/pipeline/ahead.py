"""Work that threads do ahead of whoever takes it, in order and never too much of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_order(futures: Iterable[Future[T]], ahead_max: int) -> Iterator[T]:
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
