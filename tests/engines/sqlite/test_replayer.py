"""The passive's process: it follows the active, pauses when asked, and ends by itself."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backupd.engines.sqlite.control import Connection, ControlClient, ControlServer, Message
from backupd.engines.sqlite.pagemap import PageMap, load_map
from backupd.errors import Busy, NotHealthy
from tests.engines.sqlite.cutting import Active


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for a condition; the limit only ends a test that has failed."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return value


class FakeCapture:
    """The socket of a capture process, with its real protocol."""

    def __init__(self, path: Path, active: Active) -> None:
        self.active = active
        self.asked: list[Message] = []
        self.subscribers: list[Connection] = []
        self.server = ControlServer(path, {"subscribe": self._subscribe, "ack": self._note, "need_seed": self._note})
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended.is_set():
            self.server.poll(0.02)
        self.server.close()

    def _subscribe(self, message: Message, connection: Connection) -> Message:
        self.subscribers.append(connection)
        return {"history": self.active.history}

    def _note(self, message: Message, connection: Connection) -> Message:
        self.asked.append(message)
        return {}

    def tell(self) -> None:
        """Push the newest log."""
        assert self.active.last is not None
        header = self.active.last.header
        for one in self.subscribers:
            one.send({"event": "log", "history": header.history, "number": header.number})

    def acknowledged(self) -> tuple[str, int]:
        acks = [one for one in self.asked if one["op"] == "ack"]
        return (acks[-1]["history"], acks[-1]["number"]) if acks else ("", 0)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


class Passive:
    """A replay process and what a test needs to speak with it."""

    def __init__(self, directory: Path, active: Active) -> None:
        self.active = active
        self.path = directory / "passive.db"
        self.state_dir = directory / "b"
        self.state_dir.mkdir(exist_ok=True)
        self.socket = self.state_dir / "replay.sock"
        self.config = directory / "replay-config.json"
        self.config.write_text(
            json.dumps(
                {
                    "database": "orders",
                    "copy": "b",
                    "db_path": str(self.path),
                    "state_dir": str(self.state_dir),
                    "source_log_dir": str(active.logs.root),
                    "capture_socket": str(directory / "capture.sock"),
                    "control_socket": str(self.socket),
                }
            )
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, fault: str = "") -> None:
        command = [sys.executable, "-m", "backupd.engines.sqlite.replayer", str(self.config)]
        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()
        env = {**os.environ, "BACKUPD_FAULT": fault} if fault else None
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, env=env)
        if not fault:
            until(self._answers)

    def _answers(self) -> bool:
        """The socket is there a moment before anybody listens to it."""
        with contextlib.suppress(NotHealthy), self.client():
            return True
        return False

    def client(self) -> ControlClient:
        return ControlClient(self.socket, who="the replay process")

    def call(self, op: str, **arguments: Any) -> Message:
        with self.client() as client:
            return client.call(op, timeout_seconds=20.0, **arguments)

    def seed(self) -> None:
        closed, seed = self.active.seed()
        moved = self.path.with_name("passive.db.backupd-seed")
        shutil.copy(seed, moved)
        answer = self.call("adopt_seed", seed_path=str(moved), log_path=str(closed.path))
        assert answer["state"] == "healthy"

    def wait(self) -> Message:
        assert self.active.last is not None
        header = self.active.last.header
        return self.call("wait", history=header.history, number=header.number, limit_seconds=15.0)

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)


@pytest.fixture
def active(tmp_path: Path) -> Active:
    made = Active(tmp_path / "a")
    made.write()
    return made


@pytest.fixture
def capture(tmp_path: Path, active: Active) -> Iterator[FakeCapture]:
    made = FakeCapture(tmp_path / "capture.sock", active)
    yield made
    made.close()


@pytest.fixture
def passive(tmp_path: Path, active: Active) -> Iterator[Passive]:
    made = Passive(tmp_path, active)
    made.start()
    yield made
    assert made.process is not None
    made.process.kill()
    made.process.wait()


def test_asks_for_a_seed_and_follows_the_active(passive: Passive, active: Active, capture: FakeCapture) -> None:
    until(lambda: any(one["op"] == "need_seed" for one in capture.asked))
    assert passive.call("status")["state"] == "initializing"
    passive.seed()
    assert passive.path.read_bytes() == active.content()
    for _ in range(5):
        active.write(30)
        active.cut()
        capture.tell()
    status = passive.wait()
    assert passive.path.read_bytes() == active.content()
    assert status["state"] == "healthy"
    assert status["replay_queue_logs"] == 0
    assert status["held_log_count"] == 6
    until(lambda: capture.acknowledged() == (active.history, 6))
    assert passive.call("status")["copy_queue_logs"] == 0
    assert passive.stop() == 0
    assert load_map(passive.state_dir / "replay.map").number == 6


def test_polls_when_nobody_tells(passive: Passive, active: Active) -> None:
    passive.seed()
    active.write()
    active.cut()
    passive.wait()
    assert passive.path.read_bytes() == active.content()


def test_a_freeze_holds_the_file_and_thaws(passive: Passive, active: Active, capture: FakeCapture) -> None:
    passive.seed()
    frozen_content = active.content()
    with passive.client() as client:
        answer = client.call("freeze", limit_seconds=20)
        active.write()
        active.cut()
        capture.tell()
        until(lambda: passive.call("status")["replay_queue_logs"] == 1)
        assert passive.path.read_bytes() == frozen_content
        assert passive.call("status")["frozen"]
        with pytest.raises(Busy):
            passive.call("freeze", limit_seconds=20)
        found = load_map(Path(answer["map_path"]))
        assert f"{found.map.checksum:016x}" == answer["checksum"]
        assert PageMap.of_file(passive.path, 4096).checksum == found.map.checksum
        assert answer["position"] == f"{active.history}/{answer['offset']}"
        assert answer["pages"] * answer["page_bytes"] == len(frozen_content)
        ended = client.call("thaw")
        assert ended["held"]
        assert ended["frozen_seconds"] > 0
        passive.wait()
        assert client.call("thaw")["frozen_seconds"] == ended["frozen_seconds"]
    assert passive.path.read_bytes() == active.content()


def test_a_freeze_ends_with_its_connection(passive: Passive, active: Active) -> None:
    passive.seed()
    client = passive.client()
    client.call("freeze", limit_seconds=600)
    active.write()
    active.cut()
    client.close()
    passive.wait()
    assert not passive.call("status")["frozen"]


def test_a_freeze_ends_by_its_limit_and_says_so(passive: Passive, active: Active) -> None:
    passive.seed()
    with passive.client() as client:
        client.call("freeze", limit_seconds=0.2)
        active.write()
        active.cut()
        passive.wait()
        ended = client.call("thaw")
    assert not ended["held"]
    assert ended["frozen_seconds"] >= 0.2


def test_a_freeze_of_a_killed_process_ends(passive: Passive, active: Active) -> None:
    passive.seed()
    code = (
        "import sys, time; from pathlib import Path; from backupd.engines.sqlite.control import ControlClient\n"
        "c = ControlClient(Path(sys.argv[1]), who='x'); c.call('freeze', limit_seconds=600)\n"
        "print('frozen', flush=True)\n"
        "time.sleep(600)"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(passive.socket)], stdout=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stdout.readline() == b"frozen\n"
    assert passive.call("status")["frozen"]
    run.kill()
    run.wait()
    until(lambda: not passive.call("status")["frozen"])


def test_suspended_survives_a_restart_and_nothing_moves(passive: Passive, active: Active) -> None:
    passive.seed()
    assert passive.call("suspend", comment="moving disks")["state"] == "suspended"
    active.write()
    active.cut()
    passive.stop()
    passive.start()
    status = until(lambda: (s := passive.call("status"))["state"] == "suspended" and s)
    assert status["because"] == "moving disks"
    assert status["inspected"]["number"] == 1
    with pytest.raises(NotHealthy, match="cannot freeze"):
        passive.call("freeze", limit_seconds=1)
    passive.call("resume")
    passive.wait()
    assert passive.path.read_bytes() == active.content()


def test_a_suspect_copy_stays_suspect_until_it_is_seeded(passive: Passive, active: Active) -> None:
    passive.seed()
    assert passive.call("mark_suspect", because="page 3 is bad")["state"] == "suspect"
    active.write()
    active.cut()
    passive.stop()
    passive.start()
    until(lambda: passive.call("status")["inspected"]["number"] == 2)  # log is kept safe all the same
    assert passive.call("status")["replayed"]["number"] == 1
    with pytest.raises(NotHealthy, match="cannot freeze"):
        passive.call("freeze", limit_seconds=1)
    active.write()
    active.cut()
    passive.seed()
    assert passive.path.read_bytes() == active.content()
    active.write()
    active.cut()
    passive.wait()
    assert passive.path.read_bytes() == active.content()


def test_a_foreign_change_is_seen_at_the_next_log(passive: Passive, active: Active) -> None:
    passive.seed()
    with open(passive.path, "ab") as file:
        file.write(b"x")
    active.write()
    active.cut()
    status = until(lambda: (s := passive.call("status"))["state"] == "suspect" and s)
    assert "changed by somebody else" in status["because"]


def test_a_log_that_stays_damaged_asks_for_a_seed(passive: Passive, active: Active, capture: FakeCapture) -> None:
    passive.seed()
    active.write()
    closed = active.cut()
    data = bytearray(closed.path.read_bytes())
    data[3000] ^= 1
    closed.path.with_name("damaged").write_bytes(data)
    closed.path.with_name("damaged").rename(closed.path)
    capture.tell()
    status = until(lambda: (s := passive.call("status"))["state"] in ("failed", "healthy") and s["because"] and s)
    assert "stayed damaged" in status["because"]
    until(lambda: any(one["op"] == "need_seed" for one in capture.asked))
    passive.seed()
    assert passive.call("status")["state"] == "healthy"
    assert passive.path.read_bytes() == active.content()


def test_56_a_missing_log_is_loud(passive: Passive, active: Active, capture: FakeCapture) -> None:
    passive.seed()
    passive.call("suspend")
    for _ in range(2):
        active.write()
        active.cut()
    active.logs.history(active.history).path_of(2).unlink()
    passive.call("resume")
    status = until(lambda: (s := passive.call("status"))["state"] == "failed" and s)
    assert "log 2" in status["because"]
    assert status["copy_queue_logs"] == 2


def test_follows_into_a_new_history(passive: Passive, active: Active, capture: FakeCapture) -> None:
    passive.seed()
    active.write()
    active.cut()
    active.write()
    active.fork("ee" * 8, epoch=2)
    capture.tell()
    passive.wait()
    assert passive.path.read_bytes() == active.content()
    assert passive.stop() == 0
    passive.start()
    active.write()
    active.cut()
    passive.wait()
    assert passive.path.read_bytes() == active.content()


def test_truncates_only_what_is_replayed(passive: Passive, active: Active) -> None:
    passive.seed()
    for _ in range(3):
        active.write()
        active.cut()
    passive.wait()
    answer = passive.call("truncate", history=active.history, offset=1 << 40)
    assert answer["removed_logs"] == 3
    assert passive.call("status")["held_log_count"] == 1
    passive.stop()
    passive.start()
    active.write()
    active.cut()
    passive.wait()
    assert passive.path.read_bytes() == active.content()


def test_a_step_that_fails_is_tried_again(tmp_path: Path, active: Active, capture: FakeCapture) -> None:
    passive = Passive(tmp_path, active)
    passive.start()
    passive.seed()
    assert passive.stop() == 0
    active.write()
    active.cut()
    passive.start(fault="fail:1@replay.write")
    until(passive.socket.exists)
    assert passive.wait()["state"] == "healthy"
    assert passive.path.read_bytes() == active.content()
    passive.stop()


def test_ends_when_its_parent_dies(passive: Passive, active: Active) -> None:
    passive.seed()
    assert passive.process is not None
    assert passive.process.stdin is not None
    passive.process.stdin.close()
    assert passive.process.wait(20) == 0
    assert not passive.socket.exists()


@pytest.mark.slow
def test_38_killed_at_many_steps_of_the_process(tmp_path: Path, active: Active, capture: FakeCapture) -> None:
    passive = Passive(tmp_path, active)
    passive.start()
    passive.seed()
    for n in range(2, 40, 3):
        assert passive.process is not None
        passive.process.kill()
        passive.process.wait()
        active.write(10)
        active.cut()
        passive.start(fault=f"die:{n}")
        assert passive.process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert passive.process.wait(1.0) == -signal.SIGKILL
    assert passive.process is not None
    passive.process.kill()
    passive.process.wait()
    passive.start()
    passive.wait()
    until(lambda: passive.call("status")["state"] == "healthy")  # all may have been replayed before it looked around
    assert passive.path.read_bytes() == active.content()
    passive.stop()
