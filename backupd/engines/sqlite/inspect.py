"""Receiving log files on the passive: copy, check whole, check the chain, and only then give them their name.

A log file under its final name in the passive's log directory is an inspected
one: its bytes are durable, its digest and sums were verified, and it follows
the file before it without a gap (reference/sqlite.md, P7).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backupd.durable import sync_directory
from backupd.engines.sqlite.layout import make_directory
from backupd.engines.sqlite.logcheck import VerifiedLog, verify_log
from backupd.engines.sqlite.logdir import LogDir
from backupd.engines.sqlite.logfile import read_digest, read_header
from backupd.engines.sqlite.logheader import LogHeader, LogKindCode, file_name, unwritable
from backupd.errors import DamageFound, NotHealthy
from backupd.steps import step

TRIES = 3


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """The last log file that was inspected: what the next one must go on from."""

    history: str
    number: int
    offset: int
    epoch: int
    checksum: int
    pages: int
    page_bytes: int
    digest: bytes

    @classmethod
    def of(cls, header: LogHeader, digest: bytes) -> ChainEnd:
        """The end of this log."""
        return cls(
            header.history,
            header.number,
            header.end_offset,
            header.epoch,
            header.checksum_after,
            header.pages_after,
            header.page_bytes,
            digest,
        )

    @classmethod
    def before(cls, header: LogHeader) -> ChainEnd:
        """The end that this log goes on from, by its own word: where a chain is picked up in the middle."""
        return cls(
            header.history,
            header.number - 1,
            header.start_offset,
            header.epoch,
            header.checksum_before,
            header.pages_before,
            header.page_bytes,
            header.previous_digest,
        )


def chain_fault(end: ChainEnd | None, header: LogHeader, *, seed: bool = False) -> str:
    """Why ``header`` may not follow ``end`` (None: nothing was inspected yet); an empty string when it may.

    With ``seed`` the log is one that comes with a seed file, so it need not go on from anything.
    """
    if end is not None and header.epoch < end.epoch:
        return f"it is of epoch {header.epoch} and epoch {end.epoch} was seen: an old active wrote it"
    if seed:
        return "" if header.kind is LogKindCode.SEED else "it is not a seed record"
    if end is None:
        return "nothing was seeded yet"
    if header.history != end.history:
        return _new_history_fault(end, header)
    facts = (
        ("number", header.number, end.number + 1),
        ("start", header.start_offset, end.offset),
        ("digest of the log before it", header.previous_digest.hex(), end.digest.hex()),
        ("checksum before it", header.checksum_before, end.checksum),
        ("pages before it", header.pages_before, end.pages),
        ("page size", header.page_bytes, end.page_bytes),
    )
    return _first_difference(facts)


def _new_history_fault(end: ChainEnd, header: LogHeader) -> str:
    if header.kind is not LogKindCode.DELTA:
        return f"it is of history {header.history} and not of {end.history}"
    facts = (
        ("parent history", header.parent_history, end.history),
        ("parent offset", header.parent_offset, end.offset),
        ("number", header.number, 1),
        ("start", header.start_offset, 0),
        ("checksum before it", header.checksum_before, end.checksum),
        ("pages before it", header.pages_before, end.pages),
        ("page size", header.page_bytes, end.page_bytes),
    )
    return _first_difference(facts)


def _first_difference(facts: tuple[tuple[str, object, object], ...]) -> str:
    for name, found, expected in facts:
        if found != expected:
            return f"its {name} is {found} and must be {expected}"
    return ""


class Inspector:
    """Takes log files in, one after the other; the only writer of the passive's log directory.

    ``end`` is the last inspected log.  ``retries`` counts fetches that had to be repeated,
    ``refused`` logs of an older epoch.
    """

    def __init__(self, logs: LogDir, end: ChainEnd | None) -> None:
        self.logs = logs
        self.end = end
        self.retries = 0
        self.refused = 0

    def receive(
        self, history: str, number: int, fetch: Callable[[str, int, Path], None], *, seed: bool = False
    ) -> VerifiedLog | None:
        """Fetch, check and keep one log file; with ``seed``, the one that comes with a seed file.

        Returns:
            None when this very log is held already (a duplicate changes nothing).

        Raises:
            NotHealthy: it is out of order, of an older epoch, or does not follow the chain: nothing is kept.
            DamageFound: it stayed damaged in three fetches; the passive must be seeded.
            NotFound: the source does not hold it.
        """
        if self._is_held(history, number):
            return None
        directory = self.logs.history(history).directory
        tmp = self.logs.root / "tmp" / f"{history}-{file_name(number)}"
        try:
            for made in (directory, tmp.parent):
                make_directory(made)
        except OSError as error:
            raise unwritable(directory, error) from None
        try:
            verified = self._fetch_verified(history, number, tmp, fetch)
            self._check_chain(verified.header, seed)
            step("inspect.rename")
            os.rename(tmp, directory / file_name(number))
            step("inspect.fsync_directory")
            sync_directory(directory)
        except OSError as error:
            raise unwritable(tmp, error) from None
        finally:
            with contextlib.suppress(OSError):
                tmp.unlink()
        self.end = ChainEnd.of(verified.header, verified.digest)
        return verified

    def _is_held(self, history: str, number: int) -> bool:
        return self.end is not None and self.end.history == history and number <= self.end.number

    def _fetch_verified(
        self, history: str, number: int, tmp: Path, fetch: Callable[[str, int, Path], None]
    ) -> VerifiedLog:
        for attempt in range(1, TRIES + 1):
            fetch(history, number, tmp)
            try:
                verified = verify_log(tmp)
                if (verified.header.history, verified.header.number) != (history, number):
                    raise NotHealthy(
                        f"log {number} of history {history} is another log",
                        because=f"its header says {verified.header.number} of {verified.header.history}",
                        next_step="backupctl copy seed DATABASE",
                    )
                return verified
            except DamageFound as error:
                if attempt == TRIES:
                    raise DamageFound(
                        f"log {number} of history {history} stayed damaged in {TRIES} fetches",
                        because=error.because,
                        next_step="backupctl copy seed DATABASE (the active's own log file is damaged; check its disk)",
                    ) from None
                self.retries += 1
        raise AssertionError  # the loop returns or raises

    def _check_chain(self, header: LogHeader, seed: bool) -> None:
        fault = chain_fault(self.end, header, seed=seed)
        if not fault:
            return
        if self.end is not None and header.epoch < self.end.epoch:
            self.refused += 1
        raise NotHealthy(
            f"log {header.number} of history {header.history} does not follow what was inspected",
            because=fault,
            next_step="backupctl copy seed DATABASE",
        )


def chain_end(logs: LogDir, history: str) -> ChainEnd | None:
    """The newest inspected log on this copy, from ``history`` on into the histories that go on from it.

    Raises:
        DamageFound: a header is damaged.
    """
    end: ChainEnd | None = None
    following: str | None = history
    while following:
        held = logs.history(following)
        number = held.newest()
        if number is None:
            break
        path = held.path_of(number)
        end = ChainEnd.of(read_header(path), read_digest(path))
        following = logs.successor(end.history, end.offset)
    return end
