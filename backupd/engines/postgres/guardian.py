"""The guardian: a process of its own that lets replay go on when the run that paused it dies, hangs or takes too long.

Started by ``guard.Guard`` as ``python -m backupd.engines.postgres.guardian``, in
a session of its own.  It is told what to guard by lines of JSON on its standard
input, so that no password is seen in a list of processes:

* first ``{"conninfo", "copy", "state_dir", "parent"}``; it connects and answers ``{"ready"}``;
* ``{"pause": token, "limit_seconds", "backend_pid"}``; it asks the server for the pause, and answers ``{"asked"}``;
* ``{"disarm"}`` when replay runs again, answered by ``{"disarmed"}``.

It asks for the pause itself, so no pause of ours comes after it has gone.  From
then on it is armed: it ends the pause when its input closes or its parent is gone, when
the limit passes, when the server's process that holds the backup mode is gone, or
when its own connection breaks; it tries until that has worked, and then says
``{"ended": why}``.  It ends no pause but that of the marker with the token.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backupd.engines.postgres.connect import Server, connect
from backupd.engines.postgres.pauses import PauseMarker, let_go, read_marker
from backupd.engines.postgres.replay_pause import ask_for_pause
from backupd.errors import BackupdError
from backupd.steps import set_process_role, step

TICK_SECONDS = 0.25
TRIES_FOR_SECONDS = 900.0
_RETRY_SECONDS = 0.25


class Guardian:
    """One guardian: it reads orders, looks around every tick, and acts once.

    ``orders`` is the file descriptor of its input, ``say`` sends one answer.
    """

    def __init__(self, orders: int, say: Callable[[dict[str, Any]], None]) -> None:
        self._orders = orders
        self._say = say
        self._unread = b""
        self._parent = 0
        self._conninfo = ""
        self._copy = ""
        self._state_dir = Path()
        self._server: Server | None = None
        self._marker: PauseMarker | None = None  # armed while there is one
        self._deadline = 0.0
        self._backend_pid = 0

    def run(self) -> int:
        """Guard until there is nothing to guard any more; answers with the exit status."""
        first = self._next_order(wait_seconds=30.0)
        if not first:
            return 0
        self._conninfo, self._copy = str(first["conninfo"]), str(first["copy"])
        self._state_dir, self._parent = Path(first["state_dir"]), int(first["parent"])
        step("guardian.connect")
        self._server = connect(self._conninfo, copy=self._copy)
        self._say({"ready": True})
        while True:
            order = self._next_order(wait_seconds=TICK_SECONDS)
            why = "the run that froze it is gone" if order is None else self._obey(order) or self._reason()
            if why and self._marker is not None:
                return self._end(self._marker, why)
            if order is None:
                return 0

    def _next_order(self, wait_seconds: float) -> dict[str, Any] | None:
        """The next order; empty when none came in time, None when none will ever come."""
        until = time.monotonic() + wait_seconds
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._orders], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return {}
            piece = os.read(self._orders, 65536)
            if not piece:
                return None
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        order: dict[str, Any] = json.loads(line)
        return order

    def _obey(self, order: dict[str, Any]) -> str:
        """Do as told; answers why the pause must end now, or nothing."""
        if "pause" in order:
            marker = read_marker(self._state_dir)
            if marker is None or marker.token != order["pause"] or self._server is None:
                raise ValueError("a pause without its marker")
            self._deadline = time.monotonic() + float(order["limit_seconds"])
            self._backend_pid = int(order["backend_pid"])
            self._marker = marker
            try:
                ask_for_pause(self._server)
            except BackupdError as error:
                self._say(_error(error))
                return "the server did not take the word"
            self._say({"asked": True})
        elif "disarm" in order:
            self._marker = None
            self._say({"disarmed": True})
        return ""

    def _reason(self) -> str:
        """Why the pause must end now; empty while all is well."""
        if self._marker is None or self._server is None:
            return ""
        if os.getppid() != self._parent:
            return "the run that froze it is gone"
        if time.monotonic() >= self._deadline:
            return f"the limit of {self._marker.limit_seconds:g} s has passed"
        try:
            held = self._server.value("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", self._backend_pid)
        except BackupdError as error:
            return f"the guardian lost its connection ({error.because})"
        return "" if held else "the connection that held the backup mode is gone"

    def _end(self, marker: PauseMarker, why: str) -> int:
        give_up = time.monotonic() + TRIES_FOR_SECONDS
        while time.monotonic() < give_up:
            try:
                step("guardian.let_go")
                if self._server is None or not self._server.alive:
                    self._server = connect(self._conninfo, copy=self._copy)
                let_go(self._server, self._state_dir, marker)
            except BackupdError:
                if self._server is not None:
                    self._server.close()
                self._server = None
                time.sleep(_RETRY_SECONDS)
                continue
            self._say({"ended": why})
            return 0
        return 1  # the marker stays, and the next start of backupd goes by it


def _say(answer: dict[str, Any]) -> None:
    # A parent that is gone hears nothing, and that must not stop us.
    with contextlib.suppress(OSError):
        os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")


def _error(error: BackupdError) -> dict[str, Any]:
    said = {"problem": error.problem, "because": error.because, "next_step": error.next_step}
    return {"error": {**said, "role_change": bool(error.details.get("role_change"))}}


def main() -> int:
    """Be the guardian of the process that started this one."""
    set_process_role("guardian")
    # Whoever stops the whole service stops the run too; the guardian leaves when replay runs again.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        return Guardian(sys.stdin.fileno(), _say).run()
    except BackupdError as error:
        _say(_error(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
