"""What systemd is told, on a socket as it makes one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.service.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@backupd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.settimeout(30)
        listening.bind("\0" + name[1:] if name.startswith("@") else name)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listening


def test_it_says_when_it_is_ready_and_when_it_stops(systemd: socket.socket) -> None:
    notifier = Notifier()
    notifier.ready("serving 2 databases")
    assert systemd.recv(1000) == b"READY=1\nSTATUS=serving 2 databases"
    notifier.reloading()
    assert systemd.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    notifier.stopping()
    assert systemd.recv(1000) == b"STOPPING=1"


def test_the_watchdog_is_fed_three_times_in_its_period(systemd: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    notifier = Notifier()
    for now in (100.0, 101.0, 109.9, 110.0, 119.0, 120.5):
        notifier.alive(now)
    systemd.setblocking(False)
    assert [systemd.recv(1000) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    with pytest.raises(BlockingIOError):
        systemd.recv(1000)


def test_where_no_systemd_is_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    notifier = Notifier()
    notifier.ready("")
    notifier.alive(1.0)
