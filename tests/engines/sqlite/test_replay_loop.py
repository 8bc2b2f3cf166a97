"""While replay is frozen nothing may move the passive's file, whoever asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backupd.engines.sqlite.replay import Replay
from backupd.engines.sqlite.replay_loop import Frozen, ReplayLoop


def test_a_seed_is_not_put_in_place_under_a_snapshot(tmp_path: Path) -> None:
    done: list[str] = []

    def noting(what: str) -> Callable[[], dict[str, Any]]:
        def action() -> dict[str, Any]:
            done.append(what)
            return {}

        return action

    loop = ReplayLoop(Replay(tmp_path / "app.db", tmp_path), tmp_path / "map", suspended=None, on_change=lambda: None)
    now = time.monotonic()
    frozen = loop._frozen = Frozen(now, now + 3600)
    loop.order(noting("a seed"), lambda _: None, moves_file=True)
    loop.order(noting("a question"), lambda _: None)
    loop._turn()
    loop._turn()
    assert done == ["a question"]
    loop.thaw(frozen)
    loop._turn()
    assert done == ["a question", "a seed"]
