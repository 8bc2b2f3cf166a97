"""What is wrong with a database, as alarms: each with a code that stays, whatever its sentence says meanwhile."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator

from backupd.decide.reasons import Reason
from backupd.errors import BackupdError
from backupd.journal.records import JsonValue, RunKind
from backupd.model.alarm import Alarm, Severity
from backupd.model.pair import CopyState, CopyStatus, PairStatus
from backupd.model.states import RunState
from backupd.runs.context import RunContext

_SAYS_NOTHING = frozenset({RunState.REFUSED, RunState.ABORTED})
# A person chose these, or they pass by themselves; what is wrong in another state does not wait for the morning.
_WARNING_STATES = frozenset(
    {
        CopyState.INITIALIZING,
        CopyState.SEEDING,
        CopyState.SUSPENDED,
        CopyState.RESTORING,
    }
)

# What an engine says of its pair in sentences: beginning, code, severity. The group is the subject.
_ENGINE_SENTENCES = tuple(
    (re.compile(pattern), code, severity)
    for pattern, code, severity in (
        (r"copy (\S+) has no slot\b", "slot-missing", Severity.WARNING),
        (r"slot \S+ of copy (\S+) keeps\b", "slot-held-log", Severity.WARNING),
        (r"slot \S+ of copy (\S+) is about to lose\b", "slot-at-risk", Severity.CRITICAL),
        (r"slot \S+ of copy (\S+) has lost\b", "slot-lost", Severity.CRITICAL),
        (r"data checksums are off\b()", "checksums-off", Severity.WARNING),
        (r"the passive has not acknowledged log\b()", "log-exposed", Severity.WARNING),
        (r"the active's -wal holds\b()", "wal-held", Severity.WARNING),
    )
)
_COPY_STATE = re.compile(r"copy (\S+) \((?:active|passive)\) is ([a-z ]+)")
_SUBJECT_LENGTH_MAX = 80


def of_error(database: str, code: str, error: BackupdError, subject: str = "") -> Alarm:
    """Something could not be asked at all."""
    sentence = f"{error.problem}: {error.because}"
    return Alarm(database, code, sentence, subject, Severity.CRITICAL, error.next_step)


def of_pair(database: str, pair: PairStatus) -> Iterator[Alarm]:
    """What the engine says, and copies that are not healthy where it says nothing."""
    for sentence in pair.alarms:
        yield _of_engine(database, sentence)
    for copy in pair.copies:
        if copy.state is not CopyState.HEALTHY and not pair.alarms:
            because = f": {copy.because}" if copy.because else ""
            sentence = f"the {copy.role} copy {copy.name} {copy.state.says}{because}"
            yield _of_state(database, copy, sentence)


def _of_state(database: str, copy: CopyStatus, sentence: str) -> Alarm:
    severity = Severity.WARNING if copy.state in _WARNING_STATES else Severity.CRITICAL
    return Alarm(database, "copy-not-healthy", sentence, copy.name, severity, _state_helps(database, copy.state))


def _state_helps(database: str, state: CopyState) -> str:
    if state is CopyState.SUSPENDED:
        return f"backupctl copy resume {database}"
    if state in {CopyState.MUST_SEED, CopyState.SUSPECT}:
        return f"backupctl copy seed {database}"
    if state is CopyState.STOPPED:
        return "start the service backupd"
    return f"backupctl check {database}"


def _of_engine(database: str, sentence: str) -> Alarm:
    if state := _COPY_STATE.match(sentence):
        word = state[2].strip()
        known = CopyState(word) if word in set(CopyState) else CopyState.FAILED
        severity = Severity.WARNING if known in _WARNING_STATES else Severity.CRITICAL
        helps = _state_helps(database, known)
        return Alarm(database, "copy-not-healthy", sentence, state[1], severity, helps)
    for pattern, code, severity in _ENGINE_SENTENCES:
        if found := pattern.match(sentence):
            return Alarm(database, code, sentence, found[1], severity, f"backupctl check {database}")
    # Up to the fact, and without numbers: the same trouble with other numbers is not news.
    subject = re.sub(r"\d+", "N", sentence.partition(":")[0])[:_SUBJECT_LENGTH_MAX]
    return Alarm(database, "pair", sentence, subject, Severity.CRITICAL, f"backupctl check {database}")


def of_archive(database: str, error: BackupdError) -> Alarm:
    """The archive does not answer."""
    sentence = f"the archive: {error.problem} ({error.because})"
    return Alarm(database, "archive-away", sentence, "", Severity.CRITICAL, error.next_step)


def archive_emptied(database: str, records: int, seen_at: str) -> Alarm:
    """The archive answers, but holds nothing of what it held."""
    sentence = f"the archive is empty now; it held {records} records at {seen_at}"
    helps = "mount the archive's disk, or look who emptied it"
    return Alarm(database, "archive-empty", sentence, "", Severity.CRITICAL, helps)


def of_findings(database: str, findings: Iterable[str], *, archive: str = "") -> Iterator[Alarm]:
    """Damaged backups; ``archive`` is said first where it is not the policy's first one."""
    for finding in findings:
        words = finding.split()
        backup_id = words[1] if len(words) > 1 and words[0] == "backup" else finding.partition(":")[0]
        sentence = f"{archive}: {finding}" if archive else finding
        code = "second-archive-damaged" if archive else "backup-damaged"
        helps = f"backupctl verify {backup_id}" + (" --archive second" if archive else "")
        yield Alarm(database, code, sentence, backup_id[:_SUBJECT_LENGTH_MAX], Severity.CRITICAL, helps)


def of_backups(context: RunContext, last_full: JsonValue, missing: Collection[Reason]) -> Iterator[Alarm]:
    """What the archive lacks, and runs that failed, wait or died. Raises NotHealthy: the journal cannot be read."""
    database = context.database
    if last_full is None:
        full = f"backupctl backup {database} --type full"
        yield Alarm(database, "no-full", f"there is no full backup yet: {full}", "", Severity.CRITICAL, full)
    for reason in missing:
        helps = "look who removed it; if it shall not come back: backupctl backup " + f"{database} --type full"
        yield Alarm(database, reason.code, str(reason.sentence), _backup_in(reason), Severity.CRITICAL, helps)
    for run in context.journal.runs(database, RunKind.BACKUP, RunState.PENDING):
        sentence = f"backup {run.label} waits for its stamp to be seen on the passive"
        helps = f"let the passive replay: backupctl status {database}"
        yield Alarm(database, "stamp-pending", sentence, str(run.label or run.id), Severity.WARNING, helps)
    yield from _of_last_run(context)
    dead = context.journal.abandoned(database)
    if dead:
        what = "a run died and is" if len(dead) == 1 else f"{len(dead)} runs died and are"
        sentence = f"{what} not ended yet: backupctl recover"
        yield Alarm(database, "run-died", sentence, "", Severity.WARNING, "backupctl recover")


def _of_last_run(context: RunContext) -> Iterator[Alarm]:
    for run in context.journal.runs(context.database, RunKind.BACKUP, limit=20):
        if run.state in _SAYS_NOTHING:
            continue
        if run.state is RunState.FAILED:
            because = run.facts.get("because")
            said = f": {because}" if isinstance(because, str) else ""
            sentence = f"the last backup, {run.label or run.id}, failed{said}"
            # No subject: the next failure is the same trouble, and not one that ends and one that begins.
            helps = f"put that right, then: backupctl backup {context.database} --type {run.type or 'full'}"
            yield Alarm(context.database, "backup-failed", sentence, "", Severity.CRITICAL, helps)
        return


def _backup_in(reason: Reason) -> str:
    words = str(reason.sentence).split()
    return words[2] if words[:2] == ["the", "backup"] else ""
