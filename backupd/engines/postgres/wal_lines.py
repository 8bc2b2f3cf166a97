"""Runs pg_waldump over neighbouring segments and gives back its lines as they come."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from backupd.engines.postgres.wal_names import lsn_text
from backupd.errors import NotHealthy
from backupd.steps import step


@contextmanager
def record_lines(
    waldump: Path,
    directory: Path,
    *,
    timeline: int,
    segments: range,
    segment_bytes: int,
    rmgrs: Sequence[str],
    said: list[str],
) -> Iterator[Iterator[bytes]]:
    """The lines of all records that begin in ``segments``; whoever has seen enough leaves the block.

    Args:
        waldump: the program, of the version that wrote the log.
        directory: where the segments lie, under their own names.
        timeline: of their names.
        segments: their numbers.
        segment_bytes: the size of each.
        rmgrs: whose records are told.
        said: is given the program's complaint, where it stopped before the end; the last record of a
            stretch usually goes on in a segment that is not there.

    Raises:
        NotHealthy: the program cannot be run.
    """
    start, end = segments.start * segment_bytes, segments.stop * segment_bytes
    command = [str(waldump), *(f"--rmgr={name}" for name in rmgrs), f"--path={directory}", f"--timeline={timeline}"]
    command += [f"--start={lsn_text(start)}", f"--end={lsn_text(end)}"]
    step("pg.commits.waldump")
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "TZ": "UTC", "LC_ALL": "C"},
            )
        except OSError as error:
            raise NotHealthy(
                "the log's records could not be read",
                because=f"{waldump}: {error.strerror or error}",
                next_step=f"run it by hand: {waldump} --version",
            ) from error
        try:
            yield _lines(process.stdout)
        finally:
            with suppress(OSError):
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
            errors.seek(0)
            complaint = " ".join(errors.read(4096).decode("utf-8", "replace").split())
            if complaint:
                said.append(complaint.removeprefix("pg_waldump: ").removeprefix("error: "))


def _lines(output: IO[bytes] | None) -> Iterator[bytes]:
    if output is not None:
        yield from output
