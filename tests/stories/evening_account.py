"""An evening's account: which slots were due, what ran for them, what alarmed; as findings and as a table."""

from __future__ import annotations

import re
import shlex
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

MINUTE = timedelta(minutes=1)
# A slot that falls into trouble may be served so long after it: what was cut off must be seen, tried and begun first.
RETRY = timedelta(minutes=10)  # retry_seconds, as a policy has it that does not say
AFTERMATH = timedelta(seconds=90)


@dataclass(frozen=True, slots=True)
class Act:
    """A part of the evening.

    ``trouble`` says from when to when runs may fail, be late or not be at all; ``alarms`` whose alarms must begin
    in it, and what they say.
    """

    name: str
    begin: datetime
    end: datetime
    trouble: tuple[datetime, datetime] | None = None
    alarms: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """One run that the service began; ``state`` is the journal's where the service did not see its end."""

    database: str
    task: str
    slot: str
    begin: datetime
    end: datetime | None
    ended: str
    says: str = ""

    @property
    def done(self) -> bool:
        return self.ended in ("done", "complete", "pending")


@dataclass(frozen=True, slots=True)
class Word:
    """One line of news: an alarm that began, lasts or is over; ``kind`` is its sentence without what changes."""

    at: datetime
    news: str
    whose: str
    sentence: str

    @property
    def kind(self) -> str:
        return re.sub(r"\d[\d:.\-T+]*", "N", re.split(r"[:(,]", self.sentence, maxsplit=1)[0])[:45].strip()


@dataclass
class Account:
    """What is known of an evening."""

    acts: Sequence[Act]
    runs: Sequence[Run]
    words: Sequence[Word]
    databases: Sequence[str] = ("orders", "carts")
    findings: list[str] = field(default_factory=list)

    def minutes(self) -> Iterator[datetime]:
        """Every slot's moment of the evening; the last ones whose minute was not over are left out."""
        at = self.acts[0].begin.replace(second=0, microsecond=0) + MINUTE
        while at + MINUTE <= self.acts[-1].end:
            yield at
            at += MINUTE

    def judge(self) -> list[str]:
        """All that is wrong, in sentences."""
        self.findings = []
        for database in self.databases:
            runs = [run for run in self.runs if run.database == database]
            self._once(database, runs)
            self._apart(database, runs)
            for at in self.minutes():
                self._served(database, at, runs)
        self._alarms()
        return self.findings

    def _once(self, database: str, runs: Sequence[Run]) -> None:
        for (task, slot), count in Counter((run.task, run.slot) for run in runs if run.done).items():
            if count > 1:
                self.findings.append(f"{database}: the {task} of {slot} ran {count} times")

    def _apart(self, database: str, runs: Sequence[Run]) -> None:
        for one, next_ in pairwise(runs):
            if one.end is None or next_.begin < one.end:
                self.findings.append(f"{database}: the {next_.task} at {next_.begin} began before the last one ended")

    def _served(self, database: str, at: datetime, runs: Sequence[Run]) -> None:
        task = task_of(at)
        fit = [run for run in runs if run.done and run.begin >= at and run.task in (task, "full")]
        if not fit and self._waits_for_its_retry(task, at, runs):
            return
        if not fit:
            self.findings.append(f"{database}: nothing has served the {task} of {at:%H:%M} to the end")
            return
        if fit[0].begin < at + MINUTE:
            return
        if any(run.begin < at + MINUTE and (run.end is None or run.end > at + MINUTE) for run in runs):
            return  # a run went on over the whole minute
        if not self._in_trouble(at, fit[0].begin):
            self.findings.append(
                f"{database}: the {task} of {at:%H:%M} ran at {fit[0].begin:%H:%M:%S}, without a cause"
            )

    def _waits_for_its_retry(self, task: str, at: datetime, runs: Sequence[Run]) -> bool:
        """It has failed for a reason, and the evening ended before it was due again."""
        tried = [run for run in runs if run.task == task and run.begin >= at and run.end is not None and not run.done]
        return any(
            run.end is not None and run.end + RETRY > self.acts[-1].end and self._in_trouble(at, run.begin)
            for run in tried
        )

    def _in_trouble(self, at: datetime, served: datetime) -> bool:
        spans = [act.trouble for act in self.acts if act.trouble]
        return any(
            begin <= at + MINUTE and at <= end + AFTERMATH and served <= end + 2 * AFTERMATH for begin, end in spans
        )

    def _alarms(self) -> None:
        standing: dict[tuple[str, str], Word] = {}
        begun: Counter[tuple[str, str, str]] = Counter()
        for word in self.words:
            key = (word.whose, word.kind)
            if word.news == "begun":
                if key in standing:
                    self.findings.append(f"begun twice without an end: {word.whose}: {word.sentence}")
                standing[key] = word
                begun[(*key, self.act_at(word.at).name)] += 1
            elif word.news == "over" and standing.pop(key, None) is None:
                self.findings.append(f"over without a beginning: {word.whose}: {word.sentence}")
        self.findings += [f"never over: {one.whose}: {one.sentence}" for one in standing.values()]
        for act in self.acts:
            begun_in = [one for one in self.words if one.news == "begun" and act.begin <= one.at <= act.end]
            for whose, text in act.alarms:
                if not any(one.whose == whose and text in one.sentence for one in begun_in):
                    self.findings.append(f"no alarm in the act {act.name}: {whose}: {text}")
        for (whose, kind, name), count in begun.items():
            if count > 1:
                self.findings.append(f"began {count} times in the act {name}: {whose}: {kind}")

    def act_at(self, at: datetime) -> Act:
        """The act that went on then."""
        return next((act for act in self.acts if at < act.end), self.acts[-1])

    def table(self) -> str:
        """A row for each minute, as markdown."""
        heads = ["act", "minute", "due", *self.databases, "alarms (▲ begun, ▽ over)"]
        rows = [heads, ["---"] * len(heads)]
        for at in self.minutes():

            def here(moment: datetime, at: datetime = at) -> bool:
                return at <= moment < at + MINUTE

            ran = [
                "; ".join(_told(run) for run in self.runs if run.database == database and here(run.begin)) or "-"
                for database in self.databases
            ]
            marks = {"begun": "▲", "over": "▽", "lasts": "…"}
            said = "; ".join(f"{marks[one.news]} {one.whose}: {one.kind}" for one in self.words if here(one.at))
            rows.append([self.act_at(at + MINUTE / 2).name, f"{at:%H:%M}", task_of(at), *ran, said])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def task_of(at: datetime) -> str:
    """What is due at a minute: a full goes before an incremental."""
    return "full" if at.minute % 5 == 0 else "incremental"


def _told(run: Run) -> str:
    took = f" {(run.end - run.begin).total_seconds():.0f} s" if run.end else ""
    because = "" if run.done else f" ({run.says[:70].replace('|', '/')})"
    clock = re.search(r"\d\d:\d\d", run.slot)
    slot = clock[0] if clock else run.slot
    return f"{run.task} of {slot} at :{run.begin:%S}: {run.ended}{took}{because}"


def runs_of(log: str, journal: Iterable[sqlite3.Row]) -> list[Run]:
    """What the service's log and journal tell of runs, in the order in which they began."""
    rows = {(row["database"], row["pid"]): row for row in journal}
    begun: dict[str, dict[str, str]] = {}
    found = []

    def over(facts: dict[str, str], end: datetime | None, ended: str, says: str) -> None:
        begin = datetime.fromisoformat(facts["time"])
        found.append(Run(facts["database"], facts["type"], facts["slot"], begin, end, ended, says))

    def unseen(facts: dict[str, str]) -> None:
        row = rows.get((facts["database"], int(facts["pid"])))
        if row is None:
            over(facts, datetime.fromisoformat(facts["time"]), "died", "before it was in the journal")
        else:
            end = datetime.fromisoformat(row["finished_at"]) if row["finished_at"] else None
            over(facts, end, row["state"], "the service was killed meanwhile")

    for facts in _events(log):
        if facts["event"] == "a run begins":
            begun[facts["database"]] = facts
        elif facts["event"].startswith("a run ended: ") and (first := begun.pop(facts["database"], None)):
            over(first, datetime.fromisoformat(facts["time"]), facts["event"].split(": ")[1], facts["says"])
        elif facts["event"] == "backupd starts":
            for first in [*begun.values()]:
                unseen(first)
            begun.clear()
    for first in begun.values():
        unseen(first)
    return sorted(found, key=lambda run: run.begin)


def _events(log: str) -> Iterator[dict[str, str]]:
    for line in log.splitlines():
        if line.startswith("time="):
            try:
                words = shlex.split(line)
            except ValueError:
                continue
            yield dict(word.partition("=")[::2] for word in words)


_BEGUN = re.compile(r"(?:critical|warning)(, for .* now)?: ([\w-]+|the service): (.*)")
_OVER = re.compile(r"over after .*?: ([\w-]+|the service): (.*)")


def words_of(at: datetime, message: str) -> Iterator[Word]:
    """The news in one message."""
    for line in message.splitlines():
        if found := _BEGUN.fullmatch(line):
            yield Word(at, "lasts" if found[1] else "begun", found[2], found[3])
        elif found := _OVER.fullmatch(line):
            yield Word(at, "over", found[1], found[2])
