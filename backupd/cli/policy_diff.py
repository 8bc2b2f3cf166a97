"""backupctl policy diff: what a change of the policies would do, before it is merged."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import house, human, output
from backupd.cli.options import ConfigOption, JsonOption
from backupd.errors import ConfigInvalid

if TYPE_CHECKING:
    from backupd.policy.sides import Side
    from backupd.runs.context import RunContext
    from backupd.runs.policy_diff import DatabaseChange, OpenContext, RetentionChange

EXAMPLES = (
    "backupctl policy diff                    # the folder as it is, against the last commit",
    "backupctl policy diff origin/main --policies policies --offline   # in CI",
    "backupctl policy diff /etc/backupd/policies --policies ./policies",
)


def diff(
    old: Annotated[
        str,
        typer.Argument(
            metavar="[REF|DIR]", help="What is in force: a directory, or else a commit, branch or tag of git."
        ),
    ] = "HEAD",
    policies: Annotated[
        Path | None,
        typer.Option("--policies", metavar="DIR", help="What would be in force; else the config's policies."),
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="For how many days slots are compared.")] = 14,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not read archives: leave out what a new retention drops.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> int:
    """Compare the policies with those of a git commit or another directory.

    Shows the databases that come and go, the keys that change, the slots of the next days, and which backups in the
    archive a new retention would drop. Exit status 3 when one side has a policy that is not valid.
    """
    from backupd.policy.sides import side_of_directory, side_of_ref
    from backupd.runs.policy_diff import diff_policies

    folder = policies or _policies_of(config)
    new = side_of_directory(folder)
    before = side_of_directory(Path(old)) if Path(old).is_dir() else side_of_ref(folder, old)
    with _opener(config, offline=offline) as open_context:
        changes = diff_policies(before.policies, new.policies, datetime.now(UTC), days, open_context)
    if as_json:
        answer = {"old": before.label, "new": new.label, "days": days, "offline": open_context is None}
        output.print_json({**answer, "databases": [change.as_json() for change in changes]})
    else:
        _print(before, new, changes, days)
    return 0


def _policies_of(config: str | None) -> Path:
    from backupd.policy.load import load_service_config

    return load_service_config(house.config_path(config)).policies_dir


@contextlib.contextmanager
def _opener(config: str | None, *, offline: bool) -> Iterator[OpenContext]:
    """How archives are opened; None when they shall not be read, or no config of a service is here (as in CI)."""
    if not offline:
        try:
            path = house.config_path(config)
        except ConfigInvalid:
            output.say("there is no service config, so no archive is read: what a retention drops is not known")
        else:
            with house.opened(str(path)) as opened:

                def open_one(database: str) -> RunContext:
                    return house.one(opened, database)

                yield open_one
            return
    yield None


def _print(before: Side, new: Side, changes: list[DatabaseChange], days: int) -> None:
    output.print_line(f"from {before.label} to {new.label}")
    if not changes:
        output.print_line("nothing changes")
    for change in changes:
        style = output.BAD if change.what == "goes" else output.STRONG
        output.print_line((output.Cell(change.database, style), f"  {change.what}"))
        if change.what == "goes":
            output.print_sentences(["no backup of it is taken or pruned any more; what the archive holds stays"])
        if change.keys:
            table = output.Table(("KEY", "OLD", "NEW"), last_wraps=True)
            for key in change.keys:
                table.add(key.place, key.old, key.new)
            output.print_table(table, indent=2)
        sentences = [str(sentence) for sentence in change.slots.sentences()]
        if sentences:
            output.print_line(f"  in the next {human.count(days, 'day')}:")
            output.print_sentences(sentences, indent=4)
        for retention in change.retention:
            _print_retention(retention)


def _print_retention(change: RetentionChange) -> None:
    where = f"in the {change.archive} archive "
    if change.because:
        output.print_line(f"  what the new retention drops {where}is not known: {change.because}")
        return
    if not change.would_drop and not change.would_keep:
        output.print_line(f"  {where}the next prune drops and keeps what it would have")
    if change.would_drop:
        count = human.count(len(change.would_drop), "backup")
        output.print_line(output.Cell(f"  {where}the next prune drops {count} that would have stayed:", output.WARN))
        output.print_sentences([f"{backup}: {reason}" for backup, reason in change.would_drop], indent=4)
    if change.would_keep:
        output.print_line(f"  {where}{human.count(len(change.would_keep), 'backup')} that would have gone would stay:")
        output.print_sentences(change.would_keep, indent=4)
