"""Waiting for replication of our own: what an earlier capture has left behind is not what ours says."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backupd.engines.sqlite import replication
from backupd.engines.sqlite.replication import REFUSALS_MAX
from backupd.errors import NotHealthy
from backupd.model.pair import CopyState


class Slow:
    """A writer whose last capture has failed, and whose next one begins, or fails, only after many looks."""

    def __init__(self, root: Path, *, fails_again: bool) -> None:
        self.state = root / "capture.json"
        self.state.write_text('{"state": "failed", "problem": "p", "reason": "r", "next_step": "n"}')
        os.utime(self.state, ns=(1, 1))
        self.looks, self._fails_again = 0, fails_again
        self.clock = SimpleNamespace(sleep=self._sleep)
        self.database, self.layout = "orders", SimpleNamespace(directory=root)

    def _sleep(self, _: float) -> None:
        self.looks += 1
        if self._fails_again and self.looks == 3 * REFUSALS_MAX:
            os.utime(self.state, ns=(2, 2))

    def active_files(self) -> Any:
        return SimpleNamespace(capture_socket="c", capture_state=self.state, path=self.state)

    def passive_files(self) -> Any:
        return SimpleNamespace(replay_socket="r")

    def pair(self) -> Any:
        return SimpleNamespace(active=SimpleNamespace(state=CopyState.FAILED))

    def answer(self, *_: object) -> dict[str, str] | None:
        return {"history": "h"} if self.looks > 5 * REFUSALS_MAX else None


@pytest.mark.parametrize("fails_again", [False, True])
def test_a_failure_of_before_is_not_believed_and_a_new_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_again: bool
) -> None:
    writer: Any = Slow(tmp_path, fails_again=fails_again)
    monkeypatch.setattr(replication, "ask", writer.answer)
    monkeypatch.setattr(replication, "check_is_wal_database", lambda _: None)
    before = replication._written_at(writer.active_files())
    if fails_again:
        with pytest.raises(NotHealthy, match="p"):
            replication._wait_until_up(writer, before)
        assert writer.looks > 3 * REFUSALS_MAX
    else:
        replication._wait_until_up(writer, before)
