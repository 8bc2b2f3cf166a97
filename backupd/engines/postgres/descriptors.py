"""A few open files out of very many, shared by threads: the least used is closed when another one is needed."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Descriptors:
    """Opens files by name when they are asked for, and keeps up to ``idle_max`` open that nobody uses now.

    Args:
        opened: makes a descriptor for a name; its OSError goes to who asked.
    """

    def __init__(self, opened: Callable[[str], int], idle_max: int = 32) -> None:
        self._opened = opened
        self._idle_max = idle_max
        self._lock = threading.Lock()
        self._idle: OrderedDict[str, list[int]] = OrderedDict()

    @contextmanager
    def use(self, name: str) -> Iterator[int]:
        """A descriptor of that file, of which nobody else reads or writes the offset. Raises OSError."""
        with self._lock:
            rest = self._idle.get(name)
            descriptor = rest.pop() if rest else None
            if rest is not None and not rest:
                del self._idle[name]
        if descriptor is None:
            descriptor = self._opened(name)
        try:
            yield descriptor
        finally:
            self._put_back(name, descriptor)

    def close(self) -> None:
        """Close what nobody uses; may be called twice."""
        with self._lock:
            unused = [descriptor for rest in self._idle.values() for descriptor in rest]
            self._idle.clear()
        for descriptor in unused:
            os.close(descriptor)

    def _put_back(self, name: str, descriptor: int) -> None:
        unused: list[int] = []
        with self._lock:
            self._idle.setdefault(name, []).append(descriptor)
            self._idle.move_to_end(name)
            while len(self._idle) > self._idle_max:
                unused.extend(self._idle.popitem(last=False)[1])
        for closing in unused:
            os.close(closing)
