"""Keeps noting when commits are made while a long scan runs, so that a restore to a moment inside it is exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.engines.sqlite.cutter import Seen
from backupd.engines.sqlite.marks import Stand

if TYPE_CHECKING:
    from backupd.engines.sqlite.capture import Capture


class ScanWatch:
    """The poll of the log for the time of one seed or comparison that began at ``stand``."""

    def __init__(self, capture: Capture, stand: Stand) -> None:
        self._capture = capture
        self._salts = (stand.index.salt1, stand.index.salt2)
        self._frame = stand.index.max_frame
        self._seen: list[Seen] = []

    def pulse(self) -> None:
        """Called often by the scan: serve requests, and look at the log once."""
        self._capture.pulse()
        index = self._capture.hands.source.index()
        last = self._seen[-1].frame if self._seen else self._frame
        if (index.salt1, index.salt2) == self._salts and index.max_frame > last:
            self._seen.append(Seen(index.max_frame, index.page_count, self._capture.now_us()))

    def hand_over(self) -> None:
        """The scan's log is closed: what was seen after the stand belongs to the next one."""
        cutter = self._capture.hands.cutter
        if (cutter.cursor.salts, cutter.cursor.frame) == (self._salts, self._frame):
            cutter.seen = self._seen
