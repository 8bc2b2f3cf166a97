"""The page as it is served: on this host alone, until it is stopped; elsewhere only with a token and TLS."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs starlette: pip install '.[service,test]'")
from pydantic import ValidationError

from backupd.errors import ConfigInvalid, NotHealthy
from backupd.policy.load import load_service_config
from backupd.policy.web import WebOptions
from backupd.service.board import Seen
from backupd.service.web.events import LISTENERS_MAX
from backupd.service.web.server import PageServer
from tests.service.web.showroom import NOW, ShowDesk, healthy, showroom


@contextmanager
def serving(desk: ShowDesk, **options: Any) -> Iterator[PageServer]:
    server = PageServer(desk, WebOptions.model_validate({"listen": "127.0.0.1:0", **options}), "db1")
    server.start()
    try:
        yield server
    finally:
        server.stop()


def port_of(server: PageServer) -> int:
    return int(server.address.rstrip("/").rpartition(":")[2])


def get(server: PageServer, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_it_listens_on_loopback_alone_by_default() -> None:
    assert WebOptions().listen == "127.0.0.1:8630"
    with serving(showroom(1, broken=False)) as server:
        assert get(server, "/healthz")[0] == 200
        wanted = f":{port_of(server):04X}"
        listening = [
            line.split()[1]
            for name in ("tcp", "tcp6")
            if Path(f"/proc/net/{name}").exists()
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
            if line.split()[3] == "0A" and line.split()[1].endswith(wanted)
        ]
        assert listening == [f"0100007F{wanted}"]


def test_it_ends_when_it_is_told_to_though_pages_listen() -> None:
    desk = showroom(1, broken=False)
    with serving(desk) as server:
        connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=20)
        connection.request("GET", "/events")
        answer = connection.getresponse()
        assert answer.getheader("content-type", "").startswith("text/event-stream")
        assert answer.readline() == b"event: board\n"
        threads = [one for one in threading.enumerate() if one.name == "page"]
    assert not any(one.is_alive() for one in threads)


def test_news_on_the_board_reach_who_listens() -> None:
    desk = showroom(1, broken=False)
    with serving(desk) as server:
        connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=20)
        connection.request("GET", "/events")
        answer = connection.getresponse()
        first = [answer.readline() for _ in range(3)]
        desk.board.put(Seen("orders", NOW, healthy("orders")))
        second = [answer.readline() for _ in range(3)]
        assert (first[1], second[1]) == (b"data: 1\n", b"data: 2\n")


def test_so_many_may_listen_and_no_more() -> None:
    with serving(showroom(1, broken=False)) as server:
        server.app.state.announcer.listeners = LISTENERS_MAX
        assert get(server, "/events")[0] == 503
        assert get(server, "/healthz")[0] == 200


def test_an_address_that_is_taken_is_told_in_three_lines() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = PageServer(ShowDesk([]), WebOptions(listen=f"127.0.0.1:{taken.getsockname()[1]}"), "db1")
        with pytest.raises(NotHealthy, match="cannot listen"):
            server.start()
        server.stop()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('listen = "0.0.0.0:8630"', "needs token, tls_certificate, tls_key"),
        ('listen = "0.0.0.0:8630"\ntoken = "env:T"', "needs tls_certificate, tls_key"),
        ('listen = "[::]:8630"\ntls_certificate = "/c"\ntls_key = "/k"', "needs token"),
        ('tls_certificate = "/c"', "go together"),
        ('tls_client_ca = "/c"', "tls_client_ca needs"),
        ('listen = "8630"', "write it like 127.0.0.1:8630"),
        ('listen = "db1:8630"', "write it like"),
        ('listen = "127.0.0.1:99999"', "write it like"),
        ('token = "hunter2-hunter2"', "never stands in this file"),
    ],
)
def test_a_config_that_would_open_the_page_to_all_is_refused(tmp_path: Path, table: str, says: str) -> None:
    config = tmp_path / "backupd.toml"
    config.write_text(f"[service]\n{table}\n")
    with pytest.raises(ConfigInvalid) as caught:
        load_service_config(config)
    assert says in caught.value.because
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.1.2.3:1", "[::1]:8630", "localhost:8630", ""])
def test_loopback_needs_nothing(listen: str) -> None:
    assert WebOptions(listen=listen).is_loopback


def test_a_token_that_could_be_guessed_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKUPD_TEST_TOKEN", "short")
    options = WebOptions.model_validate({"token": "env:BACKUPD_TEST_TOKEN"})
    with pytest.raises(ConfigInvalid, match="cannot be used") as caught:
        PageServer(ShowDesk([]), options, "db1")
    assert "'short'" not in str(caught.value)


def test_options_are_values() -> None:
    with pytest.raises(ValidationError):
        WebOptions().listen = "0.0.0.0:1"


@pytest.fixture(name="pems", scope="module")
def some_certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, the service's certificate and a client's, by the openssl command."""
    here = tmp_path_factory.mktemp("pems")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=here, check=True, capture_output=True)

    try:
        openssl(
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=ca",
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
        )
        for name in ("service", "client"):
            openssl(
                "req",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-subj",
                f"/CN={name}",
                "-keyout",
                f"{name}.key",
                "-out",
                f"{name}.csr",
            )
            (here / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
            openssl(
                "x509",
                "-req",
                "-in",
                f"{name}.csr",
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                "ext",
                "-out",
                f"{name}.pem",
            )
    except FileNotFoundError:
        pytest.skip("needs the openssl command")
    return here


def test_with_a_client_authority_only_its_clients_are_let_in(pems: Path) -> None:
    options = {
        "tls_certificate": str(pems / "service.pem"),
        "tls_key": str(pems / "service.key"),
        "tls_client_ca": str(pems / "ca.pem"),
    }
    with serving(showroom(1, broken=False), **options) as server:
        assert server.address.startswith("https://")
        known = ssl.create_default_context(cafile=str(pems / "ca.pem"))
        known.load_cert_chain(pems / "client.pem", pems / "client.key")
        connection = http.client.HTTPSConnection("127.0.0.1", port_of(server), context=known, timeout=20)
        connection.request("GET", "/api/databases")
        assert json.loads(connection.getresponse().read())["databases"]
        stranger = ssl.create_default_context(cafile=str(pems / "ca.pem"))
        connection = http.client.HTTPSConnection("127.0.0.1", port_of(server), context=stranger, timeout=20)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _ask(connection)


def _ask(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", "/api/databases")
    connection.getresponse()


def test_a_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("no certificate")
    options = WebOptions(tls_certificate=str(tmp_path / "c.pem"), tls_key=str(tmp_path / "k.pem"))
    with pytest.raises(ConfigInvalid, match="certificate cannot be used"):
        PageServer(ShowDesk([]), options, "db1")


def test_a_slow_body_does_not_keep_the_service_from_others() -> None:
    with serving(showroom(1, broken=False)) as server:
        slow = socket.create_connection(("127.0.0.1", port_of(server)), timeout=20)
        slow.sendall(b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nx")
        for _ in range(3):
            assert get(server, "/healthz")[0] == 200
            time.sleep(0.01)
        slow.close()
