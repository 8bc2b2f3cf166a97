"""Who writes: host, boot and process; and whether such a writer is certainly gone."""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from backupd.process import stat_fields


@dataclass(frozen=True, slots=True)
class Holder:
    """A process on a host; ``boot_id`` tells two lives of the host apart, ``started`` two of a pid (clock ticks)."""

    host: str
    boot_id: str
    pid: int
    started: int

    def to_json(self) -> dict[str, object]:
        """For an intent."""
        return asdict(self)

    def is_gone(self) -> bool:
        """Whether it certainly runs no more; False for a holder on another host, of which we know nothing."""
        if self.host != platform.node():
            return False
        return self.boot_id != _boot_id() or _started(self.pid) != self.started

    def is_of_this_host(self) -> bool:
        """Whether it is on this host."""
        return self.host == platform.node()


def this_process() -> Holder:
    """Us."""
    return Holder(platform.node(), _boot_id(), os.getpid(), _started(os.getpid()))


def mark_of_process() -> str:
    """Our host, boot, pid and start, for the names of temporary files."""
    us = this_process()
    return f"{_digits(us.host)}-{_digits(us.boot_id)}-{us.pid}-{us.started}"


def left_by_the_dead(file_name: str) -> bool:
    """Whether a file whose name begins with such a mark is of this host and of a process that is gone."""
    host, boot, pid, started, *_ = (*file_name.split("-"), "", "", "", "")
    us = this_process()
    if host != _digits(us.host) or not pid.isdigit() or not started.isdigit():
        return False
    return boot != _digits(us.boot_id) or Holder(us.host, us.boot_id, int(pid), int(started)).is_gone()


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started(pid: int) -> int:
    """When the process began, in ticks since the boot (proc(5), field 22); 0 when there is none."""
    try:
        return int(stat_fields(pid)[19])
    except OSError:
        return 0
