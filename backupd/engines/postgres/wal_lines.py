"""Runs pg_waldump over a stretch of log and gives back its lines as they come."""

from __future__ import annotations

import heapq
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from backupd.engines.postgres.binaries import version_of
from backupd.engines.postgres.server_control import plain_environment
from backupd.engines.postgres.wal_names import lsn_text, parse_lsn
from backupd.errors import NotHealthy

# pg_waldump.c: up to 14 filter_by_rmgr is one number, from 15 on a list. All records at once would have texts in them
# that anybody may write, with new lines.
TAKES_SEVERAL_RMGRS = 15

_LSN = re.compile(rb"lsn: ([0-9A-F]{1,8}/[0-9A-F]{1,8})")


def _place(line: bytes) -> int:
    """Where its record is; what is no record's line goes with the line before it."""
    found = _LSN.search(line)
    return parse_lsn(found[1].decode()) if found else 0


class WalLines:
    """What the program prints, line by line.

    After the block: ``complaint`` is what it said where it stopped before the end (the last record of a stretch
    usually goes on in a segment that is not there), ``status`` how it ended: 0, its error, or minus a signal.
    """

    def __init__(self, output: Iterable[bytes] | None) -> None:
        self._output = output
        self.is_read = False
        self.complaint = ""
        self.status = 0

    def __iter__(self) -> Iterator[bytes]:
        if self._output is not None:
            yield from self._output
        self.is_read = True


@contextmanager
def _merged(
    waldump: Path,
    directory: Path,
    timeline: int,
    start: int,
    end: int | None,
    rmgrs: Sequence[str],
    seconds_max: float | None,
) -> Iterator[WalLines]:
    """The lines of several runs of the program, one for each manager, in the log's order."""
    with ExitStack() as each:
        some = [
            each.enter_context(
                record_lines(
                    waldump, directory, timeline=timeline, start=start, end=end, rmgrs=(one,), seconds_max=seconds_max
                )
            )
            for one in rmgrs
        ]
        merged = WalLines(heapq.merge(*some, key=_place))
        yield merged
    merged.complaint, merged.status = some[0].complaint, some[0].status


@contextmanager
def record_lines(
    waldump: Path,
    directory: Path,
    *,
    timeline: int,
    start: int,
    end: int | None = None,
    rmgrs: Sequence[str] = (),
    seconds_max: float | None = None,
) -> Iterator[WalLines]:
    """The lines of all records that begin in a stretch of log; whoever has seen enough leaves the block.

    Args:
        waldump: the program, of the version that wrote the log.
        directory: where the segments lie, under their own names.
        timeline: of their names.
        start: the LSN of the first record, or one before it.
        end: up to which LSN; None: as far as the log goes.
        rmgrs: whose records are told; none: all.
        seconds_max: after this it is killed.

    Raises:
        NotHealthy: the program cannot be run.
    """
    if len(rmgrs) > 1 and (version_of(waldump) or 0) < TAKES_SEVERAL_RMGRS:
        with _merged(waldump, directory, timeline, start, end, rmgrs, seconds_max) as lines:
            yield lines
        return
    command = [str(waldump), *(f"--rmgr={name}" for name in rmgrs), f"--path={directory}", f"--timeline={timeline}"]
    command += [f"--start={lsn_text(start)}", *([f"--end={lsn_text(end)}"] if end is not None else [])]
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=plain_environment({"TZ": "UTC"}),
            )
        except OSError as error:
            raise not_run(waldump, error.strerror or str(error)) from error
        late = threading.Timer(seconds_max or 0, process.kill)
        late.daemon = True
        if seconds_max is not None:
            late.start()
        lines = WalLines(process.stdout)
        with process:
            try:
                yield lines
            finally:
                if not lines.is_read:
                    process.kill()
                lines.status = process.wait()
                late.cancel()
                errors.seek(0)
                said = " ".join(errors.read().decode("utf-8", "replace").split())
                lines.complaint = said.removeprefix("pg_waldump: ").removeprefix("error: ")


def not_run(waldump: Path, because: str) -> NotHealthy:
    """The program did not do what it is for."""
    return NotHealthy(
        "the log's records could not be parsed",
        because=f"{waldump}: {because}",
        next_step=f"run it by hand: {waldump} --version",
    )
