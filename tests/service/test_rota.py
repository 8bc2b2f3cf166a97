"""What a person wishes for is begun, whatever the schedule begins at the same moment; each run is a real process."""

from __future__ import annotations

import logging
import sqlite3
import time
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


def test_a_wish_that_comes_as_another_run_begins_is_seen_to_afterwards(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sqlite3.connect(tmp_path / "app.db").close()
    copies = ["--copy", f"a={tmp_path / 'app.db'}", "--copy", f"b={tmp_path / 'b.db'}", "--active", "a"]
    conf = tmp_path / "conf"
    assert run(["init", str(conf), "--database", "orders", *copies, "--archive", f"file://{tmp_path / 'backups'}"]) == 0
    policy = conf / "policies" / "orders.toml"
    short = '\n[prepare]\ntimeout_seconds = "1s"\n'  # nobody replicates this pair: its runs are to end soon
    policy.write_text(policy.read_text() + short)
    house = open_house(conf / "backupd.toml")
    rota = Rota(house, Caps(), Pings(house.config.alarms.ping, house.clock.monotonic))

    def begun() -> list[str]:
        facts = [getattr(record, "facts", {}) for record in caplog.records if record.getMessage() == "a run begins"]
        return [one["type"] for one in facts]

    rota.start()
    try:
        rota.want("orders", Task.FULL)
        slot = Slot(datetime(2026, 11, 22, tzinfo=UTC), Task.INCREMENTAL)
        waiting = Candidate("orders", house.loaded("orders").policy.archive, Due(Task.INCREMENTAL, slot, ()))
        rota._waiting["orders"] = waiting  # what a look had found just before the wish came
        rota._begin(waiting)
        deadline = time.monotonic() + 120
        while "full" not in begun() and time.monotonic() < deadline:
            rota.tick()
            time.sleep(0.1)
        assert begun() == ["incremental", "full"]
    finally:
        rota.stop(30)
        house.close()
