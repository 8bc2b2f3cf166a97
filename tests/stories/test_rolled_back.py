"""Somebody takes the newest records out of the archive: status says so, and so does the plan of a restore."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stories.home import home


@pytest.mark.slow
def test_a_truncated_list_of_records_is_told(tmp_path: Path) -> None:
    with home(tmp_path / "home") as pair:
        pair.up()
        full = pair.backup("full")["id"]
        pair.commit()
        newest = pair.backup()["id"]
        assert not pair.ok("status", "orders", "--json").json["databases"][0]["alarms"]
        (record,) = pair.archive.glob(f"db/*/backup/{newest}")
        record.rename(tmp_path / "stolen")
        alarms = pair.ok("status", "orders", "--json").json["databases"][0]["alarms"]
        assert any(newest in alarm and "is not in the archive" in alarm for alarm in alarms), alarms
        plan = pair.ok("restore", "orders", "--target", str(tmp_path / "look"), "--dry-run").out
        assert newest in " ".join(plan.split())
        again = pair.backup()
        assert again["type"] == "full", "what was lost is not built on"
        alarms = pair.ok("status", "orders", "--json").json["databases"][0]["alarms"]
        assert not any("is not in the archive" in alarm for alarm in alarms), alarms
        assert full != again["id"]
