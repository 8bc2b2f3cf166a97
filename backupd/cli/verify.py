"""backupctl verify: reads the archive and names damage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupd.cli import house, human, keys, origin, output, progress
from backupd.cli.keys import KeyOption, PassphraseFileOption
from backupd.cli.options import ArchiveOption, ConfigOption, JsonOption, Which
from backupd.cli.origin import EndpointOption, FromOption
from backupd.errors import ArchiveUnreachable, DamageFound, NotFound, UsageProblem

if TYPE_CHECKING:
    from backupd.bootstrap import House
    from backupd.model.rules import VerifyRules
    from backupd.policy.schema import Policy
    from backupd.runs.verify import VerifyOutcome

EXAMPLES = (
    "backupctl verify",
    "backupctl verify orders --budget 10GiB",
    "backupctl verify orders --budget-time 30m --reverify-days 30",
    "backupctl verify 20261122T010000Z-F-1a2b3c4d --level data",
)


class Level(StrEnum):
    """How deep verify looks."""

    MANIFEST = "manifest"
    PRESENCE = "presence"
    DATA = "data"


LevelOption = Annotated[
    Level,
    typer.Option(
        "--level", help="manifest: the records; presence: each object and its size; data: every byte is read."
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="SIZE|PERCENT",
        help="Read so much of each database, like 10GiB or 10%, what was read longest ago first.",
    ),
]
BudgetTimeOption = Annotated[
    str | None,
    typer.Option("--budget-time", metavar="DURATION", help="Go on reading each database for so long, like 30m."),
]
ReverifyOption = Annotated[
    int | None,
    typer.Option("--reverify-days", min=1, help="Leave out what was read and sound in the last so many days."),
]
AllOption = Annotated[bool, typer.Option("--all", help="Read all, whatever budget the policy has.", show_default=False)]


def verify(
    backups: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BACKUP|DATABASE]...", help="Backups, or databases whole; all when left out."),
    ] = None,
    level: LevelOption = Level.DATA,
    archive: ArchiveOption = Which.FIRST,
    place: FromOption = None,
    endpoint_url: EndpointOption = None,
    budget: BudgetOption = None,
    budget_time: BudgetTimeOption = None,
    reverify_days: ReverifyOption = None,
    read_all: AllOption = False,
    as_json: JsonOption = False,
    key: KeyOption = None,
    passphrase_file: PassphraseFileOption = None,
    config: ConfigOption = None,
) -> int:
    """Check the archive and name every damaged, missing or swapped object; exit status 6 when there is one.

    Without a budget here or in the policy's [verify] all data is read. With one, several runs read all of it: what
    was read is remembered in the archive. A read error is not damage: exit status 8, and what was read is kept.
    With --from the archive is only read, and remembers nothing.
    """
    from backupd.runs.verify import run_verify

    wishes = _Wishes(budget, budget_time, reverify_days, read_all, data=level is Level.DATA)
    answers: list[dict[str, Any]] = []
    bad: list[str] = []
    unreachable: ArchiveUnreachable | None = None
    words = origin.Words(place, None, endpoint_url)
    with origin.opened(words, config, keys.sources(key, passphrase_file, asks=False)) as opened:
        for name, ids in _by_database(opened, backups or [], archive).items():
            try:
                with progress.shown() as report:
                    context = house.one(opened, name, report, archive=archive)
                    rules = wishes.rules(context.policy, whole_backups=bool(ids))
                    outcome = run_verify(context, level=level.value, backup_ids=tuple(ids), rules=rules)
            except NotFound as nothing:
                if backups:
                    raise
                output.say(f"{name}  not verified: {nothing.problem}")  # another database may have backups
                continue
            answers.append({"database": name, **outcome.to_json()})
            bad += [*outcome.findings, *(known.in_words() for known in outcome.known_damage)]
            unreachable = unreachable or outcome.unreachable
            if not as_json:
                _print(name, level, outcome)
    if as_json:
        output.print_json({"sound": not bad, "level": level.value, "databases": answers})
    if not bad and unreachable is not None:
        output.print_error(unreachable, as_json=False)
        return unreachable.exit_status
    return _tell_damage(bad) if bad else 0


def _tell_damage(bad: list[str]) -> int:
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    damage = DamageFound(
        "the archive is damaged",
        because=bad[0] + more,
        next_step="take a new full now: backupctl backup DATABASE --type full; backupctl list shows what is damaged",
    )
    output.print_error(damage, as_json=False)
    return damage.exit_status


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What the command line says about how much to read."""

    budget: str | None
    budget_time: str | None
    reverify_days: int | None
    read_all: bool
    data: bool

    def rules(self, policy: Policy, *, whole_backups: bool) -> VerifyRules:
        """The words given here, else the policy's; a backup that was named is read whole unless a budget is given.

        Raises:
            UsageProblem: a word is no budget, or two of them contradict each other.
        """
        from backupd.model.rules import VerifyRules
        from backupd.policy.units import read_duration
        from backupd.policy.verify import read_rules

        given = (self.budget, self.budget_time, self.reverify_days) != (None, None, None)
        if given and self.read_all:
            raise _odd_words("--all and a budget contradict each other")
        try:
            seconds = read_duration(self.budget_time) if self.budget_time else None
            mine = read_rules(self.budget, seconds, self.reverify_days)
        except ValueError as problem:
            raise _odd_words(str(problem)) from None
        if self.read_all or not self.data:
            return mine
        policys = VerifyRules() if whole_backups else policy.verify_rules()
        if self.budget is None and self.budget_time is None:
            return replace(policys, reverify_days=self.reverify_days or policys.reverify_days)
        return replace(mine, reverify_days=self.reverify_days or policys.reverify_days)


def _odd_words(problem: str) -> UsageProblem:
    return UsageProblem(
        problem,
        because="--budget takes a size like 10GiB or a share like 10%, --budget-time a duration like 30m",
        next_step="backupctl verify --help",
    )


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


def _print(name: str, level: Level, outcome: VerifyOutcome) -> None:
    verdict = ("sound", output.GOOD) if outcome.sound else ("DAMAGED", output.BAD)
    if outcome.sound and outcome.unreachable is not None:
        verdict = ("not all could be read", output.WARN)
    looked_at = ", ".join(
        (
            human.count(outcome.backups_checked, "backup"),
            human.count(outcome.objects_checked, "object"),
            f"{human.size(outcome.read_bytes)} read",
            human.duration(outcome.seconds),
            f"level {level.value}" + (", a part" if outcome.is_sample else ""),
        )
    )
    output.print_line((output.Cell(name, output.STRONG), "  ", output.Cell(*verdict), f"  {looked_at}"))
    if outcome.coverage is not None and outcome.coverage.total_bytes:
        said = human.coverage(outcome.coverage.to_json(), datetime.now(UTC))
        output.print_facts((("verified since it was written", said),), indent=2)
    if outcome.as_stored_backups:
        count = human.count(outcome.as_stored_backups, "encrypted backup")
        output.print_sentences([f"{count}: every byte is as it was stored; with --key FILE each page is looked at too"])
    output.print_sentences(outcome.findings, style=output.BAD)
    output.print_sentences((known.in_words() for known in outcome.known_damage), style=output.BAD)
