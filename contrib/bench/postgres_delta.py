"""Times delta restores of a PostgreSQL pair beside full ones and beside pgBackRest, each in turn; prints a line a run.

  python contrib/bench/postgres_delta.py --config backupd.toml --database pair --data PRIMARY --scratch DIR \
      [--pgbackrest "pgbackrest --stanza=pair --config=X.conf"] [--runs 3] [--changed scattered|clustered]

The pair has a full of its own in each archive already.  Before each delta restore two per cent of the pages below
``base`` are changed while the server stands still: ``scattered`` one page in fifty of every file, ``clustered`` the
first two per cent of every file.  backupd's restores go to the active (a directory that holds a cluster is refused),
pgBackRest's into SCRATCH.  Times of backupd are its own ``usable_seconds``: the seeding of the passive is no part of
them, the stop of the server, its recovery and its start are.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

PAGE_BYTES = 8192
ONE_IN = 50


def change_pages(data: Path, how: str) -> int:
    """Flip a byte in two per cent of the pages of the big files; answers with how many pages.

    All is read into the page cache then, as a database's files are that was at work.
    """
    changed = 0
    for path in sorted(data.glob("base/*/[0-9]*")):
        pages = path.stat().st_size // PAGE_BYTES
        if pages < ONE_IN:
            continue
        numbers = range(0, pages, ONE_IN) if how == "scattered" else range(pages // ONE_IN)
        with path.open("r+b", buffering=0) as file:
            for number in numbers:
                file.seek(number * PAGE_BYTES + 5000)
                byte = file.read(1)
                file.seek(number * PAGE_BYTES + 5000)
                file.write(bytes([byte[0] ^ 0xFF]))
                changed += 1
    os.sync()
    for path in data.glob("base/*/*"):
        with path.open("rb", buffering=0) as file:
            while file.read(4 << 20):
                pass
    return changed


def timed(name: str, words: list[str]) -> None:
    """Run a command and print how long it took."""
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    said = {"tool": name, "status": done.returncode, "wall_seconds": round(seconds, 2)}
    if done.returncode:
        print(done.stdout[-500:], done.stderr[-500:], file=sys.stderr)
    elif done.stdout.lstrip().startswith("{"):
        answer = json.loads(done.stdout)
        said |= {key: answer[key] for key in ("usable_seconds", "read_bytes", "fetched_pages", "reused_pages")}
    print(json.dumps(said), flush=True)


def backupd(asked: argparse.Namespace, name: str, *more: str, changes: bool) -> None:
    """A restore to the active, after its pages were changed; or into a directory."""
    ctl = [sys.executable, "-m", "backupd.cli.main", "--config", asked.config]
    if changes:
        stop = [*shlex.split(asked.pg_ctl), "-D", str(asked.data), "-m", "fast", "-w"]
        subprocess.run([*stop, "stop"], check=True, capture_output=True)
        change_pages(asked.data, asked.changed)
        log = asked.scratch / "primary.log"
        subprocess.run([*stop[:3], "-w", "-l", str(log), "start"], check=True, capture_output=True)
    timed(name, [*ctl, "restore", asked.database, *more, "--yes", "--json"])


def round_of(asked: argparse.Namespace) -> None:
    """Every tool once."""
    into = asked.scratch / "restored"
    shutil.rmtree(into, ignore_errors=True)
    backupd(asked, "backupd full", "--target", str(into), changes=False)
    shutil.rmtree(into, ignore_errors=True)
    if asked.pgbackrest:
        into.mkdir(mode=0o700)
        words = [*shlex.split(asked.pgbackrest), f"--pg1-path={into}", "--log-level-console=warn"]
        timed("pgbackrest full", [*words, "restore"])
        change_pages(into, asked.changed)
        timed("pgbackrest delta", [*words, "--delta", "restore"])
        shutil.rmtree(into, ignore_errors=True)
    backupd(asked, "backupd delta, beside", changes=True)
    backupd(asked, "backupd delta, in place", "--in-place", changes=True)


def main() -> None:
    """See the module's own words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--pgbackrest", default="")
    parser.add_argument("--pg-ctl", default="pg_ctl")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--changed", choices=("scattered", "clustered"), default="scattered")
    asked = parser.parse_args()
    for _ in range(asked.runs):
        round_of(asked)


if __name__ == "__main__":
    main()
