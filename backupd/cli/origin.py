"""--from: the archive itself, for the day when no policy, no config and no catalog are left."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import house
from backupd.errors import BackupdError, NotFound, UsageProblem

if TYPE_CHECKING:
    from backupd.archive.keys import KeySources
    from backupd.bootstrap import House

_VERB = re.compile(r"backupctl (restore|list|show|verify|timeline)\b")

MaybeDatabaseArgument = Annotated[
    str | None, typer.Argument(metavar="[DATABASE]", help="A database that a policy names, or see --from.")
]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="ARCHIVE",
        help="Only an archive, without policy and config: s3://bucket/prefix, or a directory.",
        show_default=False,
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--database", metavar="NAME", help="With --from: which of the archive's databases.", show_default=False
    ),
]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        "--endpoint-url",
        metavar="URL",
        help="With --from s3://: the server; else AWS_ENDPOINT_URL, else Amazon's.",
        show_default=False,
    ),
]
BinDirectoryOption = Annotated[
    Path | None,
    typer.Option(
        "--bin-directory",
        metavar="DIR",
        help="With --from: where PostgreSQL's own programs are; else they are looked for.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Words:
    """What the command line says about an archive that stands alone; ``place`` is None where a policy names it."""

    place: str | None
    database: str | None = None
    endpoint_url: str | None = None
    bin_directory: Path | None = None


def named(argument: str | None, option: str | None, place: str | None) -> str | None:
    """The database's name, as the argument or with --database; None only where an archive says it.

    Raises:
        UsageProblem: it is missing, or said twice.
    """
    if option is not None and place is None:
        raise _lonely("--database")
    if argument is not None and option is not None and argument != option:
        raise UsageProblem(
            f"{argument} and --database {option} contradict each other",
            because="one database is restored at a time",
            next_step=f"leave {argument} out",
        )
    if place is None and argument is None:
        raise UsageProblem(
            "no database is named",
            because="there is neither DATABASE nor --from ARCHIVE",
            next_step="name it: backupctl restore DATABASE; see which there are: backupctl status",
        )
    return argument if argument is not None else option


def check_target(target: str, place: str | None) -> None:
    """Refuse an empty target, and the active where no policy says which that is. Raises UsageProblem."""
    if not target.strip():
        raise UsageProblem(
            "no target is named",
            because="--target is empty (a variable that is not set?)",
            next_step="say --target active, or --target DIR",
        )
    if place is not None and target == "active":
        raise UsageProblem(
            "--from needs a directory to restore to",
            because="no policy says which copy is the active",
            next_step="name one that is empty or not there: --target DIR",
        )


@contextmanager
def opened(words: Words, config: str | None, sources: KeySources | None = None) -> Iterator[House]:
    """The house that the config describes, or that an archive makes when one is named.

    Raises:
        UsageProblem: words that go with --from stand without it.
        ConfigInvalid, NotFound, DamageFound, ArchiveUnreachable: it cannot be opened.
    """
    if words.place is None:
        for option, value in (("--endpoint-url", words.endpoint_url), ("--bin-directory", words.bin_directory)):
            if value is not None:
                raise _lonely(option)
        with house.opened(config, sources) as found:
            yield found
        return
    from backupd.bootstrap.disaster import Origin, archive_house
    from backupd.cli import keys

    origin = Origin(words.place, words.endpoint_url, words.bin_directory)
    try:
        with archive_house(origin, sources or keys.sources(), words.database) as found:
            yield found
    except BackupdError as error:
        _say_from(error, words)
        raise


def _lonely(option: str) -> UsageProblem:
    return UsageProblem(
        f"{option} goes with --from only",
        because="without --from a policy says such things",
        next_step=f"leave {option} out, or name the archive: --from ARCHIVE",
    )


def _say_from(error: BackupdError, words: Words) -> None:
    """What is advised must work here, where nothing but the archive is known."""
    error.because = error.because.replace("the policies name", "the archive holds")
    said = _VERB.sub(rf"\g<0> {_from_words(words)}", error.next_step)
    said = said.replace("name its bin_directory in the policy", "name where it is: --bin-directory DIR")
    said = said.replace("as bin_directory in the policy", "with --bin-directory")
    error.next_step = said.replace("DATABASE", words.database) if words.database is not None else said


def restore_words(command: str, words: Words) -> str:
    """A command that restores, with what it needs where only an archive is known."""
    if words.place is None:
        return command
    more = f"{_from_words(words)} --target DIR"
    if words.bin_directory is not None:
        more += f" --bin-directory {shlex.quote(str(words.bin_directory))}"
    return _VERB.sub(rf"\g<0> {more}", command)


def _from_words(words: Words) -> str:
    more = f" --endpoint-url {words.endpoint_url}" if words.endpoint_url else ""
    return f"--from {shlex.quote(str(words.place))}{more}"


def only_one(found: House, named: str | None) -> str:
    """The database that is meant: the named one, or the only one that the archive holds.

    Raises:
        NotFound: the archive holds no database.
        UsageProblem: it holds several, and none was named.
    """
    if named is not None:
        return named.rpartition("/")[2]
    names = found.databases()
    if not names:
        raise NotFound(
            "the archive holds no database",
            because="no backup was ever made to it",
            next_step="name the place that holds repo.json and db/",
        )
    if len(names) > 1:
        raise UsageProblem(
            "the archive holds several databases",
            because=f"they are {', '.join(names)}",
            next_step=f"name one of them: --database {names[0]}",
        )
    return names[0]
