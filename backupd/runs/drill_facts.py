"""What drills have shown, from their verdicts in the archive and this node's journal: facts for status, and alarms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from backupd.archive.verdict import DRILL, Verdict
from backupd.decide.drill import PastDrill, overdue
from backupd.decide.timeline import DrillFact
from backupd.journal.records import JsonValue, Run, RunKind
from backupd.model.alarm import Alarm, Severity
from backupd.model.amounts import duration_text
from backupd.model.drill import DrillFacts
from backupd.model.rules import Task
from backupd.model.states import RunState
from backupd.runs.slot_evidence import known_since

if TYPE_CHECKING:
    from backupd.runs.context import RunContext

_RUNS_LOOKED_AT = 20


def past_drills(verdicts: Mapping[str, Iterable[Verdict]]) -> list[PastDrill]:
    """Every drill that the archive knows of, oldest first."""
    found = [_past(one) for of_one in verdicts.values() for one in of_one if one.kind == DRILL]
    return sorted(found, key=lambda one: one.at)


def drills_on_line(verdicts: Mapping[str, Iterable[Verdict]]) -> list[DrillFact]:
    """The same, as a timeline takes them."""
    return [DrillFact(one.backup, one.at, one.passed, one.because) for one in past_drills(verdicts)]


def _past(verdict: Verdict) -> PastDrill:
    facts = verdict.drill or DrillFacts("", "", verdict.at, (verdict.backup_id,))
    because = "" if verdict.sound else (verdict.findings[0] if verdict.findings else "its verdict does not say why")
    return PastDrill(verdict.backup_id, verdict.at, verdict.sound, facts, verdict.seconds, because)


def drill_json(drill: PastDrill | None) -> dict[str, JsonValue] | None:
    """A drill as ``status --json`` shows it."""
    if drill is None:
        return None
    facts = drill.facts
    return {
        "backup": drill.backup,
        "backups": list(facts.backups),
        "at": drill.at.isoformat(),
        "started_at": facts.started_at.isoformat(),
        "host": facts.host,
        "run": facts.run,
        "sound": drill.passed,
        "position": facts.position,
        "point_at": facts.point_at.isoformat() if facts.point_at else None,
        "seconds": round(drill.seconds, 3),
        "restore_seconds": round(facts.restore_seconds, 3),
        "restored_bytes": facts.restored_bytes,
        "checks": [{"name": one.name, "passed": one.passed} for one in facts.checks],
        "failed_in": facts.failed_in.value if facts.failed_in else None,
        "because": drill.because,
    }


def drill_alarms(
    context: RunContext,
    last: Mapping[str, JsonValue] | None,
    last_passed: datetime | None,
    interval_seconds: float | None,
) -> Iterator[Alarm]:
    """That the last drill failed, with the reason, and that one is overdue.

    Args:
        context: the database.
        last: the last drill that the archive knows of, as ``drill_json`` says it.
        last_passed: when the last one that passed ended.
        interval_seconds: the longest pause that is planned between two; None where none is planned.

    Raises:
        NotHealthy: the journal cannot be read.
    """
    failed = _failed(context, last)
    if failed is not None:
        yield failed
    since = known_since(context, remember=False).get(Task.DRILL)
    if interval_seconds is None or since is None:
        return
    if not overdue(last_passed, since, interval_seconds, context.clock.now()):
        return
    what = f"none has passed since {last_passed:%Y-%m-%d %H:%M:%SZ}" if last_passed else "none has passed yet"
    sentence = f"a drill is overdue: {what}, and one is planned every {duration_text(interval_seconds)}"
    helps = f"backupctl drill {context.database}"
    yield Alarm(context.database, "drill-overdue", sentence, "", Severity.WARNING, helps)


def _failed(context: RunContext, last: Mapping[str, JsonValue] | None) -> Alarm | None:
    """By the newer of the two: what the archive knows of any node's, and what this node's journal knows of its own.

    A drill that could not write its verdict, for the archive was away, stands in the journal alone; and where the
    archive is encrypted, only the journal has the whole reason.
    """
    here = _last_here(context)
    at = datetime.fromisoformat(str(last["at"])) if last else None
    because, phase, when, right = "", "", at, "put that right"
    if last is not None and not last["sound"]:
        because, phase = str(last["because"]), str(last["failed_in"] or "")
    if here is not None and here.finished_at is not None and (last is None or _is_newer(here, last)):
        because = str(here.facts.get("because") or "") if here.state is RunState.FAILED else ""
        phase, when = str(here.facts.get("failed_in") or ""), here.finished_at
        right = str(here.facts.get("next") or right)
    if not because or when is None:
        return None
    where = f" ({phase.replace('-', ' ')})" if phase else ""
    sentence = f"the last drill, of {when:%Y-%m-%d %H:%M:%SZ}, failed{where}: {because}"
    helps = f"{right}, then: backupctl drill {context.database}"
    return Alarm(context.database, "drill-failed", sentence, "", Severity.CRITICAL, helps)


def _is_newer(here: Run, last: Mapping[str, JsonValue]) -> bool:
    same = here.id == last["run"]
    return same or (here.finished_at is not None and here.finished_at > datetime.fromisoformat(str(last["at"])))


def _last_here(context: RunContext) -> Run | None:
    """The newest drill of this node that came to an end of its own."""
    ended = {RunState.COMPLETE, RunState.FAILED}
    runs = context.journal.runs(context.database, RunKind.DRILL, limit=_RUNS_LOOKED_AT)
    return next((run for run in runs if run.state in ended), None)
