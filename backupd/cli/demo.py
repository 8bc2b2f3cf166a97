"""backupctl demo: the whole story on a real pair, told as it happens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
        from backupd.demo.postgres_story import run_postgres_demo

        played: int = run_postgres_demo(keep=keep)
        return played
    if engine != "sqlite":
        raise UsageProblem(
            f"no engine is called {engine!r}",
            because="the engines are sqlite and postgres",
            next_step="backupctl demo --engine sqlite",
        )
    from backupd.demo.main import run_demo

    status: int = run_demo(keep=keep)
    return status
