"""Lines of JSON over a socket: answers, failures and events arrive, and the end of a process is seen."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backupd.engines.sqlite.control import Connection, ControlServer
from backupd.engines.sqlite.control_client import ControlClient
from backupd.engines.sqlite.control_wire import LINE_BYTES_MAX, Message
from backupd.errors import BackupdError, Busy, DamageFound, NotFound, NotHealthy, Refused, UsageProblem
from backupd.lines.bound import bind, bound, unbind


class Served:
    """A server in a thread of its own, with what it was asked and who is connected."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections: list[Connection] = []
        self.closed: list[str] = []
        self.failure: BackupdError | None = None
        self.server = ControlServer(
            path,
            {
                "echo": lambda message, _connection: {"said": message["word"]},
                "fail": self._fail,
                "subscribe": self._subscribe,
                "silent": lambda _message, _connection: None,
            },
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            self.server.poll(0.02)
        self.server.close()

    def _fail(self, _message: Message, _connection: Connection) -> Message:
        assert self.failure is not None
        raise self.failure

    def _subscribe(self, message: Message, connection: Connection) -> Message:
        connection.on_close.append(lambda: self.closed.append(message.get("name", "")))
        self.connections.append(connection)
        return {}

    def client(self) -> ControlClient:
        return ControlClient(self.path, who="the server")

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


def until(condition: Callable[[], object]) -> None:
    """Wait for it; the limit only ends a test that has failed."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path / "control.sock")
    yield made
    made.close()


def test_an_answer_comes_back(served: Served) -> None:
    with served.client() as client:
        assert client.call("echo", word="größer")["said"] == "größer"
        assert client.call("echo", word="x" * 200_000)["said"] == "x" * 200_000  # more than one read


@pytest.mark.parametrize("kind", [Busy, DamageFound, NotFound, NotHealthy, Refused, UsageProblem])
def test_a_failure_travels_whole(served: Served, kind: type[BackupdError]) -> None:
    served.failure = kind("cannot do it", because="of this", next_step="do that")
    with served.client() as client, pytest.raises(kind) as failed:
        client.call("fail")
    assert type(failed.value) is kind
    assert (failed.value.problem, failed.value.because, failed.value.next_step) == (
        "cannot do it",
        "of this",
        "do that",
    )


def test_a_failure_of_a_kind_that_only_the_other_side_knows(served: Served) -> None:
    class NewerKind(NotFound):
        """As of a later version."""

    served.failure = NewerKind("cannot do it", because="of this", next_step="do that")
    with served.client() as client, pytest.raises(NotHealthy, match="cannot do it"):
        client.call("fail")


def test_a_request_of_another_version_is_refused_with_a_sentence(served: Served) -> None:
    with served.client() as client:
        with pytest.raises(UsageProblem, match="no such request: later"):
            client.call("later")
        assert client.call("echo", word="still there")["said"] == "still there"


def test_a_long_path_is_no_problem(tmp_path: Path) -> None:
    """A socket's name may have 108 bytes; the directories above it do not count here."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    served = Served(deep / "control.sock")
    try:
        assert stat.S_IMODE(os.stat(served.path).st_mode) == 0o600
        with served.client() as client:
            assert client.call("echo", word="far")["said"] == "far"
    finally:
        served.close()
    assert not served.path.exists()


def test_events_are_pushed_and_kept_in_order_beside_answers(served: Served) -> None:
    with served.client() as client:
        client.call("subscribe")
        for number in (1, 2, 3):
            assert served.connections[0].send({"event": "log", "number": number})
        assert client.call("echo", word="between")["said"] == "between"
        assert [(client.next_event(5.0) or {}).get("number") for _ in range(3)] == [1, 2, 3]
        assert client.next_event(0.01) is None


def test_the_end_of_a_client_is_seen(served: Served) -> None:
    client = served.client()
    client.call("subscribe", name="mine")
    client.close()
    until(lambda: served.closed == ["mine"])
    assert served.connections[0].send({"event": "log"}) is False


def test_the_death_of_a_client_is_seen(served: Served) -> None:
    code = (
        "import pathlib, sys\n"
        "from backupd.engines.sqlite.control_client import ControlClient\n"
        "client = ControlClient(pathlib.Path(sys.argv[1]), who='it')\n"
        "client.call('subscribe', name='killed')\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, served.path], stdin=subprocess.PIPE) as other:
        until(lambda: served.connections)
        assert served.closed == []
        other.send_signal(signal.SIGKILL)
        until(lambda: served.closed == ["killed"])


def test_a_client_that_does_not_read_is_dropped(served: Served) -> None:
    """A line that was sent in part must not be followed by another one."""
    with served.client() as client:
        client.call("subscribe", name="deaf")
        while served.connections[0].send({"event": "log", "padding": "x" * 100_000}):
            pass
        until(lambda: served.closed == ["deaf"])
        assert served.connections[0].send({"event": "log"}) is False


def test_the_end_of_the_server_is_a_sentence(served: Served) -> None:
    client = served.client()
    client.call("subscribe")
    served.close()
    with pytest.raises(NotHealthy, match="lost the connection to the server"):
        client.next_event(5.0)
    with pytest.raises(NotHealthy, match="cannot reach the server"):
        served.client()
    client.close()


def test_no_answer_in_time_is_a_sentence(served: Served) -> None:
    with served.client() as client, pytest.raises(NotHealthy, match="did not answer silent"):
        client.call("silent", timeout_seconds=0.05)


@pytest.mark.parametrize("line", [b"no json\n", b"[1, 2]\n", b"x" * (LINE_BYTES_MAX + 70_000)])
def test_what_is_no_request_ends_only_its_own_connection(served: Served, line: bytes) -> None:
    with served.client() as good, socket.socket(socket.AF_UNIX) as bad:
        bad.connect(str(served.path))
        bad.settimeout(10)
        try:
            bad.sendall(line)
            assert bad.recv(1) == b""
        except (BrokenPipeError, ConnectionResetError):
            pass  # it hung up before it had read all
        assert good.call("echo", word="fine")["said"] == "fine"


def test_a_new_server_takes_the_place_of_a_dead_one(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    served = Served(path)
    try:
        with served.client() as client:
            assert client.call("echo", word="here")["said"] == "here"
    finally:
        served.close()


def test_what_a_process_logs_while_a_run_speaks_to_it_carries_that_runs_id(served: Served) -> None:
    with served.client() as status, served.client() as run:
        status.call("echo", word="x")
        assert bound() == {}
        run.call("echo", word="x", run="r1")
        assert bound() == {"run": "r1"}
        status.call("echo", word="x")
        assert bound() == {"run": "r1"}
    until(lambda: bound() == {})


def test_a_run_says_who_it_is_with_each_request(served: Served) -> None:
    served.server._handlers["whose"] = lambda message, _connection: {"run": message.get("run")}
    with served.client() as client:
        assert client.call("whose")["run"] is None
        bind(run="r2")
        try:
            assert client.call("whose")["run"] == "r2"
        finally:
            unbind("run")
