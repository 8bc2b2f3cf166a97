"""Kills processes of an installation at random moments, and judges what is left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from backupd.engines.sqlite.status import ask
from tests.soak.house import Installation, say

ALLOWED_ENDS = {0, 4, 5, 7, 9, -signal.SIGKILL}  # done, or refused in plain words, or killed by us; never 1 (a bug)
RUNS: tuple[tuple[str, ...], ...] = (
    ("backup", "orders", "--type", "full"),
    ("backup", "orders", "--type", "incremental"),
    ("backup", "orders", "--type", "incremental"),
    ("backup", "orders", "--type", "differential"),
    ("backup", "orders", "--type", "copy"),
    ("restore", "orders", "--yes", "--target"),
    ("verify",),
    ("recover", "orders"),
    ("truncate", "orders"),
    ("copy", "seed", "orders"),
)


@dataclass
class Running:
    """A ``backupctl`` that runs now."""

    words: tuple[str, ...]
    process: subprocess.Popen[str]
    errors: IO[str]
    began: float


@dataclass
class Storm:
    """Kills, and what came of them. The same ``seed`` picks the same victims and the same moments."""

    made: Installation
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds_of: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._dice = random.Random(f"{self.seed}/storm")
        self._targets = 0

    # --- runs -------------------------------------------------------------------

    def begin(self, words: tuple[str, ...]) -> Running:
        """Start a command and leave it alone."""
        if words[-1] == "--target":
            self._targets += 1
            words = (*words, str(self.made.root / f"restored-{self._targets}"))
        errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in end
        process = subprocess.Popen(
            self.made.ctl_command(*words),
            env=self.made.environment(),
            stdout=subprocess.DEVNULL,
            stderr=errors,
            text=True,
            cwd=self.made.root,
        )
        return Running(words, process, errors, time.monotonic())

    def end(self, running: Running, seconds: float = 180.0) -> int:
        """Wait for its end; a bug, or a run that hangs, is a fault."""
        what = " ".join(running.words[:4])
        try:
            status = running.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.faults.append(f"{what} still runs after {seconds:g} s")
            running.process.kill()
            status = running.process.wait()
        running.errors.seek(0)
        told = running.errors.read()
        running.errors.close()
        self.ends[f"{running.words[0]} {status}"] += 1
        if status == 0:
            self.seconds_of[running.words[0]] = time.monotonic() - running.began
        if status not in ALLOWED_ENDS or "Traceback" in told:
            self.faults.append(f"{what} ended with {status}: {told[-1500:]}")
        elif status > 0:
            self.ends[told.strip().replace("\n", " | ")[:200]] += 1
        return status

    # --- kills ------------------------------------------------------------------

    def strike(self) -> None:
        """Start a run or not, wait a random moment, kill a random process, bring back what a host would bring back."""
        running = self.begin(self._dice.choice(RUNS)) if self._dice.random() < 0.75 else None
        victim = self._dice.choice(
            ("run", "run", "capture", "replayer", "service") if running else ("capture", "replayer", "service")
        )
        self._wait_and_kill(victim, running, self.seconds_of.get(running.words[0], 1.5) if running else 0.6)

    def strike_run(self, words: tuple[str, ...], usual_seconds: float) -> None:
        """Start this run, and kill it or a process that it needs."""
        victim = self._dice.choice(("run", "run", "run", "service", "replayer", "capture"))
        self._wait_and_kill(victim, self.begin(words), usual_seconds)

    def _wait_and_kill(self, victim: str, running: Running | None, usual_seconds: float) -> None:
        time.sleep(self._dice.uniform(0.02, 1.1 * usual_seconds))
        self._kill(victim, running)
        if self.made.service is not None and self.made.service.poll() is not None:
            self.made.start_service()
        if running is not None:
            self.end(running)

    def _wait_there(self, victim: str) -> None:
        """One that was killed before is there again soon; one that never comes is a fault."""
        deadline = time.monotonic() + 30.0
        while victim not in self.made.processes():
            if time.monotonic() > deadline:
                self.faults.append(f"there is no {victim} process")
                return
            time.sleep(0.05)

    def _kill(self, victim: str, running: Running | None) -> None:
        if victim != "run":
            self._wait_there(victim)
        pid = running.process.pid if victim == "run" and running else self.made.processes().get(victim)
        if pid is None or (victim == "run" and running and running.process.poll() is not None):
            return  # it had ended, or was not there: no kill to count
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        during = f" during {running.words[0]}" if running else ""
        self.kills[f"{victim}{during}"] += 1
        say(f"{time.strftime('%H:%M:%S')} killed {victim}{during}")
        if victim == "service" and self.made.service is not None:
            self.made.service.wait()
        if victim == "run" and running is not None:
            running.process.wait()
            self._judge_freeze()

    @property
    def victims(self) -> set[str]:
        """What kinds of process were killed."""
        return {what.split()[0] for what in self.kills}

    @property
    def count(self) -> int:
        """How many processes were killed."""
        return sum(self.kills.values())

    # --- judgements -----------------------------------------------------------------

    def _judge_freeze(self) -> None:
        """A dead run's freeze is over at once."""
        deadline = time.monotonic() + 3.0
        facts: dict[str, Any] | None = None
        while time.monotonic() < deadline:
            facts = ask(self.made.writer().passive_files().replay_socket, "the replay process")
            if facts is None or not facts["frozen"]:
                return
            time.sleep(0.05)
        self.faults.append(f"replay is still frozen 3 s after the run was killed: {facts}")

    def judge_recovery(self) -> None:
        """``recover`` ends what was left, and the second time finds nothing."""
        for words in (("recover", "orders"), ("recover", "orders", "--json")):
            done = self.made.ctl(*words)
            if done.returncode:
                self.faults.append(f"recover ended with {done.returncode}: {done.stderr}")
                return
        if any(one["done"] for one in json.loads(done.stdout)["databases"]):
            self.faults.append(f"a second recover still finds: {done.stdout}")

    def judge_promise(self) -> None:
        """No log is gone from the active that no complete backup holds (design.md, promise 1)."""
        logs = self.made.logs("a")
        backups = self.made.backups()
        self.faults += [f"listed: {one}" for one in backups if one["state"] not in ("complete", "pending")]
        ends: dict[str, int] = {}
        for one in backups:
            if one["state"] == "complete":
                history, _, offset = str(one["log_end"]).partition("/")
                ends[history] = max(ends.get(history, 0), int(offset))
        for history in logs.histories():
            numbers = logs.history(history).numbers()
            if not numbers:
                continue
            if numbers != list(range(numbers[0], numbers[-1] + 1)):
                self.faults.append(f"history {history} has holes on the active: {numbers}")
            start = logs.history(history).header(numbers[0]).start_offset
            if numbers[0] > 1 and start > ends.get(history, 0):
                self.faults.append(f"log before {history}/{start} is gone, archived is {ends.get(history)}")

    def told(self) -> str:
        """What happened, in lines."""
        kills = ", ".join(f"{what}: {count}" for what, count in sorted(self.kills.items()))
        ends = "\n".join(f"  {count:>3} x {what}" for what, count in self.ends.most_common())
        return f"{self.count} kills ({kills})\n{ends}"


def leftovers(made: Installation) -> list[Path]:
    """Files that only a run in progress may have: beside the passive, and in the archive's tmp."""
    beside = [path for path in made.passive.parent.iterdir() if path.name != made.passive.name]
    tmp = made.archive / "tmp"
    return beside + (list(tmp.iterdir()) if tmp.is_dir() else [])
