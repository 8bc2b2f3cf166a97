"""Who writes: host, boot and process; and whether such a writer is certainly gone."""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from backupd.process import started_ticks


@dataclass(frozen=True, slots=True)
class Holder:
    """A process on a host; ``boot_id`` tells two lives of the host apart, ``started`` two of a pid (clock ticks).

    ``machine`` tells two hosts of one name apart; it is empty where the host has no id.
    """

    host: str
    boot_id: str
    pid: int
    started: int
    machine: str = ""

    def to_json(self) -> dict[str, object]:
        """For an intent."""
        return asdict(self)

    def is_gone(self) -> bool:
        """Whether it certainly runs no more; False for a holder on another host, of which we know nothing."""
        if not self.is_of_this_host():
            return False
        return self.boot_id != _boot_id() or _started(self.pid) != self.started

    def is_of_this_host(self) -> bool:
        """Whether it is on this host."""
        return self.host == platform.node() and self.machine in {"", _machine()}


def this_process() -> Holder:
    """Us."""
    return Holder(platform.node(), _boot_id(), os.getpid(), _started(os.getpid()), _machine())


def this_boot() -> str:
    """The kernel's name of this boot of this host; the monotonic clock counts from it. Empty where it has none."""
    return _boot_id()


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


@cache
def _machine() -> str:
    """A digest of the host's id, which itself is not for others (machine-id(5)); empty where there is none."""
    try:
        told = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
    return hashlib.sha256(f"backupd {told}".encode()).hexdigest()[:16] if told else ""


def _started(pid: int) -> int:
    """When the process began, in ticks since the boot; 0 when there is none, or it is a zombie."""
    return started_ticks(pid) or 0
