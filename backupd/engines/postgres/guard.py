"""The run's side of the guardian: starts it, has it ask for the pause, and notices when it is lost."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backupd.engines.postgres.cluster import PgCopy
from backupd.errors import NotHealthy
from backupd.steps import step

START_SECONDS = 20.0
_ANSWER_SECONDS = 5.0
_GRACE_SECONDS = 2.0  # after the limit: how long the guardian may take before we do its work
_LEAVES_SECONDS = 5.0


class Guard:
    """One guardian process for one freeze.

    Args:
        passive: the copy whose replay is going to be paused.
        state_dir: where the marker of the pause lies.
        on_ended: called, from another thread, with the reason when the guardian has ended the pause.
        on_lost: called, from another thread, with the reason when the guardian died or hangs while it was armed.
    """

    def __init__(
        self, passive: PgCopy, state_dir: Path, *, on_ended: Callable[[str], None], on_lost: Callable[[str], None]
    ) -> None:
        self._on_ended, self._on_lost = on_ended, on_lost
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._armed = False
        self._ready = False
        self._overdue: threading.Timer | None = None
        environment = dict(os.environ)
        root = str(Path(__file__).resolve().parents[3])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
        step("pg.guard.spawn")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "backupd.engines.postgres.guardian"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # a Ctrl-C at the terminal is for the run alone
        )
        self._reader = threading.Thread(target=self._read, name="guardian-reader", daemon=True)
        self._reader.start()
        with contextlib.suppress(NotHealthy):  # wait_ready tells it
            words = {"conninfo": passive.conninfo, "copy": passive.name, "state_dir": str(state_dir.absolute())}
            self._send({**words, "parent": os.getpid()})

    @property
    def pid(self) -> int:
        """The guardian's process id."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Until it has its connection. Raises NotHealthy: it could not get one, or died."""
        if not self._ready:
            self._expect("ready", START_SECONDS)
            self._ready = True

    def pause(self, token: str, limit_seconds: float, backend_pid: int) -> None:
        """Have it ask for the pause, and guard it; the marker with ``token`` is written already.

        Args:
            token: of the marker.
            limit_seconds: after so long it ends the pause.
            backend_pid: when this process of the server is gone it does too.

        Raises:
            NotHealthy: the server did not take it (``role_change``), or the guardian died.
        """
        step("pg.guard.pause")
        self._armed = True
        self._overdue = threading.Timer(limit_seconds + _GRACE_SECONDS, self._is_overdue)
        self._overdue.daemon = True
        self._overdue.start()
        self._send({"pause": token, "limit_seconds": limit_seconds, "backend_pid": backend_pid})
        self._expect("asked", _ANSWER_SECONDS)

    def disarm(self) -> None:
        """Replay runs: there is nothing to guard. A guardian that does not confirm it is killed, lest it act later."""
        self._forget()
        try:
            self._send({"disarm": True})
            self._expect("disarmed", _ANSWER_SECONDS)
        except NotHealthy:
            self._process.kill()

    def abandon(self) -> None:
        """Leave it alone while armed: it takes that for our death, and ends the pause."""
        self._forget()
        self._leave()

    def close(self) -> None:
        """Let it go home, disarmed."""
        self._forget()
        self._leave()

    def _forget(self) -> None:
        self._armed = False
        if self._overdue is not None:
            self._overdue.cancel()

    def _leave(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_LEAVES_SECONDS)

    def _send(self, order: dict[str, Any]) -> None:
        try:
            if self._process.stdin is None:
                raise OSError("it has no input")
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise _lost(f"it takes no orders: {error}") from None

    def _expect(self, word: str, seconds_max: float) -> None:
        until = time.monotonic() + seconds_max
        try:
            while True:
                answer = self._answers.get(timeout=max(0.0, until - time.monotonic()))
                if word in answer:
                    return
                if "error" in answer:
                    said = answer["error"]
                    words = {"because": said["because"], "next_step": said["next_step"]}
                    raise NotHealthy(said["problem"], **words, role_change=said["role_change"])
                if "ended" in answer:
                    raise _lost(f"it has ended the pause: {answer['ended']}")
                if not answer:
                    self._answers.put({})  # whoever asks next hears it too
                    raise _lost("it died")
        except queue.Empty:
            raise _lost(f"it did not answer within {seconds_max:g} s") from None

    def _read(self) -> None:
        if self._process.stdout is not None:
            for line in self._process.stdout:
                with contextlib.suppress(ValueError):
                    answer = json.loads(line)
                    self._answers.put(answer)  # first, for the one who waits for it may hold what on_ended needs
                    if "ended" in answer:
                        self._forget()
                        self._on_ended(str(answer["ended"]))
        self._answers.put({})
        if self._armed:
            self._forget()
            self._on_lost("the guardian of the freeze died")

    def _is_overdue(self) -> None:
        if self._armed:
            self._process.kill()  # the reader sees its end, and says so


def _lost(because: str) -> NotHealthy:
    return NotHealthy(
        "replay cannot be frozen safely",
        because=f"the guardian, which ends every freeze, is not there: {because}",
        next_step="look whether the host lets backupd start processes, and run the backup again",
    )
