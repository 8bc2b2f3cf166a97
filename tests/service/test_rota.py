"""What a person wishes for is begun, whatever the schedule begins at the same moment; each run is a real process."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupd.bootstrap import open_house
from backupd.cli.main import run
from backupd.decide.schedule import Due
from backupd.decide.slots import Slot
from backupd.decide.turns import Candidate, Caps
from backupd.model.rules import Task
from backupd.service.ping import Pings
from backupd.service.rota import Rota


@pytest.fixture(name="rota")
def a_rota(tmp_path: Path) -> Iterator[Rota]:
    """Of one database, whose copies nobody replicates."""
    sqlite3.connect(tmp_path / "app.db").close()
    copies = ["--copy", f"a={tmp_path / 'app.db'}", "--copy", f"b={tmp_path / 'b.db'}", "--active", "a"]
    conf = tmp_path / "conf"
    assert run(["init", str(conf), "--database", "orders", *copies, "--archive", f"file://{tmp_path / 'backups'}"]) == 0
    policy = conf / "policies" / "orders.toml"
    short = '\n[prepare]\ntimeout_seconds = "1s"\n'  # nobody replicates this pair: its runs are to end soon
    policy.write_text(policy.read_text() + short)
    house = open_house(conf / "backupd.toml")
    made = Rota(house, Caps(), Pings(house.config.alarms.ping, house.clock.monotonic))
    made.start()
    yield made
    made.stop(30)
    house.close()


def due_now(rota: Rota, task: Task) -> Candidate:
    """What a look had found just before."""
    slot = Slot(datetime(2026, 11, 22, tzinfo=UTC), task)
    found = Candidate("orders", rota._house.loaded("orders").policy.archive, Due(task, slot, ()))
    rota._waiting["orders"] = found
    return found


def test_a_wish_that_comes_as_another_run_begins_is_seen_to_afterwards(
    rota: Rota, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def begun() -> list[str]:
        facts = [getattr(record, "facts", {}) for record in caplog.records if record.getMessage() == "a run begins"]
        return [one["type"] for one in facts]

    rota.want("orders", Task.FULL)
    rota._begin(due_now(rota, Task.INCREMENTAL))
    deadline = time.monotonic() + 120
    while "full" not in begun() and time.monotonic() < deadline:
        rota.tick()
        time.sleep(0.1)
    assert begun() == ["incremental", "full"]


def test_what_else_is_due_is_asked_as_soon_as_a_drill_goes_on(rota: Rota) -> None:
    rota._rung.clear()
    rota._begin(due_now(rota, Task.DRILL))
    assert rota._rung == {"orders"}
