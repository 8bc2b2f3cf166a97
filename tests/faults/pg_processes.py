"""Processes of ``backupctl`` that a test stops, kills or makes fail at a step of their work."""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import backupd
from backupd import steps
from tests.stories.home import Answer
from tests.stories.pg_home import PgHome

PATIENCE_SECONDS = 120.0


@dataclass
class Running:
    """A ``backupctl`` that has not ended yet."""

    words: tuple[str, ...]
    process: subprocess.Popen[bytes]
    out: Path

    def wait_stopped(self) -> None:
        """Until it stands at its step."""
        until(lambda: self.process.poll() is not None or _state(self.process.pid) == "T", "the run did not stop")
        assert self.process.poll() is None, self.ended().told()

    def guardian(self) -> int:
        """The process id of its guardian."""
        found = [pid for pid in _children(self.process.pid) if b"guardian" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(found) == 1, found
        return found[0]

    def go_on(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and its end."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    def ended(self) -> Answer:
        """How it ends."""
        self.process.wait(PATIENCE_SECONDS)
        answer = Answer(self.words, self.process.returncode, *(_read(self.out / name) for name in ("out", "err")))
        assert "Traceback" not in answer.err, answer.told()
        return answer


def three_lines(answer: Answer, *statuses: int) -> tuple[str, str, str]:
    """The three lines of a refusal with one of these statuses."""
    assert answer.status in statuses, answer.told()
    told = [line.partition(": ") for line in answer.err.strip().splitlines()[-3:]]
    assert [name for name, _, _ in told] == ["error", "because", "next"], answer.told()
    problem, because, next_step = (text for _, _, text in told)
    assert all((problem, because, next_step)), answer.told()
    return problem, because, next_step


def until(fact: Callable[[], object], problem: str, seconds_max: float = PATIENCE_SECONDS) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds_max
    while not fact():
        assert time.monotonic() < deadline, problem
        time.sleep(0.02)


def forked(home: PgHome, words: tuple[str, ...], fault: tuple[str, int] | None = None) -> Answer:
    """``backupctl`` in a child of this process; ``fault`` is an action and the number of the step where it comes."""
    load_everything()
    out = Path(tempfile.mkdtemp(prefix="out-", dir=home.root))
    child = os.fork()
    if child == 0:
        _be_backupctl(out, home, words, fault)
    _, status = os.waitpid(child, 0)
    answer = Answer(words, os.waitstatus_to_exitcode(status), *(_read(out / name) for name in ("out", "err")))
    shutil.rmtree(out)
    assert "Traceback" not in answer.err, answer.told()
    return answer


def load_everything() -> None:
    """Import all of backupd, so that a forked child need not."""
    for module in pkgutil.walk_packages(backupd.__path__, "backupd."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    importlib.import_module("psycopg")


def _be_backupctl(out: Path, home: PgHome, words: tuple[str, ...], fault: tuple[str, int] | None) -> None:
    status = 70
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(out / name, os.O_WRONLY | os.O_CREAT, 0o600), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        environment = home.environment()
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(home.root)
        from backupd.cli import main, signals

        signals.listen()
        if fault is not None:
            steps.arm(*fault)
        status = main.run(home.command(*words)[3:])
        if fault is not None and steps.disarm() < fault[1]:
            (out / "out").write_text("NOT REACHED")
    except BaseException:  # noqa: BLE001 - told to the parent
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _state(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    return ""


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]
