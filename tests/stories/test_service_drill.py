"""A drill that the service's schedule begins, on a real pair: backups of the database go on beside it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.soak.house import Installation

pytestmark = pytest.mark.slow

# A question that takes some seconds, whatever the data.
LONG = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000000) SELECT count(*) FROM n"
CHECK = f"""
[drill]
schedule = "every 15 s"
[[drill.checks]]
name = "long"
sql = "{LONG}"
expect = 30000000
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Installation]:
    home = Installation(tmp_path, log_file_seconds_max=0.2)
    home.init(schedule=True)
    policy = home.config.parent / "policies" / "orders.toml"
    lines = [line for line in policy.read_text().splitlines() if not line.startswith(("full =", "incremental ="))]
    rings = '[schedule]\nfull = "every 10 min"\nincremental = "every 2 s"'
    policy.write_text("\n".join(lines).replace("[schedule]", rings) + CHECK)
    with contextlib.closing(sqlite3.connect(home.active)) as connection:
        connection.execute("pragma journal_mode=wal")
        connection.execute("create table t (x)")
        connection.commit()
    yield home
    home.stop_service()


def status(home: Installation) -> dict[str, Any]:
    found: dict[str, Any] = home.ctl_json("status", "orders")["databases"][0]
    return found


def test_backups_go_on_while_a_drill_runs_and_its_verdict_is_told(home: Installation) -> None:
    home.start_service()
    home.wait("a drill", lambda: status(home)["last_drill"] is not None, 180)
    drill = status(home)["last_drill"]
    assert drill["sound"], drill
    assert [one["name"] for one in drill["checks"]] == ["long"]
    began, ended = (datetime.fromisoformat(drill[name]) for name in ("started_at", "at"))
    backups = home.ctl_json("list", "orders")["backups"]
    beside = [one for one in backups if began < datetime.fromisoformat(one["started_at"]) < ended]
    assert beside, (drill, backups)
    assert status(home)["last_proven"]["position"] == drill["position"]
