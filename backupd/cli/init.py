"""backupctl init: a working service config and a first policy."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from backupd.cli import output
from backupd.cli.init_keys import FirstKeys, first_keys
from backupd.cli.keys import PassphraseFileOption
from backupd.cli.options import DryRunOption, JsonOption
from backupd.errors import UsageProblem

EXAMPLES = (
    "backupctl init /etc/backupd --database orders --engine sqlite --copy a=/data/app.db \\",
    "    --copy b=/data/passive/app.db --active a --archive file:///backups",
    "backupctl init /etc/backupd --database ledger --engine postgres --archive file:///backups \\",
    "    --copy a='host=db1 port=5432 user=backupd' --data-directory a=/srv/pg/a \\",
    "    --copy b='host=db2 port=5432 user=backupd' --data-directory b=/srv/pg/b",
)


CopyOption = Annotated[
    list[str],
    typer.Option(
        "--copy", metavar="NAME=PLACE", help="A copy and its file, or how its server is reached; give this twice."
    ),
]
ArchiveOption = Annotated[
    str, typer.Option("--archive", metavar="URL", help="Where backups rest: file:///backups or s3://bucket/prefix.")
]
DataDirectoryOption = Annotated[
    list[str] | None,
    typer.Option("--data-directory", metavar="NAME=DIR", help="postgres: where the copy's files are; twice too."),
]
BinDirectoryOption = Annotated[
    Path | None,
    typer.Option(
        "--bin-directory", metavar="DIR", help="postgres: where pg_ctl is; else found by the server's version."
    ),
]
ActiveOption = Annotated[
    str | None,
    typer.Option("--active", metavar="NAME", help="sqlite: the copy that serves users now; else the first."),
]
EncryptionOption = Annotated[
    str | None,
    typer.Option("--encryption", metavar="WAY", help="age, passphrase or none; an archive in S3 must say it."),
]
RecipientOption = Annotated[
    list[str] | None,
    typer.Option("--recipient", metavar="AGE1...", help="Whose private key restores; else a new pair is made."),
]


def init(
    *,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go; made when missing.")],
    database: Annotated[str, typer.Option("--database", metavar="NAME", help="What the database is called.")],
    copy: CopyOption,
    archive: ArchiveOption,
    data_directory: DataDirectoryOption = None,
    bin_directory: BinDirectoryOption = None,
    active: ActiveOption = None,
    engine: Annotated[str, typer.Option("--engine", help="The engine: sqlite or postgres.")] = "sqlite",
    encryption: EncryptionOption = None,
    recipient: RecipientOption = None,
    passphrase_file: PassphraseFileOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Write DIR/backupd.toml and DIR/policies/NAME.toml; files that are there already are left alone."""
    if engine == "sqlite":
        where = _sqlite(copy, data_directory or [], bin_directory, active)
    elif engine == "postgres":
        where = _postgres(copy, data_directory or [], bin_directory, active)
    else:
        raise UsageProblem(
            f"no engine is called {engine!r}",
            because="the engines are sqlite and postgres",
            next_step="use --engine sqlite or --engine postgres",
        )
    from backupd.policy.first import render_policy, render_service_config, write_first_files
    from backupd.policy.load import check_policy_text

    keys = first_keys(
        encryption,
        recipient or [],
        archive=archive,
        directory=directory,
        database=database,
        passphrase_file=passphrase_file,
        dry_run=dry_run,
    )
    what: dict[str, Any] = {"database": database, "engine": engine, **where, "archive": archive}
    config = directory / "backupd.toml"
    if dry_run:
        policy, text = directory / "policies" / f"{database}.toml", render_policy(**what, encryption=keys.table)
        check_policy_text(text, policy)
        new = {str(path): "(a new key)\n" for path in keys.files}
        _tell_dry({str(config): render_service_config(), **new, str(policy): text}, as_json)
        return 0
    written = write_first_files(directory, **what, encryption=keys.table, keys=keys.files)
    if as_json:
        told = {"recipients": list(keys.recipients), "keys": [str(path) for path in keys.files]}
        output.print_json({"written": [str(path) for path in written], "config": str(config), **what, **told})
        return 0
    _tell(database, engine, config, written, _missing(where) if engine == "sqlite" else [])
    _tell_keys(keys)
    return 0


def _tell_keys(keys: FirstKeys) -> None:
    if keys.told:
        output.print_line()
        output.print_line(output.Cell("KEEP THE KEY SAFE", output.STRONG))
    for line in keys.told:
        output.print_line(line)


def _tell_dry(texts: dict[str, str], as_json: bool) -> None:
    if as_json:
        output.print_json({"dry_run": True, "would_write": texts})
        return
    for name, text in texts.items():
        output.print_line(output.Cell(f"would write {name}", output.STRONG))
        output.print_line(text)


def _missing(where: dict[str, Any]) -> list[Path]:
    """Directories that the passive needs; one of the active that is not there is a slip of the pen."""
    places = [Path(path).parent for name, path in where["copies"].items() if name != where["active"]]
    return [place for place in places if not place.exists()]


def _tell(database: str, engine: str, config: Path, written: list[Path], missing: list[Path]) -> None:
    for path in written:
        output.print_line(("wrote ", output.Cell(str(path), output.STRONG)))
    output.print_line()
    output.print_line(output.Cell("next:", output.DIM))
    output.print_line(f"  export BACKUPD_CONFIG={config.absolute()}")
    if engine == "postgres":
        output.print_line(
            "  chmod 600 ~/.pgpass                  # the role's password goes there, never into the policy"
        )
    else:
        for place in missing:
            output.print_line(f"  mkdir -p -m 700 {shlex.quote(str(place))}")
        output.print_line("  backupd &                            # replication runs while this runs")
    output.print_line("  backupctl check                      # tries all that a backup needs")
    output.print_line(f"  backupctl backup {database} --type full")


def _sqlite(
    copy: list[str], data_directory: list[str], bin_directory: Path | None, active: str | None
) -> dict[str, Any]:
    copies = {name: str(Path(path).absolute()) for name, path in _pairs("--copy", copy, "/data/app.db").items()}
    if data_directory or bin_directory:
        wrong = "--data-directory" if data_directory else "--bin-directory"
        raise UsageProblem(
            f"{wrong} is of the engine postgres",
            because="a copy of the engine sqlite is a file, which --copy names",
            next_step=f"leave {wrong} away, or say --engine postgres",
        )
    first_active = active or next(iter(copies))
    if first_active not in copies:
        raise UsageProblem(
            f"there is no copy called {first_active!r}",
            because=f"the copies are {', '.join(copies)}",
            next_step=f"say --active {next(iter(copies))}",
        )
    return {"copies": copies, "active": first_active}


def _postgres(
    copy: list[str], data_directory: list[str], bin_directory: Path | None, active: str | None
) -> dict[str, Any]:
    copies = _pairs("--copy", copy, "'host=db1 port=5432 user=backupd'")
    if active is not None:
        raise UsageProblem(
            "--active is of the engine sqlite",
            because="which of two PostgreSQL servers is the primary is asked of them at every run",
            next_step="leave --active away",
        )
    places = _pairs("--data-directory", data_directory, "/srv/pg/a")
    if set(places) != set(copies):
        raise UsageProblem(
            "the copies and their data directories do not go together",
            because=f"--copy names {' and '.join(copies)}, --data-directory names {' and '.join(places)}",
            next_step="write " + " ".join(f"--data-directory {name}=DIR" for name in copies),
        )
    return {
        "copies": copies,
        "data_directories": {name: str(Path(places[name]).absolute()) for name in copies},
        "bin_directory": str(bin_directory.absolute()) if bin_directory is not None else None,
    }


def _pairs(option: str, words: list[str], like: str) -> dict[str, str]:
    """``a=PLACE`` twice, by name.  A problem never repeats the place: a connection string may hold a secret."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, place = word.partition("=")
        if not equals or not name or not place or " " in name:
            raise UsageProblem(
                f"{option} {name or word}{'=' * bool(equals)} is not a name and a place",
                because=f"it is a copy's name and a place, as in a={like}",
                next_step=f"write {option} a={like}, and another for the other copy",
            )
        if name in found:
            raise UsageProblem(
                f"{option} of the copy {name!r} is given twice",
                because="the two copies need names of their own",
                next_step=f"write {option} a=PLACE {option} b=PLACE",
            )
        found[name] = place
    if len(found) != 2:
        number = f"{len(found)} {'copy is' if len(found) == 1 else 'copies are'}"
        raise UsageProblem(
            f"{number} given" if option == "--copy" else f"{number} given with {option}",
            because="a database has exactly two: the active and the passive",
            next_step=f"write {option} a=PLACE {option} b=PLACE",
        )
    return found
