"""Tells people what is wrong: each alarm once when it begins, once when it ends; what is not taken is tried again."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from backupd.decide.alarm_news import NewsKind, NewsRules, Standing, decide_news, message_lines, subject_line
from backupd.errors import BackupdError
from backupd.model.alarm import Alarm
from backupd.policy.secret import SecretReference
from backupd.service.send import Sent, send
from backupd.service.told import read_told, write_told

if TYPE_CHECKING:
    from backupd.policy.alarms import AlarmOptions
    from backupd.ports import Clock
    from backupd.service.board import Board

LOG = logging.getLogger("service")

THE_LOG = "log"  # the service's own log is a target, too: it takes everything
ROUND_SECONDS = 5.0
BACKOFF_SECONDS = (10.0, 30.0, 60.0, 300.0, 600.0)
_NOT_SENT = "alarm-not-sent"

Send = Callable[..., Sent]


@dataclass(slots=True)
class _Trouble:
    """A target that does not take what is sent."""

    failures: int
    next_try: float
    because: str


class AlarmTeller:
    """One node's alarms, told to the log and to every target; one thread, ``alarms`` may be asked by others.

    A target is told what it has not been told, whatever the others were. What it took is
    remembered at once and durably; only a crash in between lets it be told twice.
    """

    def __init__(self, options: AlarmOptions, state_dir: Path, clock: Clock, node: str, send: Send = send) -> None:
        self._options, self._state_dir, self._clock, self._node, self._send = options, state_dir, clock, node, send
        self._zone = ZoneInfo(options.timezone)
        quiet = None
        if options.quiet is not None:
            from backupd.policy.alarms import parse_quiet_hours

            quiet = parse_quiet_hours(options.quiet)
        self._rules = NewsRules(options.after_seconds, options.critical_after_seconds, options.remind, quiet)
        self._told: dict[str, tuple[Standing, ...]] = read_told(state_dir)
        self._trouble: dict[str, _Trouble] = {}
        self._unwritten = ""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, see: Callable[[], tuple[Iterable[Alarm], Iterable[str]]]) -> None:
        """Begin to tell, in a thread.

        Args:
            see: answers with what is wrong now, and with the databases that nobody has looked at yet.
        """
        self._thread = threading.Thread(target=self._go_round, args=[see], name="alarms", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the message that is being sent; it is not waited for long."""
        self._stop.set()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(5.0)

    def tick(self, alarms: Iterable[Alarm], unseen: Iterable[str] = ()) -> None:
        """Tell what is new to everybody who has not heard it. Never raises for what the world did."""
        wrong, not_looked_at = [*alarms, *self.alarms()], frozenset(unseen)
        now = self._clock.now()
        targets: dict[str, SecretReference | None] = {THE_LOG: None}
        targets |= {str(one): one for one in self._options.targets}
        changed = False
        for name, target in targets.items():
            trouble = self._trouble.get(name)
            if trouble is not None and self._clock.monotonic() < trouble.next_try:
                continue
            mine = [one for one in wrong if not (one.code == _NOT_SENT and one.subject == name)]
            local = now.astimezone(self._zone).time()
            before = self._told.get(name, ())
            decision = decide_news(before, mine, now, self._rules, now_local=local, unseen=not_looked_at)
            sent = True
            if decision.news:
                bad = any(one.kind is not NewsKind.OVER for one in decision.news)
                subject, lines = subject_line(decision.news, self._node), message_lines(decision.news)
                sent = self._tell(target, name, subject, lines, bad=bad)
            standing = decision.if_told if sent else decision.if_not
            changed = changed or _marks(standing) != _marks(before)
            self._told[name] = standing
            if sent and decision.news:
                self._remember()  # at once: a crash while the next target stalls must not tell this one twice
        for gone in set(self._told) - set(targets):
            del self._told[gone]
            changed = True
        if changed:
            self._remember()

    def alarms(self) -> tuple[Alarm, ...]:
        """Targets that do not take what is sent, and a state directory that does not."""
        with self._lock:
            found = [
                Alarm(
                    "",
                    _NOT_SENT,
                    f"alarms are not taken by {name}, tried {one.failures} times: {one.because}",
                    name,
                    next_step="backupctl alarm test",
                )
                for name, one in sorted(self._trouble.items())
            ]
            if self._unwritten:
                found.append(Alarm("", "alarms-not-kept", self._unwritten, next_step="make room on that disk"))
        return tuple(found)

    def _tell(self, target: SecretReference | None, name: str, subject: str, lines: list[str], *, bad: bool) -> bool:
        if target is None:
            facts = {"because": " | ".join(line.strip() for line in lines if line)}
            LOG.log(logging.WARNING if bad else logging.INFO, subject, extra={"facts": facts})
            return True
        sent = self._send(target, subject, lines, bad=bad)
        with self._lock:
            trouble = self._trouble.pop(name, None)
            if not sent.taken:
                failures = trouble.failures + 1 if trouble else 1
                wait = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS)) - 1]
                self._trouble[name] = _Trouble(failures, self._clock.monotonic() + wait, sent.because)
        if not sent.taken:
            facts = {"target": name, "because": sent.because, "retry_seconds": f"{wait:g}"}
            LOG.warning("alarms could not be sent", extra={"facts": facts})
        return sent.taken

    def _remember(self) -> None:
        try:
            write_told(self._state_dir, self._told)
        except BackupdError as error:
            with self._lock:
                self._unwritten = f"who was told of alarms cannot be kept: {error.problem}: {error.because}"
            return
        with self._lock:
            self._unwritten = ""

    def _go_round(self, see: Callable[[], tuple[Iterable[Alarm], Iterable[str]]]) -> None:
        while not self._stop.is_set():
            try:
                self.tick(*see())
            except Exception:  # a bug here must not silence what comes later
                LOG.exception("telling alarms ended with a bug")
            self._stop.wait(ROUND_SECONDS)


def _marks(standing: Iterable[Standing]) -> set[tuple[object, ...]]:
    """What must not be forgotten; a sentence's numbers may be."""
    return {(one.alarm.key, one.alarm.severity, one.since, one.told_at) for one in standing}


def seen_on(board: Board, databases: Iterable[str], own: Iterable[Alarm]) -> tuple[list[Alarm], list[str]]:
    """What is wrong by the board and by the service itself, and the databases that nobody has looked at yet."""
    looked_at = {seen.database: seen.status for seen in board.all()}
    found = [*own]
    for status in looked_at.values():
        details = status.get("alarm_details")
        rows = details if isinstance(details, list) else []
        found += [Alarm.from_json(row) for row in rows if isinstance(row, dict)]
    return found, [name for name in databases if name not in looked_at]
