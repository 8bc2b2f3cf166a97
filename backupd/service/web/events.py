"""Tells open pages that something has changed, by server-sent events; one thread waits for all of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

LISTENERS_MAX = 64
BEAT_SECONDS = 15.0
_WAIT_SECONDS = 1.0


class Announcer:
    """Waits for a newer version in a thread, and wakes the listeners in the event loop.

    Args:
        wait_newer: as ``Board.wait_newer``.
        version: the version now.
    """

    def __init__(self, wait_newer: Callable[[int, float], int], version: int) -> None:
        self.version = version
        self.listeners = 0
        self._wait_newer = wait_newer
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._thread: threading.Thread | None = None

    async def begin(self) -> None:
        """Start to wait; in the event loop that the listeners are in."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._wait, name="page news", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let all listeners end; may be called by any thread."""
        self._stopping.set()
        self._wake()

    @property
    def is_full(self) -> bool:
        """Whether nobody more may listen."""
        return self.listeners >= LISTENERS_MAX

    def _wait(self) -> None:
        while not self._stopping.is_set():
            newer = self._wait_newer(self.version, _WAIT_SECONDS)
            if newer != self.version:
                self.version = newer
                self._wake()

    def _wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        told, self._news = self._news, asyncio.Event()
        told.set()

    async def listen(self, beat_seconds: float = BEAT_SECONDS) -> AsyncIterator[str]:
        """One listener's events: the version at once and whenever it has changed, and a beat in between."""
        self.listeners += 1
        try:
            said = -1
            while not self._stopping.is_set():
                news = self._news
                if said != self.version:
                    said = self.version
                    yield f"event: board\ndata: {said}\n\n"
                    continue
                try:
                    await asyncio.wait_for(news.wait(), beat_seconds)
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self.listeners -= 1
