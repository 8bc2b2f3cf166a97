"""Tries everything that a run needs, end to end, and names what to fix."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backupd.errors import ArchiveUnreachable, BackupdError, NotFound, NotHealthy
from backupd.journal.records import JsonValue
from backupd.model.amounts import size_text
from backupd.model.pair import CopyState, CopyStatus
from backupd.model.records import BackupType
from backupd.ports import ProbedStore, ProviderFeature
from backupd.runs.context import RunContext

_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """One thing that was tried: whether it works, the fact, and what helps when it does not."""

    name: str
    ok: bool
    because: str
    next_step: str = ""
    exit_status: int = 0

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``check --json`` shows."""
        return {"name": self.name, "ok": self.ok, "because": self.because, "next_step": self.next_step}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """All that was tried."""

    findings: tuple[CheckFinding, ...]

    @property
    def ok(self) -> bool:
        """Whether a backup would work now."""
        return all(finding.ok for finding in self.findings)

    @property
    def exit_status(self) -> int:
        """0, or that of the first thing that does not work."""
        return next((finding.exit_status for finding in self.findings if not finding.ok), 0)

    def to_json(self) -> dict[str, JsonValue]:
        """The form that ``check --json`` shows."""
        return {"ok": self.ok, "findings": [finding.to_json() for finding in self.findings]}


def run_check(context: RunContext) -> CheckResult:
    """Try what a run needs: state, archive, copies, replication, snapshots, space; and where drills happen.

    Writes only probes, and removes them.
    """
    tries: tuple[tuple[str, Callable[[RunContext], str]], ...] = (
        ("policy", _policy),
        ("state directory", _state_directory),
        ("archive", _archive),
        ("second archive", _second_archive),
        ("rights", lambda context: context.writer.rights()),
        ("replication", _replication),
        ("snapshot", _snapshot),
        ("space on the passive", _space_passive),
        ("space in the archive", _space_archive),
        ("drill", _drill),
        ("unfinished runs", _unfinished),
    )
    findings = []
    for name, attempt in tries:
        context.tell(f"checking: {name}", state="check")
        try:
            because = attempt(context)
            if because:
                findings.append(CheckFinding(name, ok=True, because=because))
        except BackupdError as error:
            because = f"{error.problem}: {error.because}"
            findings.append(CheckFinding(name, False, because, error.next_step, error.exit_status))
    return CheckResult(tuple(findings))


def _policy(context: RunContext) -> str:
    commit = context.read_policy_commit()
    if commit is None:
        return f"{context.policy_path} is valid; it is in no git repository, so backups will not name its commit"
    return f"{context.policy_path} is valid, at commit {commit[:12]}{' with changes' if '+' in commit else ''}"


def _state_directory(context: RunContext) -> str:
    place = context.state_dir
    probe = place / f".probe-{secrets.token_hex(4)}"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe.write_bytes(b"probe")
    except OSError as error:
        raise NotHealthy(
            f"cannot write the state directory {place}",
            because=error.strerror or str(error),
            next_step=f'make it writable for this user: chown "$USER" {place}',
        ) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    context.journal.runs(context.database, limit=1)
    return f"{place} can be written"


def _archive(context: RunContext) -> str:
    store = context.probe_store()
    honours = f"; its server {', '.join(store.probe().sentences)}" if isinstance(store, ProbedStore) else ""
    try:
        archive = context.archive()
    except NotFound:
        return f"{store.describe()} can be written, and nothing of {context.database} is there yet{honours}"
    archive.refuse_another_pair(context.writer.identity())
    listing = archive.list()
    damaged = f", {len(listing.findings)} of them damaged" if listing.findings else ""
    return f"{store.describe()} can be written, and lists {len(listing.backups)} backups{damaged}{honours}"


def _second_archive(context: RunContext) -> str:
    if context.second is None:
        return ""
    from backupd.runs.second_archive import open_replica

    store = context.second.probe_store()
    try:
        there = open_replica(context)
    except NotFound:
        there = None  # nothing was ever backed up, so there is nothing to be a replica of
    held = "it is empty: the next backup begins it" if there is None else "it is a replica of the first"
    return f"{store.describe()} can be written once and read back; {held}"


def _replication(context: RunContext) -> str:
    """Start it (or use the service's), and let the passive catch up with the active as it is now."""
    with context.writer.replication():
        passive = _healthy_passive(context)
        prepared = context.writer.prepare(
            checkpoint=False, timeout_seconds=context.policy.prepare.timeout_seconds, report=context.report
        )
    return f"the passive {passive.name} is healthy and has replayed up to {prepared.position}"


def _healthy_passive(context: RunContext) -> CopyStatus:
    began = context.clock.monotonic()
    while True:
        pair = context.writer.pair()
        passive, waited = pair.passive, context.clock.monotonic() - began
        if passive.state is CopyState.HEALTHY:
            return passive
        helpless = passive.state in {CopyState.SUSPENDED, CopyState.SUSPECT, CopyState.FAILED}
        if helpless or waited > _WAIT_SECONDS:
            verb = "resume" if passive.state is CopyState.SUSPENDED else "seed"
            raise NotHealthy(
                f"the passive {passive.name} {passive.state.says}",
                because=passive.because or pair.active.because or f"it was not healthy within {_WAIT_SECONDS:g} s",
                next_step=f"backupctl copy {verb} {context.database}",
            )
        context.clock.sleep(_POLL_SECONDS)


def _snapshot(context: RunContext) -> str:
    told = []
    for place in context.writer.snapshot_places():
        choice = context.choose_provider(place)
        told.append(f"{choice.provider.name} ({'; '.join(choice.reasons)})")
    return ", ".join(dict.fromkeys(told))


def _space_passive(context: RunContext) -> str:
    """A plain copy needs the file once more; log needs some room in any case."""
    passive = context.writer.snapshot_places()[0]
    try:
        free = shutil.disk_usage(passive).free
    except OSError as error:
        raise NotHealthy(
            f"cannot look at {passive}",
            because=error.strerror or str(error),
            next_step=f"ls -l {passive}",
        ) from error
    features = context.choose_provider(passive).provider.features
    copied = not features & {ProviderFeature.SHARES_BLOCKS, ProviderFeature.IN_PLACE}
    needed = context.writer.room_bytes(copied=copied)
    if free < needed:
        raise NotHealthy(
            f"too little space beside {passive}",
            because=f"{size_text(needed)} are needed for a snapshot and log, {size_text(free)} are free",
            next_step="make room there, or give the passive a filesystem with snapshots (btrfs, XFS)",
        )
    return f"{size_text(free)} are free beside {passive}, {size_text(needed)} are needed"


def _space_archive(context: RunContext) -> str:
    """A full like the last one must fit; before the first, a file that does not compress at all."""
    free = context.archive_free_bytes()
    if free is None:
        return "how much space the archive has is not known"
    needed = _full_bytes(context)
    if free < needed:
        raise ArchiveUnreachable(
            "too little space in the archive",
            because=f"the next full may need {size_text(needed)}, {size_text(free)} are free",
            next_step=f"make room there, or remove old backups: backupctl prune {context.database} --dry-run",
        )
    return f"{size_text(free)} are free in the archive, the next full may need {size_text(needed)}"


def _full_bytes(context: RunContext) -> int:
    try:
        backups = context.archive().list().backups
    except (NotFound, ArchiveUnreachable):
        backups = ()
    fulls = [backup.record.stored_bytes for backup in backups if backup.record.type is BackupType.FULL]
    if fulls:
        return fulls[-1] * 5 // 4
    passive = Path(context.writer.pair().passive.path)
    try:
        return passive.stat().st_size if passive.is_file() else 0
    except OSError:
        return 0


def _drill(context: RunContext) -> str:
    if context.policy.drill is None:
        return ""
    from backupd.runs.drill_place import try_place

    return try_place(context)


def _unfinished(context: RunContext) -> str:
    dead = context.journal.abandoned(context.database)
    if dead:
        raise NotHealthy(
            "a run died and is not ended yet" if len(dead) == 1 else f"{len(dead)} runs died and are not ended yet",
            because=f"the oldest is the {dead[0].kind} {dead[0].id}",
            next_step="backupctl recover",
        )
    return "none"
