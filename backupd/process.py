"""Which process this is, so that a later one can tell whether it still lives."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of one boot of one host.

    A pid alone is reused; with ``started_ticks`` (clock ticks after the boot)
    and ``boot_id`` it names one process for ever.
    """

    pid: int
    started_ticks: int
    boot_id: str
    host: str


@lru_cache(maxsize=1)
def boot_id() -> str:
    """The kernel's random name of this boot. Source: proc_sys_kernel(5)."""
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def stat_fields(pid: int) -> list[str]:
    """What the kernel says of ``pid`` from its state on, which is field 3. Raises OSError: there is no such process.

    Source: proc_pid_stat(5); counted after the command's last parenthesis, because the
    command may hold blanks and parentheses itself.
    """
    text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


def started_ticks(pid: int) -> int | None:
    """When ``pid`` started, in clock ticks after the boot; None when there is no such process, or it is a zombie."""
    try:
        fields = stat_fields(pid)
    except OSError:
        return None
    # A zombie holds no file, no lock and will never write again: it is as dead as can be.
    if fields[0] in {"Z", "X"}:
        return None
    return int(fields[19])


def command_of(pid: int) -> str:
    """The command line of ``pid`` for a person to read; its short name for a kernel thread, ``?`` when not known."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        text = b" ".join(word for word in words if word).decode("utf-8", "replace")
        return text or (_PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip() or "?"
    except OSError:
        return "?"


def this_process() -> ProcessIdentity:
    """The identity of the calling process."""
    pid = os.getpid()
    return ProcessIdentity(
        pid=pid,
        started_ticks=started_ticks(pid) or 0,
        boot_id=boot_id(),
        host=socket.gethostname(),
    )


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether that very process still runs on this machine.

    The host's name is not asked: it may change, and the boot id says more.  A
    process inside another pid namespace looks dead from here; the lease, which
    is the kernel's, protects it all the same.
    """
    if identity.boot_id != boot_id():
        return False
    return started_ticks(identity.pid) == identity.started_ticks


def mark_of_process() -> str:
    """Our host, boot, pid and start, for the names of what goes with this process: see ``lives_by_mark``."""
    us = this_process()
    return f"{_digits(platform.node())}-{_digits(us.boot_id)}-{us.pid}-{us.started_ticks}"


def lives_by_mark(name: str) -> bool | None:
    """Whether the process still lives by whose mark a name begins; None for no mark, or one of another host."""
    host, boot, pid, started, *_ = (*name.split("-"), "", "", "", "")
    if host != _digits(platform.node()) or not pid.isdigit() or not started.isdigit():
        return None
    return boot == _digits(boot_id()) and (started_ticks(int(pid)) or 0) == int(started)


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
