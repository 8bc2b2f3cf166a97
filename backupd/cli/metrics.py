"""backupctl metrics: the numbers for Prometheus, for hosts where nothing listens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backupd.cli import house, output
from backupd.cli.options import AnyDatabaseArgument, ConfigOption
from backupd.errors import ConfigInvalid, UsageProblem

EXAMPLES = ("backupctl metrics", "backupctl metrics --textfile /var/lib/node_exporter/backupd.prom")

# The exporter runs as another user.
_TEXTFILE_MODE = 0o644


def metrics(
    database: AnyDatabaseArgument = None,
    textfile: Annotated[
        str, typer.Option("--textfile", metavar="PATH", help="Write them there at once, for a textfile collector.")
    ] = "",
    config: ConfigOption = None,
) -> int:
    """Look at each database now, and show its numbers in Prometheus' text form."""
    from backupd.runs.status import status_of

    try:
        from backupd.service.metrics import metrics_text
    except ImportError as error:
        raise ConfigInvalid(
            "the metrics cannot be made",
            because=f"{error.name} is not installed",
            next_step="pip install 'backupd[service]'",
        ) from None
    if textfile and not textfile.endswith(".prom"):
        raise UsageProblem(
            f"{textfile} would not be read",
            because="a textfile collector reads files that are named *.prom",
            next_step=f"backupctl metrics --textfile {textfile}.prom",
        )
    with house.opened(config) as opened:
        now = opened.clock.now()
        rows = [(status_of(house.one(opened, name)), now) for name in house.chosen(opened, database)]
    text = metrics_text(rows, now)
    if not textfile:
        output.print_line(text.decode().rstrip("\n"))
        return 0
    _write(Path(textfile).absolute(), text)
    return 0


def _write(path: Path, text: bytes) -> None:
    """Whole or not at all: half a file would be half of the alarms."""
    import os

    from backupd.durable import cannot_write, replace_file

    try:
        replace_file(path, text, prepare=lambda file: os.fchmod(file, _TEXTFILE_MODE))
    except OSError as error:
        raise cannot_write(path, error) from None
