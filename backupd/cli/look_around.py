"""restore --open and --stop: a restored directory is opened for a person, until Ctrl-C."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import output
from backupd.cli.output import Cell
from backupd.errors import UsageProblem

if TYPE_CHECKING:
    from backupd.runs.context import RunContext

_POLL_SECONDS = 0.3

OpenOption = Annotated[
    bool,
    typer.Option(
        "--open", help="With --target DIR: open it afterwards on a private socket, until Ctrl-C.", show_default=False
    ),
]
StopOption = Annotated[
    bool, typer.Option("--stop", help="Only stop what --open began in --target DIR.", show_default=False)
]


def check_words(target: str, *, opens: bool, stops: bool, as_json: bool) -> None:
    """Refuse words that do not go together. Raises UsageProblem."""
    problem = ""
    if opens and stops:
        problem = "--open and --stop contradict each other"
    elif (opens or stops) and target == "active":
        problem = f"{'--open' if opens else '--stop'} needs --target DIR: the active has its own server"
    elif opens and as_json:
        problem = "--open waits for a person, and --json is for scripts"
    if problem:
        raise UsageProblem(
            problem,
            because="--open starts what was restored to a directory, and --stop ends it",
            next_step="backupctl restore DATABASE --target DIR --open",
        )


def look_around(context: RunContext, target: str) -> None:
    """Open it, print how to look around, and wait until it is stopped; Ctrl-C stops it."""
    from backupd.runs.look_around import opened_place

    place = opened_place(context, target)
    try:
        words = place.open_up()
        output.print_line()
        output.print_line(Cell("open to look around", output.STRONG))
        output.print_sentences(words)
        if not place.is_open():
            return
        output.print_line(Cell("it runs until Ctrl-C, or until the same command with --stop", output.DIM))
        while place.is_open():
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        output.say("stopping it")
    finally:
        place.close_up()
    output.print_line("it is stopped; what was restored stays where it is")


def stop(context: RunContext, target: str, *, as_json: bool) -> int:
    """Stop what ``--open`` began; nothing that runs is as good."""
    from backupd.runs.look_around import opened_place

    stopped = opened_place(context, target).close_up()
    if as_json:
        output.print_json({"target": target, "stopped": stopped})
    else:
        output.print_line("it is stopped" if stopped else "nothing runs there")
    return 0
