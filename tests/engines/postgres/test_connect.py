"""Talking to real servers: what comes back, and what is said when it does not work."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import pytest

from backupd.demo.postgres_server import free_port
from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres.connect import connect
from backupd.errors import BackupdError, ConfigInvalid, NotHealthy
from tests.pg_pairs import PairFactory, server_of

pytestmark = pytest.mark.real
SECRET = "hunter2-secret"


def three_lines(error: BackupdError) -> str:
    text = "\n".join(error.lines())
    assert len(error.lines()) == 3
    assert all("\n" not in line for line in error.lines())
    assert SECRET not in text + repr(error.details) + str(error)
    return text


def test_rows_are_dicts_and_times_are_utc(pg_pair: PgPair) -> None:
    with server_of(pg_pair, "a") as server:
        row = server.row("SELECT %s::int + 1 AS two, '0/3000028'::pg_lsn AS lsn, now() AS at", 1)
        assert row["two"] == 2
        assert row["lsn"] == "0/3000028"
        assert abs((datetime.now(UTC) - row["at"]).total_seconds()) < 60
        assert row["at"].utcoffset().total_seconds() == 0
        assert server.rows("SELECT generate_series(1, 3) AS n") == [{"n": 1}, {"n": 2}, {"n": 3}]
        assert server.value("SELECT 'x%y' LIKE 'x%'") is True  # no argument: nothing is a placeholder
        assert server.value("SELECT 1 WHERE false") is None
        assert server.value("SELECT current_setting('application_name')") == "backupd"
        assert server.version_number // 10000 in range(14, 19)
        assert server.alive
    assert not server.alive


def test_what_the_server_does_not_do_is_told_with_its_code(pg_pair: PgPair) -> None:
    with server_of(pg_pair, "passive") as server:
        with pytest.raises(NotHealthy) as refused:
            server.run("SELECT pg_switch_wal()")
        assert refused.value.details["sqlstate"] == "55000"
        assert "recovery is in progress" in three_lines(refused.value)
        with pytest.raises(NotHealthy, match="no row"):
            server.row("SELECT 1 WHERE false")
        assert server.alive


def test_a_statement_has_its_limit_and_may_get_a_longer_one(pg_pair: PgPair) -> None:
    with server_of(pg_pair, "a", seconds_max=0.3) as server:
        with pytest.raises(NotHealthy, match="was not done within") as late:
            server.run("SELECT pg_sleep(5)")
        assert late.value.details["sqlstate"] == "57014"
        with server.patient(30):
            server.run("SELECT pg_sleep(0.6)")
            server.run("CHECKPOINT")
        with pytest.raises(NotHealthy, match="was not done within"):
            server.run("SELECT pg_sleep(5)")


def test_a_connection_that_was_cut_is_lost(pg_pair: PgPair) -> None:
    with server_of(pg_pair, "a") as server:
        pg_pair.a.psql(f"SELECT pg_terminate_backend({server.backend_pid})")
        with pytest.raises(NotHealthy, match="lost the connection to copy a") as lost:
            server.run("SELECT 1")
        three_lines(lost.value)
        assert not server.alive


def test_a_server_that_is_stuck_does_not_hold_us(make_pair: PairFactory) -> None:
    pair = make_pair(standby=False)
    with server_of(pair, "a", seconds_max=0.5) as server:
        pair.a.freeze_process(frozen=True)
        began = time.monotonic()
        try:
            with pytest.raises(NotHealthy, match="lost the connection"):
                server.run("SELECT 1")
            assert time.monotonic() - began < 5
            with pytest.raises(NotHealthy, match="cannot connect"):
                server_of(pair, "a", seconds_max=0.5)
        finally:
            pair.a.freeze_process(frozen=False)


def test_who_may_not_come_in_is_told_what_to_correct(pg_pair: PgPair) -> None:
    pair = pg_pair
    where = f"host=127.0.0.1 port={pair.a.port}"
    good = pair.a.add_password_user("connect_test", SECRET)
    pair.a.ask_password_of("connect_rejected", "reject")
    with connect(good) as server:
        assert server.value("SELECT current_user") == "connect_test"
        with pytest.raises(ConfigInvalid, match="may not do that") as denied:
            server.run("SELECT pg_switch_wal()")
        assert denied.value.details["sqlstate"] == "42501"
    wrong = {
        f"{where} user=connect_test password={SECRET}-not": "password authentication failed",
        f"{where} user=connect_test": "password",
        f"{where} user=connect_rejected password={SECRET}": "pg_hba.conf",
        f"{where} user=nobody_there": 'role "nobody_there" does not exist',
        f"{where} user=postgres dbname=no_such": 'database "no_such" does not exist',
    }
    for conninfo, says in wrong.items():
        with pytest.raises(ConfigInvalid) as refused:
            connect(conninfo, copy="a")
        assert says in refused.value.because, conninfo
        assert "copy a at 127.0.0.1" in three_lines(refused.value)


@pytest.mark.parametrize("conninfo", [f"host=x passwrd={SECRET}", SECRET, f"postgresql://me:{SECRET}@[x"])
def test_a_conninfo_that_is_none_is_not_repeated(conninfo: str) -> None:
    with pytest.raises(ConfigInvalid, match="conninfo of copy b cannot be read") as wrong:
        connect(conninfo, copy="b")
    three_lines(wrong.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [("port=12x", "12x"), ("port=99999", "99999"), ("sslmode=bogus", "bogus"), ("service=nope", "nope")],
)
def test_a_word_of_the_conninfo_that_is_off_is_named(words: str, says: str) -> None:
    with pytest.raises(ConfigInvalid) as wrong:
        connect(f"host=127.0.0.1 password={SECRET} {words}")
    assert says in wrong.value.because
    three_lines(wrong.value)


def test_nobody_there() -> None:
    port = free_port()
    with pytest.raises(NotHealthy, match="cannot connect") as away:
        connect(f"host=127.0.0.1 port={port} user=me password={SECRET}", copy="a")
    assert "refused" in three_lines(away.value)


def test_without_the_driver_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigInvalid) as missing:
        connect("host=x")
    assert missing.value.next_step == "pip install 'backupd[postgres]'"


def test_the_driver_is_loaded_only_when_it_is_needed() -> None:
    code = "import sys, backupd.engines.postgres.status, backupd.engines.postgres.look; print('psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@contextmanager
def listener(answer: bytes) -> Iterator[int]:
    """Something that takes connections and gives this answer to a start, as a server would; ``b""``: none, ever."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                line = door.accept()[0]
                lines.append(line)
                while line.recv(4096)[4:8] == b"\x04\xd2\x16\x2f":  # asks for TLS
                    line.sendall(b"N")
                if answer:
                    line.sendall(answer)
                    line.close()

    lines: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield door.getsockname()[1]
        finally:
            door.shutdown(socket.SHUT_RDWR)
            for line in lines:
                line.close()


def fatal(code: str, text: str) -> bytes:
    fields = f"SFATAL\0VFATAL\0C{code}\0M{text}\0\0".encode()
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("57P03", "the database system is starting up"),
        ("57P03", "the database system is not yet accepting connections"),
        ("53300", 'too many connections for role "backupd"'),
        ("53300", "sorry, too many clients already"),
    ],
)
def test_a_server_that_takes_no_connections_now_is_not_misconfigured(code: str, text: str) -> None:
    with listener(fatal(code, text)) as port, pytest.raises(NotHealthy, match="cannot connect") as not_now:
        connect(f"host=127.0.0.1 port={port} sslmode=disable", copy="a")
    assert text in not_now.value.because


def test_a_listener_that_says_nothing_is_given_up() -> None:
    began = time.monotonic()
    with listener(b"") as port, pytest.raises(NotHealthy, match="cannot connect"):
        connect(f"host=127.0.0.1 port={port}", seconds_max=0.5)
    assert time.monotonic() - began < 4
