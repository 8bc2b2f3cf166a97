"""What may be asked of the replay process, and what it was told at its start."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backupd.durable import write_json
from backupd.engines.sqlite.adopt import receive_seed_log
from backupd.engines.sqlite.control import Connection, Handler, Message, error_to_message
from backupd.engines.sqlite.log_source import SameHost
from backupd.engines.sqlite.logfile import read_header
from backupd.engines.sqlite.replay_loop import Frozen
from backupd.errors import BackupdError, NotHealthy
from backupd.model.pair import CopyState

if TYPE_CHECKING:
    from backupd.engines.sqlite.replayer import Replayer

LOG = logging.getLogger("replay")


@dataclass(frozen=True, slots=True)
class ReplayConfig:
    """What the supervisor tells this process; ``auto_seed``: ask the active for a seed when one is needed."""

    database: str
    copy: str
    db_path: Path
    state_dir: Path
    source_log_dir: Path
    capture_socket: Path
    control_socket: Path
    auto_seed: bool = True

    @classmethod
    def read(cls, path: Path) -> ReplayConfig:
        """Read the JSON that the supervisor wrote; unknown keys are ignored."""
        value = json.loads(path.read_text())
        return cls(
            database=value["database"],
            copy=value["copy"],
            db_path=Path(value["db_path"]),
            state_dir=Path(value["state_dir"]),
            source_log_dir=Path(value["source_log_dir"]),
            capture_socket=Path(value["capture_socket"]),
            control_socket=Path(value["control_socket"]),
            auto_seed=bool(value.get("auto_seed", True)),
        )

    @property
    def suspended(self) -> Path:
        """There while a person has suspended this copy."""
        return self.state_dir / "suspended.json"


@dataclass(slots=True)
class _Waiter:
    """Somebody waits until log ``number`` of ``history`` (or of any) is replayed."""

    history: str
    number: int
    deadline: float
    connection: Connection


class Requests:
    """Short requests are answered at once; what needs the file quiet is done between two logs and answered then."""

    def __init__(self, replayer: Replayer) -> None:
        self._replayer = replayer
        self._frozen: dict[Connection, Frozen] = {}
        self._waiters: list[_Waiter] = []

    def handlers(self) -> dict[str, Handler]:
        """The table of operations for the control server."""
        return {
            "status": lambda _message, _connection: self._replayer.facts(),
            "freeze": self._freeze,
            "thaw": self._thaw,
            "suspend": self._suspend,
            "resume": self._resume,
            "mark_suspect": self._mark_suspect,
            "wait": self._wait,
            "adopt_seed": self._adopt_seed,
            "truncate": self._truncate,
            "stop": self._stop,
        }

    def _later(self, connection: Connection, action: Callable[[], dict[str, Any]], *, moves_file: bool = False) -> None:
        """Do ``action`` between two logs and answer then."""

        def done(answer: dict[str, Any] | BackupdError) -> None:
            message = error_to_message(answer) if isinstance(answer, BackupdError) else {"ok": True, **answer}
            connection.send(message)

        self._replayer.loop.order(action, done, moves_file=moves_file)

    def _freeze(self, message: Message, connection: Connection) -> None:
        limit = float(message["limit_seconds"])
        frozen = Frozen(time.monotonic(), time.monotonic() + limit)
        self._frozen[connection] = frozen

        def ended() -> None:
            self._frozen.pop(connection, None)
            self._replayer.loop.thaw(frozen, held=False)

        connection.on_close.append(ended)
        self._later(connection, lambda: self._replayer.loop.freeze(frozen, limit))

    def _thaw(self, _message: Message, connection: Connection) -> Message:
        frozen = self._frozen.get(connection)
        if frozen is None:
            raise NotHealthy(
                "there is nothing to thaw",
                because="this connection holds no freeze",
                next_step="freeze first, on the same connection",
            )
        self._replayer.loop.thaw(frozen)
        return {"held": frozen.held, "frozen_seconds": frozen.seconds}

    def _suspend(self, message: Message, connection: Connection) -> None:
        comment = str(message.get("comment", ""))

        def action() -> dict[str, Any]:
            write_json(self._replayer.config.suspended, {"comment": comment}, step_name="replay.suspend")
            self._replayer.loop.suspended = comment
            return self._replayer.facts()

        self._later(connection, action)

    def _resume(self, _message: Message, connection: Connection) -> None:
        def action() -> dict[str, Any]:
            self._replayer.config.suspended.unlink(missing_ok=True)
            self._replayer.loop.suspended = None
            return self._replayer.facts()

        self._later(connection, action)

    def _mark_suspect(self, message: Message, connection: Connection) -> None:
        because = str(message.get("because", "a check found a bad page"))

        def action() -> dict[str, Any]:
            self._replayer.loop.replay.mark(CopyState.SUSPECT, because)
            return self._replayer.facts()

        self._later(connection, action)

    def _truncate(self, message: Message, connection: Connection) -> None:
        """Remove logs that end at or before the offset and were replayed; the map is saved first."""

        def action() -> dict[str, Any]:
            replay = self._replayer.loop.replay
            if replay.marker.history != message["history"]:
                raise NotHealthy(
                    "cannot truncate the passive's log",
                    because="it is in another history now",
                    next_step="nothing: the next backup truncates",
                )
            if replay.ready:
                replay.save_map()
            through = min(int(message["offset"]), replay.marker.offset)
            logs, size = replay.logs.history(replay.marker.history).remove_through(through)
            return {"removed_logs": logs, "removed_bytes": size}

        self._later(connection, action)

    def _adopt_seed(self, message: Message, connection: Connection) -> None:
        seed_path, log_path = Path(message["seed_path"]), Path(message["log_path"])
        self._later(connection, lambda: self._adopt(seed_path, log_path), moves_file=True)

    def _adopt(self, seed_path: Path, log_path: Path) -> dict[str, Any]:
        header, replay = read_header(log_path), self._replayer.loop.replay
        marker = replay.marker
        if replay.ready and marker.history == header.history and marker.number >= header.number:
            # This copy came through by the log; going back would lose nothing but time.
            seed_path.unlink(missing_ok=True)
            return self._replayer.facts()
        source = SameHost(log_path.parent.parent)
        with self._replayer.receiver.lock:
            receive_seed_log(self._replayer.inspector, source, header)
        replay.adopt_seed(seed_path, replay.logs.history(header.history).path_of(header.number))
        self._replayer.loop.opened, self._replayer.loop.trouble = True, ""
        self._replayer.receiver.adopted()
        LOG.info("seeded history=%s number=%d", header.history, header.number)
        return self._replayer.facts()

    def _wait(self, message: Message, connection: Connection) -> None:
        deadline = time.monotonic() + float(message.get("limit_seconds") or 60.0)
        waiter = _Waiter(str(message.get("history", "")), int(message["number"]), deadline, connection)
        self._waiters.append(waiter)
        self.answer_waiters()

    def answer_waiters(self) -> None:
        """Answer those whose log is replayed, or whose time is over."""
        marker, waiting = self._replayer.loop.replay.marker, []
        for waiter in self._waiters:
            there = waiter.history in ("", marker.history) and marker.number >= waiter.number
            if there and marker.applying is None:
                waiter.connection.send({"ok": True, **self._replayer.facts()})
            elif time.monotonic() > waiter.deadline:
                state, because = self._replayer.loop.state(self._replayer.receiver.trouble)
                late = NotHealthy(
                    f"the passive has not replayed log {waiter.number} in time",
                    because=f"it is {state} at log {marker.number}{': ' + because if because else ''}",
                    next_step="backupctl status DATABASE",
                )
                waiter.connection.send(error_to_message(late))
            elif not waiter.connection.closed:
                waiting.append(waiter)
        self._waiters = waiting

    def _stop(self, _message: Message, _connection: Connection) -> Message:
        self._replayer.stop()
        return {}
