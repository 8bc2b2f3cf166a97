"""backupctl verify: reads the archive and names damage."""

from __future__ import annotations

from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupd.cli import house, human, keys, output, progress
from backupd.cli.keys import KeyOption, PassphraseFileOption
from backupd.cli.options import ArchiveOption, ConfigOption, JsonOption, Which
from backupd.errors import DamageFound, NotFound

if TYPE_CHECKING:
    from backupd.bootstrap import House

EXAMPLES = ("backupctl verify", "backupctl verify orders", "backupctl verify 20261122T010000Z-F-1a2b3c4d --level data")


class Level(StrEnum):
    """How deep verify looks."""

    MANIFEST = "manifest"
    PRESENCE = "presence"
    DATA = "data"


def verify(
    backups: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BACKUP|DATABASE]...", help="Backups, or databases whole; all when left out."),
    ] = None,
    level: Annotated[
        Level,
        typer.Option(
            "--level", help="manifest: the records; presence: each object and its size; data: every byte is read."
        ),
    ] = Level.DATA,
    archive: ArchiveOption = Which.FIRST,
    as_json: JsonOption = False,
    key: KeyOption = None,
    passphrase_file: PassphraseFileOption = None,
    config: ConfigOption = None,
) -> int:
    """Check the archive and name every damaged, missing or swapped object; exit status 6 when there is one."""
    from backupd.runs.verify import run_verify

    answers: list[dict[str, Any]] = []
    findings: list[str] = []
    with house.opened(config, keys.sources(key, passphrase_file)) as opened:
        for name, ids in _by_database(opened, backups or [], archive).items():
            try:
                with progress.shown() as report:
                    context = house.one(opened, name, report, archive=archive)
                    outcome = run_verify(context, level=level.value, backup_ids=tuple(ids))
            except NotFound as nothing:
                if backups:
                    raise
                output.say(f"{name}  not verified: {nothing.problem}")  # another database may have backups
                continue
            answers.append({"database": name, **outcome.to_json()})
            findings += outcome.findings
            if not as_json:
                _print(name, level, outcome)
    if as_json:
        output.print_json({"sound": not findings, "level": level.value, "databases": answers})
    if not findings:
        return 0
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    damage = DamageFound(
        "the archive is damaged",
        because=findings[0] + more,
        next_step="take a new full now: backupctl backup DATABASE --type full; backupctl list shows what is damaged",
    )
    output.print_error(damage, as_json=False)
    return damage.exit_status


def _by_database(opened: House, words: list[str], archive: Which) -> dict[str, list[str]]:
    """The databases to look at, each with the ids that were asked for (none: all of its backups).

    A word that is a database's name means all of its backups.
    """
    names = house.chosen(opened, None)
    whole: dict[str, list[str]] = {name: [] for name in names if name in words or not words}
    ids = [word for word in words if word not in whole]
    if not ids:
        return whole
    for word in ids:
        if get_close_matches(word, names, n=1, cutoff=0.5):
            raise house.unknown(word, names)
    if len(names) == 1 and not whole:
        return {names[0]: ids}
    found = dict(whole)
    missing = set(ids)
    for name in names:
        try:
            listing = house.one(opened, name, archive=archive).archive().list()
        except NotFound:
            continue
        held = {archived.record.id for archived in listing.backups}
        if here := [backup for backup in ids if backup in held]:
            found.setdefault(name, here)
            missing.difference_update(here)
    if missing:
        raise NotFound(
            f"no backup is called {min(missing)!r}",
            because=f"none of the archives of {', '.join(names)} lists it",
            next_step="backupctl list",
        )
    return found


def _print(name: str, level: Level, outcome: Any) -> None:
    verdict = ("sound", output.GOOD) if outcome.sound else ("DAMAGED", output.BAD)
    looked_at = ", ".join(
        (
            human.count(outcome.backups_checked, "backup"),
            human.count(outcome.objects_checked, "object"),
            f"{human.size(outcome.read_bytes)} read",
            human.duration(outcome.seconds),
            f"level {level.value}",
        )
    )
    output.print_line((output.Cell(name, output.STRONG), "  ", output.Cell(*verdict), f"  {looked_at}"))
    output.print_sentences(outcome.findings, style=output.BAD)
