"""Tells systemd that the service is ready, alive, reloading or stopping; tells nobody where systemd is not."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress


class Notifier:
    """Speaks sd_notify(3) when ``NOTIFY_SOCKET`` is set, and feeds the watchdog half as often again as it bites."""

    def __init__(self) -> None:
        # The library sdnotify has had no release since 2017 and no wheel; the protocol is one datagram.
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        seconds = int(os.environ.get("WATCHDOG_USEC", "0") or 0) / 1e6
        mine = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._every = seconds / 3 if mine else 0.0
        self._next = 0.0

    def ready(self, status: str) -> None:
        """It serves."""
        self._tell(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """The policies are read anew; ``ready`` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It ends."""
        self._tell("STOPPING=1")

    def alive(self, now: float) -> None:
        """The loop goes round; ``now`` in monotonic seconds."""
        if self._every and now >= self._next:
            self._next = now + self._every
            self._tell("WATCHDOG=1")

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_systemd:
            to_systemd.sendto(state.encode(), self._address)
