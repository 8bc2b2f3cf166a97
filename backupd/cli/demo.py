"""backupctl demo: the whole story on a real pair, told as it happens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backupd.cli.later import not_yet
from backupd.errors import UsageProblem

EXAMPLES = ("backupctl demo", "backupctl demo --keep /tmp/backupd-demo", "backupctl demo --engine postgres")


def demo(
    engine: Annotated[str, typer.Option("--engine", help="sqlite or postgres.")] = "sqlite",
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Leave everything in DIR; else nothing stays.")
    ] = None,
) -> int:
    """Stand up a real pair: load, full, incrementals, truncation, damage, restore to a point, reseed, proof."""
    if engine == "postgres":
        from backupd.demo.postgres_needs import require_postgres

        require_postgres()
        raise not_yet(
            "the story of PostgreSQL",
            because="all that it needs is here, but it is not written yet",
            instead="backupctl demo --engine sqlite",
        )
    if engine != "sqlite":
        raise UsageProblem(
            f"no engine is called {engine!r}",
            because="the engines are sqlite and postgres",
            next_step="backupctl demo --engine sqlite",
        )
    from backupd.demo.main import run_demo

    status: int = run_demo(keep=keep)
    return status
