"""How many transactions of the active lie after a place of its log: what a restore to there would lose."""

from __future__ import annotations

import re
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path

from backupd.engines.postgres.server_control import plain_environment
from backupd.engines.postgres.wal_names import lsn_text
from backupd.model.position import Position
from backupd.steps import step

_COMMIT = re.compile(rb"desc: COMMIT(?:_PREPARED)? (?:\d+: )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC")
_NOT_THERE = (b"could not find file", b"could not open", b"could not locate")
_SECONDS_MAX = 20.0  # somebody waits for the plan


def commits_after(waldump: Path, wal: Path, position: Position, at: datetime | None) -> int | None:
    """Commits in the log of a data directory after ``position``, and after ``at`` when it is given; its end included.

    None when the log does not go back so far, or is too long to be read while somebody waits.
    """
    words = [waldump, "--rmgr=Transaction", f"--path={wal}", f"--timeline={position.history}"]
    step("pg.restore.count_commits")
    try:
        process = subprocess.Popen(
            [*map(str, words), f"--start={lsn_text(position.offset)}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=plain_environment({"TZ": "UTC"}),
        )
    except OSError:
        return None
    late = threading.Timer(_SECONDS_MAX, process.kill)
    late.daemon = True
    late.start()
    count, missing = 0, False
    with process:
        for line in process.stdout or ():
            found = _COMMIT.search(line)
            if found is not None:
                count += at is None or datetime.fromisoformat(found[1].decode()).replace(tzinfo=UTC) > at
            missing = missing or any(words in line for words in _NOT_THERE)
    late.cancel()
    # It ends with an error where the log ends; one that was killed has not come so far.
    return None if missing or process.returncode < 0 else count
