"""Begins the runs that the policies' schedules ask for; ``decide`` decides, APScheduler rings when to ask it again."""

from __future__ import annotations

import logging
import multiprocessing
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from apscheduler.schedulers.background import BackgroundScheduler

from backupd.decide.schedule import BACKUPS, Due, decide
from backupd.decide.slots import Slot
from backupd.decide.turns import Candidate, Caps, choose_turns, lane_of
from backupd.errors import BackupdError, Busy
from backupd.journal.records import Attempt, JsonValue
from backupd.model.alarm import Alarm
from backupd.model.rules import Task
from backupd.runs.slot_evidence import attempts_here, known_since, slot_name
from backupd.service.preloaded import rooms_for
from backupd.service.run_lines import kind_of, say_begun, say_ended
from backupd.service.running import Place, Running
from backupd.service.worker import Ending, Order, Report, work

if TYPE_CHECKING:
    from backupd.bootstrap import House
    from backupd.service.ping import Pings

LOG = logging.getLogger("service")

# All are looked at so often whatever rings: a clock that was set, a run by hand, a ring that was lost.
_ROUND_SECONDS = 30.0
# How long after somebody else held the database we ask again.
_BUSY_SECONDS = 15.0
# How long after it was the other node's turn we ask whose it is now, or whether that node has done it.
_TURN_SECONDS = 60.0
_NO_TRY = {Ending.BUSY: _BUSY_SECONDS, Ending.NOT_OURS: _TURN_SECONDS}
_JOIN_SECONDS = 5.0


class Rota:
    """Every database's schedule on this node; other threads may call ``want``, ``alarms``, ``words``, ``look_at``."""

    def __init__(self, house: House, caps: Caps, pings: Pings) -> None:
        self._house, self._caps, self._pings = house, caps, pings
        self._places: dict[str, Place] = {}
        self._running: dict[tuple[str, bool], Running] = {}  # by lane_of
        self._waiting: dict[str, Candidate] = {}
        self._rung: set[str] = set()
        self._lock = threading.RLock()
        self._next_round = 0.0
        self._processes = multiprocessing.get_context("forkserver")
        policies = [house.loaded(database).policy for database in house.databases()]
        self._processes.set_forkserver_preload(rooms_for(policies))
        self._bell = BackgroundScheduler(timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True})

    def start(self) -> None:
        """Begin to ring."""
        self._bell.start()

    def tick(self) -> None:
        """See to runs that are over, and begin those whose turn it is; to be called a few times a second."""
        clock = self._house.clock
        for running in [*self._running.values()]:
            self._reap(running)
        if clock.monotonic() >= self._next_round:
            self._next_round = clock.monotonic() + _ROUND_SECONDS
            self.look_at(self._house.databases())
        with self._lock:
            rung, self._rung = self._rung, set()
        for database in sorted(rung):
            self._look(database)
        if self._waiting:
            running_now = [one.candidate for one in self._running.values()]
            for candidate in choose_turns(self._waiting.values(), running_now, self._caps).begin:
                self._begin(candidate)

    def look_at(self, databases: Iterable[str]) -> None:
        """Ask again what is due for these."""
        with self._lock:
            self._rung.update(databases)

    def forget(self, database: str) -> None:
        """No policy names it any more; a run that goes on goes on to its end."""
        with self._lock:
            self._places.pop(database, None)
        self._waiting.pop(database, None)

    def want(self, database: str, task: Task) -> None:
        """A person wants this run now; it begins as soon as the caps let it.

        Raises:
            NotFound: there is no such database.
            Busy: a run of it goes on, or is wanted already.
        """
        self._house.loaded(database)
        with self._lock:
            place = self._places.setdefault(database, Place())
            if place.wanted or lane_of(database, task) in self._running:
                raise Busy(
                    f"a run of {database} cannot begin now",
                    because="one goes on, or is asked for already",
                    next_step=f"backupctl status {database}",
                )
            place.wanted.append(task)
            self._rung.add(database)

    def stop(self, seconds_max: float) -> None:
        """Tell all runs to end at a safe point, and wait; what has not ended then is killed, which loses nothing."""
        if self._bell.running:
            self._bell.shutdown(wait=False)
        for running in self._running.values():
            running.process.terminate()
        deadline = self._house.clock.monotonic() + seconds_max
        for running in [*self._running.values()]:
            running.process.join(max(0.0, deadline - self._house.clock.monotonic()))
            if running.process.is_alive():
                running.process.kill()
                running.process.join(_JOIN_SECONDS)
            self._reap(running)

    # --- what others may ask ---

    def alarms(self) -> tuple[Alarm, ...]:
        """Slots whose runs have failed too often."""
        with self._lock:
            return tuple(alarm for database in sorted(self._places) for alarm in self.alarms_of(database))

    def alarms_of(self, database: str) -> tuple[Alarm, ...]:
        """Those of one database."""
        with self._lock:
            return self._places.get(database, Place()).given_up(database)

    def words(self, database: str) -> dict[str, JsonValue]:
        """What the schedule does with a database now, for status: ``running``, ``waiting`` and ``last``."""
        with self._lock:
            place = self._places.get(database, Place())
            running = self._running.get((database, False)) or self._running.get((database, True))
            waiting: list[JsonValue] = [*map(str, place.decision.waiting)] if place.decision else []
            now: dict[str, JsonValue] | None = None
            if running is not None:
                now = {"type": running.candidate.due.task.value, "since": running.began_at.isoformat()}
            return {"running": now, "waiting": waiting, "last": place.said}

    # --- deciding ---

    def _look(self, database: str) -> None:
        if (database, False) in self._running:
            return  # it is looked at when the run is over
        clock, now = self._house.clock, self._house.clock.now()
        with self._lock:
            place = self._places.setdefault(database, Place())
            self._waiting.pop(database, None)
        if clock.monotonic() < place.not_before:
            return
        try:
            context = self._house.context(database)
            rules = context.policy.schedule_rules()
            if (database, True) in self._running:
                rules = rules.without(Task.DRILL)
            attempts = attempts_here(self._house.journal, database, rules, now)
            decision = decide(rules, now, attempts, database=database, known_since=known_since(context))
        except BackupdError as error:
            facts = {"database": database, "problem": error.problem, "because": error.because}
            LOG.error("the schedule cannot be looked at", extra={"facts": facts})
            return
        with self._lock:
            place.decision = decision
            due = _by_hand(place.wanted[0], now) if place.wanted else decision.due
        if due is not None:
            self._waiting[database] = Candidate(database, context.policy.archive, due)
        if decision.look_again_at is not None:
            self._ring(database, decision.look_again_at)

    def _ring(self, database: str, at: datetime) -> None:
        self._bell.add_job(self.look_at, "date", run_date=at, args=[[database]], id=database, replace_existing=True)

    # --- running ---

    def _begin(self, candidate: Candidate) -> None:
        database, due = candidate.database, candidate.due
        with self._lock:
            place = self._places.setdefault(database, Place())
            by_hand = due.task in place.wanted
            if by_hand:  # a wish for another one that came this moment is seen to when this run is over
                place.wanted.clear()
        run, at = self._house.journal.new_id(kind_of(due.task)), None if by_hand else due.slot.at
        order = Order(self._house.config, self._house.loaded(database), due.task, at, run)
        ours, theirs = self._processes.Pipe(duplex=False)
        process = self._processes.Process(target=work, args=(order, theirs), name=f"{due.task} of {database}")
        process.start()
        theirs.close()
        del self._waiting[database]
        with self._lock:
            self._running[lane_of(database, due.task)] = Running(
                candidate, self._house.clock.now(), by_hand, process, ours, run
            )
        if due.task in BACKUPS:
            self._pings.begun(database)
        if due.task is Task.DRILL:
            self.look_at([database])  # backups go on beside it, and nobody has asked yet when the next one is due
        say_begun(database, due, run, process.pid)

    def _reap(self, running: Running) -> None:
        """See whether a run is over, and note how it ended."""
        report: Report | None = None
        if running.pipe.poll():
            try:
                report = running.pipe.recv()
            except EOFError:
                report = None
        elif running.process.is_alive():
            return
        running.process.join(_JOIN_SECONDS)
        running.pipe.close()
        if report is None:
            report = Report(Ending.FAILED, f"its process ended without a word, with status {running.process.exitcode}")
        database = running.candidate.database
        with self._lock:
            del self._running[lane_of(database, running.candidate.due.task)]
        self._note(running, report)
        self.look_at([database])

    def _note(self, running: Running, report: Report) -> None:
        database, due = running.candidate.database, running.candidate.due
        now = self._house.clock.now()
        say_ended(database, due.task, running.run, report, (now - running.began_at).total_seconds())
        self._ping(database, due.task, report)
        with self._lock:
            place = self._places.setdefault(database, Place())
            place.said = f"{due.task}: {report.ending}: {report.says}"
            if report.ending is Ending.FAILED:
                place.last_failure = report.says
            wait = _NO_TRY.get(report.ending)
            if wait is not None:
                place.not_before = self._house.clock.monotonic() + wait
        if wait is not None:
            self._ring(database, now + timedelta(seconds=wait))
            return
        if running.by_hand:
            return
        outcome = Ending.DONE if report.ending is Ending.SERVED else report.ending
        try:
            self._house.journal.record_attempt(
                Attempt(database, slot_name(due.task, due.slot.at), running.run, outcome.value, now)
            )
        except BackupdError as error:
            LOG.error("a try cannot be noted: %s", error.because, extra={"facts": {"database": database}})

    def _ping(self, database: str, task: Task, report: Report) -> None:
        if task not in BACKUPS:
            return
        if report.ending in {Ending.DONE, Ending.SERVED}:
            self._pings.succeeded(database)
        elif report.ending is Ending.FAILED:
            # A traceback is for the log.
            self._pings.failed(database, [report.says] if report.is_bug else report.error)


def _by_hand(task: Task, now: datetime) -> Due:
    return Due(task, Slot(now, task), ())
