"""The words that many verbs share: --config, --json, --dry-run, DATABASE."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Which(StrEnum):
    """One of the two archives that a policy may name."""

    FIRST = "first"
    SECOND = "second"


ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The service config; else $BACKUPD_CONFIG, else ./backupd.toml.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON on standard output.", show_default=False)]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.", show_default=False)
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Answer the question with yes.", show_default=False)]
DatabaseArgument = Annotated[
    str, typer.Argument(metavar="DATABASE", help="A database that a policy names.", show_default=False)
]
AnyDatabaseArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[DATABASE]", help="A database that a policy names; all of them when left out.", show_default=False
    ),
]
ArchiveOption = Annotated[
    Which, typer.Option("--archive", help="Which of the policy's archives: its archive, or its second_archive.")
]
