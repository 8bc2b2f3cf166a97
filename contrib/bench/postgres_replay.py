"""Times how fast log is brought and replayed: a restore with log, less one without, beside a server with ``cp``.

  python contrib/bench/postgres_replay.py --config backupd.toml --database pair --scratch DIR \
      --base BASE --wal WAL [--runs 3] [--pg-ctl pg_ctl]

BASE is a pg_basebackup (plain, not started) from before the log, WAL the segments since, as ``archive_command = cp``
left them; the archive's newest full is from before the log too, and an incremental holds it.  backupd's part is
fetching, decrypting, verifying and recovery; the peer's is recovery with ``restore_command = 'cp WAL/%f %p'``.
Run it as the user that owns BASE.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CONF = """
listen_addresses = ''
unix_socket_directories = '{sockets}'
port = 55509
archive_mode = off
hot_standby = off
primary_conninfo = ''
primary_slot_name = ''
restore_command = 'cp {wal}/%f %p'
recovery_target_timeline = 'current'
shared_buffers = '{buffers}'
"""


def ctl(asked: argparse.Namespace, *words: str) -> Any:
    """backupctl's answer as JSON."""
    command = [sys.executable, "-m", "backupd.cli.main", "--config", asked.config, *words, "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def restored(asked: argparse.Namespace, *more: str) -> Any:
    """A restore into a directory that is thrown away."""
    into = asked.scratch / "restored"
    shutil.rmtree(into, ignore_errors=True)
    answer = ctl(asked, "restore", asked.database, "--target", str(into), "--yes", *more)
    shutil.rmtree(into)
    return answer


def by_cp(asked: argparse.Namespace) -> float:
    """Seconds from the start of a server on BASE until it has replayed all of WAL and is promoted."""
    data = asked.scratch / "by-cp"
    shutil.rmtree(data, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", str(asked.base), str(data)], check=True)
    (data / "standby.signal").unlink(missing_ok=True)
    (data / "recovery.signal").touch()
    with (data / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
        file.write(CONF.format(sockets=asked.scratch, wal=asked.wal, buffers=asked.shared_buffers))
    subprocess.run(["sync"], check=True)
    log = asked.scratch / "by-cp.log"
    log.unlink(missing_ok=True)
    words = [*shlex.split(asked.pg_ctl), "-D", str(data), "-w", "-t", "600"]
    began = time.monotonic()
    subprocess.run([*words, "-l", str(log), "start"], check=True, capture_output=True)
    while "archive recovery complete" not in log.read_text(encoding="utf-8"):
        time.sleep(0.02)
    seconds = time.monotonic() - began
    subprocess.run([*words, "-m", "fast", "stop"], check=True, capture_output=True)
    shutil.rmtree(data)
    return seconds


def main() -> None:
    """See the module's own words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--database", required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--wal", type=Path, required=True)
    parser.add_argument("--pg-ctl", default="pg_ctl")
    parser.add_argument("--shared-buffers", default="2GB")
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    segments = len([path for path in asked.wal.iterdir() if len(path.name) == 24])
    for _ in range(asked.runs):
        whole = restored(asked)
        pages = restored(asked, "--backup", whole["base"])
        cp = by_cp(asked)
        ours = whole["usable_seconds"] - pages["usable_seconds"]
        more = whole["logs_applied"] - pages["logs_applied"]
        said = {
            "log_files": more,
            "backupd_seconds": round(ours, 2),
            "backupd_per_second": round(more / ours, 1),
            "segments": segments,
            "cp_seconds": round(cp, 2),
            "cp_per_second": round(segments / cp, 1),
        }
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
