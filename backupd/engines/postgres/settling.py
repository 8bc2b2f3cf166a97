"""Pages that are read while replay writes them: judged by the server's own rule, read again until they settle.

The rule (``basebackup.c``): a page that was changed at or after the start of the
backup is replaced from the log by the recovery, so nothing needs to be right in it but
its LSN.  Any other page must be right; one read while it was written becomes
right a moment later, and a damaged one never.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from backupd.engines.postgres.cluster import PAGE_BYTES
from backupd.engines.postgres.page_checksum import as_pages, page_lsns

_TRIES_MAX = 50
_TRY_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Moving:
    """Replay runs on while files are read: a page changed from ``start_lsn`` on comes from the log at a restore.

    ``newest_lsn`` tells how far replay is now: no page can be newer, but a damaged
    one may say so.  None: any LSN from the start on is believed.
    """

    start_lsn: int
    newest_lsn: Callable[[], int] | None = None
    pause: Callable[[float], None] = time.sleep


class Settling:
    """Reads pages of a moving cluster again until they are right; several threads use it at once.

    Args:
        moving: what is known of the log.
        read_again: fills a view with one page of the volume.
        wrong: which of some pages (first page, bytes) are not right.
    """

    def __init__(
        self,
        moving: Moving,
        read_again: Callable[[int, memoryview], None],
        wrong: Callable[[int, memoryview], list[int]],
    ) -> None:
        self._moving = moving
        self._read_again = read_again
        self._wrong = wrong
        self._lock = threading.Lock()
        self._bad: set[int] = set()
        self.accepted_pages = 0
        self.reread_pages = 0

    def settle(self, first_page: int, pages: memoryview) -> None:
        """Put into ``pages`` what can be believed; ``bad`` knows the others afterwards."""
        for page in self._wrong(first_page, pages):
            start = (page - first_page) * PAGE_BYTES
            self._settle_page(page, pages[start : start + PAGE_BYTES])

    def bad(self, first_page: int, count: int) -> list[int]:
        """Which of those pages did not settle."""
        with self._lock:
            return sorted(page for page in self._bad if first_page <= page < first_page + count)

    def _settle_page(self, page: int, place: memoryview) -> None:
        for _ in range(_TRIES_MAX):
            if self._in_log(place):
                with self._lock:
                    self.accepted_pages += 1
                return
            self._moving.pause(_TRY_SECONDS)
            self._read_again(page, place)
            if not self._wrong(page, place):
                with self._lock:
                    self.reread_pages += 1
                return
        with self._lock:
            self._bad.add(page)

    def _in_log(self, place: memoryview) -> bool:
        """Whether the recovery replaces that page; asks how far replay is only for a page that says it is new."""
        lsn = int(page_lsns(as_pages(place))[0])
        if lsn < self._moving.start_lsn:
            return False
        return self._moving.newest_lsn is None or lsn <= self._moving.newest_lsn()
