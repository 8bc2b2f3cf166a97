"""Which server works in a data directory, by its ``postmaster.pid`` and by what the processes of this host do."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backupd.ports import ProcessUse
from backupd.process import stat_fields

_LOG_TAIL_BYTES = 65536
_COMPLAINT = re.compile(r"(?:FATAL|PANIC|ERROR):\s+(.*)")


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A running server as its ``postmaster.pid`` tells: ``ready`` means that it accepts connections."""

    pid: int
    port: int
    socket_directory: str
    listen_address: str
    status: str

    @property
    def ready(self) -> bool:
        """It accepts connections (a standby: for reading)."""
        return self.status == "ready"


def find_postmaster(data_directory: Path) -> Postmaster | None:
    """The running server of this directory; None when there is none (a stale postmaster.pid is no server)."""
    try:
        lines = (data_directory / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        pid = abs(int(lines[0]))
    except (OSError, ValueError, IndexError):
        return None
    if not _runs_in(pid, data_directory):
        return None
    lines += [""] * 8
    port = int(lines[3]) if lines[3].isdigit() else 0
    return Postmaster(pid, port, lines[4], lines[5], lines[7].strip())


def find_strangers(data_directory: Path) -> tuple[ProcessUse, ...]:
    """PostgreSQL processes that work in this directory and belong to no running postmaster of it."""
    running = find_postmaster(data_directory)
    here = os.path.realpath(data_directory)
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        pid = int(name)
        with suppress(OSError, ValueError, IndexError):
            if os.readlink(f"/proc/{pid}/cwd") != here or "postgres" not in _executable(pid):
                continue
            if running and running.pid in {pid, _parent(pid)}:
                continue
            program, *words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            command = " ".join([os.path.basename(program) if words else program, *words])
            found.append(ProcessUse(pid, command.strip()[:60] or "postgres", here))
    return tuple(found)


def log_file_of(running: Postmaster) -> Path | None:
    """The plain file that a server's own error output goes to; None when it is a pipe or not known."""
    try:
        path = Path(os.readlink(f"/proc/{running.pid}/fd/2"))
    except OSError:
        return None
    return path if path.is_file() else None


def work_done(postmaster_pid: int) -> int:
    """A number that grows while a server or one of its processes works (CPU ticks and bytes that went through)."""
    total = 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        pid = int(name)
        with suppress(OSError, ValueError, IndexError):
            if pid != postmaster_pid and _parent(pid) != postmaster_pid:
                continue
            fields = stat_fields(pid)
            total += int(fields[11]) + int(fields[12])
            with suppress(OSError):
                for line in Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines():
                    if line.startswith(("rchar", "wchar", "read_bytes", "write_bytes")):
                        total += int(line.split()[1])
    return total


def complaint(text: str) -> str:
    """The last thing that a server's log complains about; empty when it does not."""
    found = _COMPLAINT.findall(text)
    return found[-1].strip() if found else ""


def read_tail(path: Path, offset: int = 0) -> str:
    """What was written to a log after ``offset``, the last 64 KiB at most; empty when it cannot be read."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(offset, end - _LOG_TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _runs_in(pid: int, data_directory: Path) -> bool:
    """A postmaster works in its data directory; a process that has only got its old number does not."""
    try:
        if _state(pid) == "Z":
            return False
        return os.readlink(f"/proc/{pid}/cwd") == os.path.realpath(data_directory)
    except PermissionError:
        return True  # another user's: better to believe the file
    except (OSError, IndexError):
        return False


def _state(pid: int) -> str:
    return stat_fields(pid)[0]


def _parent(pid: int) -> int:
    return int(stat_fields(pid)[1])


def _executable(pid: int) -> str:
    return os.path.basename(os.readlink(f"/proc/{pid}/exe"))


def last_words(text: str) -> str:
    """Why a server ended: its last complaint, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return complaint(text) or (lines[-1] if lines else "")
