"""Watches from the outside who holds the write lock of a database, how large its log grows, and what processes weigh.

A process of its own: it asks the kernel (F_GETLK) and opens ``-shm``, which would
cost the locks of any process that also uses the database.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of fcntl(2) on 64-bit Linux
WRITE_LOCK, CHECKPOINT_LOCK, READ_LOCKS = 120, 121, range(124, 128)  # bytes of -shm (sqlite walformat)
OURS = b"\0-m\0backupd."


@dataclass
class Seen:
    """What was seen. Seconds are of one unbroken hold of the write lock, as samples tell: an upper bound.

    ``ours_in_the_way``: the longest time that an application's checkpoint had the write lock in hand and slept
    until read marks of backupd alone would go.
    """

    ours_longest: float = 0.0
    ours_total: float = 0.0
    ours_holds: int = 0
    others_longest: float = 0.0
    ours_in_the_way: float = 0.0
    wal_bytes_max: int = 0
    memory_max: int = 0
    samples: int = 0
    longest_gap: float = 0.0
    slow_holds: list[list[float]] = field(default_factory=list)
    slow_checkpoints: list[list[float]] = field(default_factory=list)

    def told(self) -> str:
        """The figures in words."""
        return (
            f"write lock held by backupd: at most {self.ours_longest:.3f} s, {self.ours_total:.2f} s in all, "
            f"{self.ours_holds} times seen (by others: at most {self.others_longest:.3f} s)\n"
            f"a checkpoint of an application waited for backupd alone: at most {self.ours_in_the_way:.3f} s\n"
            f"largest -wal {self.wal_bytes_max >> 20} MiB; memory of backupd {self.memory_max >> 20} MiB\n"
            f"watcher: {self.samples} samples, longest gap {self.longest_gap:.3f} s; began, seconds of what was slow: "
            f"holds {self.slow_holds}, checkpoints {self.slow_checkpoints}"
        )

    @property
    def waited_for_us(self) -> float:
        """The longest time for which backupd alone kept an application waiting, less what the watcher overslept."""
        return max(self.ours_longest, self.ours_in_the_way) - self.longest_gap


def holder(shm: int, lock: int) -> int:
    """A process that holds this lock now; 0 for none."""
    question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, lock, 1, 0)
    answer = _FLOCK.unpack(fcntl.fcntl(shm, fcntl.F_GETLK, question))
    return 0 if answer[0] == fcntl.F_UNLCK else answer[4]


def readers_in_log(shm: int) -> set[int]:
    """Every process with a lock on read slots 1 to 4; F_GETLK would name only one of those that share a slot."""
    inode, found = f":{os.fstat(shm).st_ino}", set()
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if len(words) >= 8 and words[1] == "POSIX" and words[5].endswith(inode):
            first, last = int(words[6]), READ_LOCKS.stop if words[7] == "EOF" else int(words[7])
            if first < READ_LOCKS.stop and last >= READ_LOCKS.start:
                found.add(int(words[4]))
    return found


def asleep(pid: int) -> bool:
    """Whether the process's first thread sleeps by the clock; also when nobody may know."""
    try:
        where = Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return True
    return "nanosleep" in where or where in {"", "0"}


def command_of(pid: int) -> bytes:
    """Its command line; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def processes_of(word: bytes) -> list[int]:
    """All processes of backupd with ``word`` in their command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            command = command_of(int(name))
            if word in command and OURS in command and not command.startswith(b"strace"):
                found.append(int(name))
    return found


def memory_of(pids: Iterable[int]) -> int:
    """Bytes of memory that these processes hold, shared pages counted once in all (PSS)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) << 10
    return total


class Watching:
    """The loop of the watcher."""

    def __init__(self, db: Path, word: bytes, interval: float) -> None:
        self._shm_path, self._wal = db.with_name(db.name + "-shm"), db.with_name(db.name + "-wal")
        self._word, self._interval = word, interval
        self.seen = Seen()
        self.stopped = False
        self._shm = -1
        self._pid, self._since, self._is_ours = 0, 0.0, False
        self._in_the_way = self._sampled_at = 0.0
        self._known: dict[int, bool] = {}

    def run(self) -> Seen:
        """Sample until stopped."""
        slow, last = 0.0, time.monotonic()
        while not self.stopped:
            now = time.monotonic()
            self.seen.longest_gap = max(self.seen.longest_gap, now - last)
            last = now
            self._sample(now)
            if now - slow > 0.1:
                slow = now
                self._look_around()
            time.sleep(self._interval)
        self._ended(time.monotonic())
        return self.seen

    def _sample(self, now: float) -> None:
        if self._shm < 0:
            return
        self.seen.samples += 1
        pid = holder(self._shm, WRITE_LOCK)
        self._judge_checkpoint(now, pid)
        if pid == self._pid:
            return
        self._ended(now)
        self._pid, self._since = pid, now
        self._is_ours = bool(pid) and self._ours(pid)

    def _judge_checkpoint(self, now: float, writer: int) -> None:
        """How long a checkpoint of an application waits for us alone.

        Between two looks for readers SQLite sleeps; while the checkpoint copies pages or syncs
        them it does not, and that is its own work, which it would have without us too.
        """
        waits = False
        if writer and not self._ours(writer) and holder(self._shm, CHECKPOINT_LOCK) == writer:
            readers = readers_in_log(self._shm) - {writer}
            waits = bool(readers) and all(self._ours(reader) for reader in readers)
        if not waits:
            if self._in_the_way > 0.5:
                self.seen.slow_checkpoints.append([time.time() - self._in_the_way, self._in_the_way])
            self._in_the_way = 0.0
        elif asleep(writer):
            self._in_the_way += now - self._sampled_at
            self.seen.ours_in_the_way = max(self.seen.ours_in_the_way, self._in_the_way)
        self._sampled_at = now

    def _ours(self, pid: int) -> bool:
        if pid not in self._known:
            self._known[pid] = OURS in command_of(pid)
        return self._known[pid]

    def _ended(self, now: float) -> None:
        if not self._pid:
            return
        held = now - self._since
        if self._is_ours:
            self.seen.ours_longest = max(self.seen.ours_longest, held)
            self.seen.ours_total += held
            self.seen.ours_holds += 1
            if held > 0.3:
                self.seen.slow_holds.append([time.time() - held, held])
        else:
            self.seen.others_longest = max(self.seen.others_longest, held)
        self._pid = 0

    def _look_around(self) -> None:
        """The slower questions; and whether the names lead to a new file."""
        with contextlib.suppress(FileNotFoundError):
            self.seen.wal_bytes_max = max(self.seen.wal_bytes_max, self._wal.stat().st_size)
        if self._word:
            self.seen.memory_max = max(self.seen.memory_max, memory_of(processes_of(self._word)))
        try:
            same = self._shm >= 0 and self._shm_path.stat().st_ino == os.fstat(self._shm).st_ino
        except FileNotFoundError:
            same = False
        if not same:
            if self._shm >= 0:
                os.close(self._shm)
                self._shm = -1
            with contextlib.suppress(FileNotFoundError):
                self._shm = os.open(self._shm_path, os.O_RDWR | os.O_CLOEXEC)


class Watch:
    """A watcher in its own process; ``word``: weigh the processes with this in their command line."""

    def __init__(self, db: Path, word: str = "", interval: float = 0.002) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(db), word, str(interval)], stdout=subprocess.PIPE, text=True
        )

    def stop(self) -> Seen:
        """What was seen; the watcher ends."""
        self._process.send_signal(signal.SIGTERM)
        text, _ = self._process.communicate(timeout=30)
        return Seen(**json.loads(text))


def main() -> None:
    """Entry point."""
    watching = Watching(Path(sys.argv[1]), sys.argv[2].encode(), float(sys.argv[3]))

    def stop(*_: object) -> None:
        watching.stopped = True

    signal.signal(signal.SIGTERM, stop)
    sys.stdout.write(json.dumps(asdict(watching.run())))


if __name__ == "__main__":
    main()
