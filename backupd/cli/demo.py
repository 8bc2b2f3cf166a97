"""backupctl demo: the whole story on a real pair, told as it happens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backupd.cli.later import not_yet
from backupd.errors import UsageProblem

EXAMPLES = ("backupctl demo", "backupctl demo --keep /tmp/backupd-demo")


def demo(
    engine: Annotated[str, typer.Option("--engine", help="sqlite; postgres comes in a later version.")] = "sqlite",
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Leave everything in DIR; else nothing stays.")
    ] = None,
) -> int:
    """Stand up a real pair: load, full, incrementals, truncation, damage, restore to a point, reseed, proof."""
    if engine == "postgres":
        raise not_yet(
            "the demo of PostgreSQL",
            because="this version speaks for SQLite only",
            instead="backupctl demo --engine sqlite",
        )
    if engine != "sqlite":
        raise UsageProblem(
            f"no engine is called {engine!r}",
            because="the engines are sqlite and, later, postgres",
            next_step="backupctl demo --engine sqlite",
        )
    from backupd.demo.main import run_demo

    status: int = run_demo(keep=keep)
    return status
