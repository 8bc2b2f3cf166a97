"""The active's process.

Run as ``python -m backupd.engines.sqlite.capture_process CONFIG.json`` by the
supervisor, with a pipe on stdin: when that closes, the parent is dead and so is
this process.  It opens the database once and leaves by ``os._exit`` (see source).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

from backupd.engines.sqlite.capture import LOG, Capture
from backupd.engines.sqlite.capture_config import CaptureConfig
from backupd.engines.sqlite.capture_state import leave_failure
from backupd.engines.sqlite.locks import take_lock
from backupd.errors import BackupdError
from backupd.lines.bound import bind
from backupd.lines.settings import from_environment
from backupd.lines.setup import set_up
from backupd.steps import set_process_role


def main() -> None:
    """Entry point; leaves by ``os._exit`` so that SQLite never runs its last-close checkpoint."""
    set_process_role("capture")
    set_up(from_environment(os.environ), small=True)
    config = CaptureConfig.read(Path(sys.argv[1]))
    bind(database=config.database)
    config.directory.mkdir(parents=True, exist_ok=True)
    take_lock(config.directory / "capture.lock")
    capture = Capture(config)
    signal.signal(signal.SIGTERM, lambda *_: capture.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = 0
    try:
        capture.run()
    except BackupdError as error:
        LOG.error("stopped: %s", error)
        with contextlib.suppress(BackupdError):
            leave_failure(capture.state_path, error)
        status = error.exit_status
    except BaseException:  # noqa: BLE001 - whatever it was, the process must not leave by SQLite's last close
        LOG.exception("stopped by a bug")
        status = 1
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
