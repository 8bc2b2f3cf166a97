"""The service as ``backupctl init`` leaves it: it listens on loopback alone, and nobody without a token changes it."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import re
import socket
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs starlette: pip install '.[service,test]'")
from tests.soak.house import Installation

pytestmark = pytest.mark.slow

PAGE = ("127.0.0.1", 8630)  # what README says; written here again, so that another default is noticed
TOKEN = "a-token-of-the-tests-only"
# States of /proc/net/tcp and udp: LISTEN, and for UDP a socket that takes from anybody.
LISTENS = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Installation]:
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            line.bind(PAGE)
        except OSError:
            pytest.skip(f"needs {PAGE[0]}:{PAGE[1]}, where another process of this host listens")
    home = Installation(tmp_path, log_file_seconds_max=0.2)
    home.init()
    config = home.config.read_text()
    home.config.write_text(config.removesuffix('listen = ""\nschedule = false\n'))
    assert home.config.read_text() != config
    with contextlib.closing(sqlite3.connect(home.active)) as connection:
        connection.execute("pragma journal_mode=wal")
        connection.execute("create table t (x)")
    yield home
    home.stop_service()


def tree(root: int) -> set[int]:
    """The process and all that came from it, also what has a session of its own."""
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(") ")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def sockets_of(pid: int) -> set[str]:
    """The inodes of the sockets that a process has open."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if match := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{name}")):
                    found.add(match[1])
    return found


def address_of(text: str) -> tuple[str, int]:
    """``0100007F:21B6`` of /proc/net as address and port: words of four bytes in the host's own order."""
    words, _, port = text.partition(":")
    packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    return str(ipaddress.ip_address(packed)), int(port, 16)


def listening(pids: set[int]) -> set[tuple[str, str, int]]:
    """Protocol, address and port of every socket of these processes that takes what others send."""
    own = set().union(*(sockets_of(pid) for pid in pids))
    found = set()
    for protocol, state in LISTENS.items():
        table = Path(f"/proc/net/{protocol}")
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            if fields[3] == state and fields[9] in own:
                found.add((protocol, *address_of(fields[1])))
    return found


def ask(method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*PAGE, timeout=60)
    with contextlib.closing(connection):
        sent = None if body is None else json.dumps(body)
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, sent, {"Content-Type": "application/json", **more})
        answer = connection.getresponse()
        return answer.status, answer.read()


def is_open() -> bool:
    try:
        return ask("GET", "/healthz")[0] == 200
    except OSError:
        return False


def changes() -> list[str]:
    """Every address that the running service itself describes as one that changes something."""
    paths = json.loads(ask("GET", "/openapi.json")[1])["paths"]
    found = [path for path, what in paths.items() if set(what) & {"post", "put", "patch", "delete"}]
    assert found, "the description names no changing request"
    return [path.format(database="orders", backup="20260101T000000Z-full-00000000") for path in found]


def members(home: Installation) -> set[int]:
    """The service's tree, and capture and replay, which outlive it."""
    assert home.service is not None
    roles = home.processes()
    assert {"service", "capture", "replayer"} <= set(roles)
    return set().union(*(tree(pid) for pid in roles.values()))


def test_as_shipped_it_listens_where_the_readme_says_and_nowhere_else(home: Installation) -> None:
    home.start_service()
    home.wait("the page", is_open)
    home.wait_healthy()
    assert listening(members(home)) == {("tcp", *PAGE)}
    done = home.ctl("backup", "orders", "--type", "full")
    assert done.returncode == 0, done.stderr
    assert listening(members(home)) == {("tcp", *PAGE)}
    assert "http://{}:{}/".format(*PAGE) in (Path(__file__).parents[2] / "README.md").read_text()


def test_a_socket_that_others_reach_would_be_found() -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        udp.bind(("127.0.0.1", 0))
        found = listening({os.getpid()})
        assert {("tcp", *tcp.getsockname()), ("udp", *udp.getsockname())} <= found
    assert address_of("00000000:21B6") == ("0.0.0.0", 8630)
    assert address_of("00000000000000000000000001000000:21B6") == ("::1", 8630)


def test_as_shipped_every_changing_request_is_refused(home: Installation) -> None:
    home.start_service()
    home.wait("the page", is_open)
    home.wait_healthy()
    for path in changes():
        for given in ({}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {TOKEN}"}):
            assert ask("POST", path, {}, **given)[0] in {401, 403}, path
    assert home.ctl_json("status")["databases"][0]["running"] is None


def test_with_a_token_in_the_config_only_who_has_it_and_comes_from_no_other_site_may_act(home: Installation) -> None:
    secret = home.root / "token"
    secret.write_text(TOKEN)
    secret.chmod(0o600)
    home.config.write_text(f'{home.config.read_text()}token = "file:{secret}"\n')
    home.start_service()
    home.wait("the page", is_open)
    home.wait_healthy()
    signed = {"Authorization": f"Bearer {TOKEN}"}
    for path in changes():
        assert ask("POST", path, {})[0] == 401, path
        assert ask("POST", path, {}, Authorization="Bearer " + "x" * 20)[0] == 401, path
        assert ask("POST", path, {}, Origin="http://elsewhere.example", **signed)[0] == 403, path
        assert ask("POST", path, {}, Sec_Fetch_Site="cross-site", **signed)[0] == 403, path
        assert ask("POST", path, {}, Host="elsewhere.example", **signed)[0] == 421, path
    assert ask("POST", "/api/databases/orders/suspend", {"comment": "tried"}, **signed)[0] == 200
    assert ask("POST", "/api/databases/orders/resume", {}, **signed)[0] == 200
    # A browser's form carries the mark of its session besides; a cookie without the mark is not enough.
    connection = http.client.HTTPConnection(*PAGE, timeout=60)
    with contextlib.closing(connection):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/login", f"token={TOKEN}", form)
        answer = connection.getresponse()
        answer.read()
        cookie = (answer.getheader("set-cookie") or "").partition(";")[0]
        assert cookie
        connection.request("POST", "/databases/orders/suspend", "comment=x", {**form, "Cookie": cookie})
        assert connection.getresponse().status == 401
    assert TOKEN not in (home.root / "service.log").read_text()
