"""backupctl init: a working service config and a first policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backupd.cli import output
from backupd.cli.options import DryRunOption, JsonOption
from backupd.errors import UsageProblem

EXAMPLES = (
    "backupctl init /etc/backupd --database orders --engine sqlite --copy a=/data/app.db \\",
    "    --copy b=/data/passive/app.db --active a --archive file:///backups",
)


def init(
    *,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go; made when missing.")],
    database: Annotated[str, typer.Option("--database", metavar="NAME", help="What the database is called.")],
    copy: Annotated[
        list[str], typer.Option("--copy", metavar="NAME=PATH", help="A copy and its file; give this twice.")
    ],
    archive: Annotated[str, typer.Option("--archive", metavar="URL", help="Where backups rest: file:///backups.")],
    active: Annotated[
        str | None, typer.Option("--active", metavar="NAME", help="The copy that serves users now; else the first.")
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="The engine: sqlite.")] = "sqlite",
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Write DIR/backupd.toml and DIR/policies/NAME.toml; files that are there already are left alone."""
    copies = _copies(copy)
    first_active = active or next(iter(copies))
    if first_active not in copies:
        raise UsageProblem(
            f"there is no copy called {first_active!r}",
            because=f"the copies are {', '.join(copies)}",
            next_step=f"say --active {next(iter(copies))}",
        )
    if engine != "sqlite":
        raise UsageProblem(
            f"the engine {engine!r} comes in a later version",
            because="this version speaks for SQLite only",
            next_step="use --engine sqlite",
        )
    from backupd.policy.first import render_policy, render_service_config, write_first_files

    where = {"database": database, "engine": engine, "copies": copies, "active": first_active, "archive": archive}
    config = directory / "backupd.toml"
    if dry_run:
        policy = render_policy(database=database, engine=engine, copies=copies, active=first_active, archive=archive)
        _tell_dry(
            {str(config): render_service_config(), str(directory / "policies" / f"{database}.toml"): policy}, as_json
        )
        return 0
    written = write_first_files(
        directory, database=database, engine=engine, copies=copies, active=first_active, archive=archive
    )
    if as_json:
        output.print_json({"written": [str(path) for path in written], "config": str(config), **where})
        return 0
    _tell(database, config, written)
    return 0


def _tell_dry(texts: dict[str, str], as_json: bool) -> None:
    if as_json:
        output.print_json({"dry_run": True, "would_write": texts})
        return
    for name, text in texts.items():
        output.print_line(output.Cell(f"would write {name}", output.STRONG))
        output.print_line(text)


def _tell(database: str, config: Path, written: list[Path]) -> None:
    for path in written:
        output.print_line(("wrote ", output.Cell(str(path), output.STRONG)))
    output.print_line()
    output.print_line(output.Cell("next:", output.DIM))
    output.print_line(f"  export BACKUPD_CONFIG={config.absolute()}")
    output.print_line("  backupd &                            # replication runs while this runs")
    output.print_line("  backupctl check                      # tries all that a backup needs")
    output.print_line(f"  backupctl backup {database} --type full")


def _copies(words: list[str]) -> dict[str, str]:
    copies: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not name or not path:
            raise UsageProblem(
                f"--copy {word} is not a copy",
                because="a copy is a name and a path, as in a=/data/app.db",
                next_step="write --copy a=/data/app.db --copy b=/data/passive/app.db",
            )
        if name in copies:
            raise UsageProblem(
                f"the copy {name!r} is given twice",
                because="the two copies need names of their own",
                next_step="write --copy a=PATH --copy b=PATH",
            )
        copies[name] = str(Path(path).absolute())
    if len(copies) != 2:
        raise UsageProblem(
            f"{len(copies)} {'copy is' if len(copies) == 1 else 'copies are'} given",
            because="a database has exactly two: the active and the passive",
            next_step="write --copy a=PATH --copy b=PATH",
        )
    return copies
