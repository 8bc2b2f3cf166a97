"""The local book is a cache: whoever loses the journal and the view of the archive loses nothing that was backed up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.stories.home import Home, home, sums_of


def rows(pair: Home) -> list[dict[str, Any]]:
    """What list says; how truncation went after a backup is this node's diary, and no part of the backup."""
    listed = pair.ok("list", "orders", "--json").json["backups"]
    return [{key: value for key, value in row.items() if key != "truncation"} for row in listed]


def kept(pair: Home) -> list[tuple[str, list[str]]]:
    plan = pair.ok("explain", "retention", "orders", "--json").json
    return [(row["id"], row["codes"]) for row in (*plan["keep"], *plan["drop"])]


def lose_the_book(pair: Home) -> None:
    pair.stop_service()
    lost = [*pair.state.glob("journal.db*"), pair.state / "orders" / "archive-view.json"]
    assert len(lost) >= 2
    for path in lost:
        path.unlink()
    pair.start_service()
    pair.wait_healthy()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_losing_the_book_loses_nothing(tmp_path: Path) -> None:
    with home(tmp_path / "home") as pair:
        pair.up()
        pair.backup("full")
        entry = pair.commit()
        first = pair.backup()
        pair.commit()
        last = pair.backup()
        pair.ok("hold", first["id"], "--reason", "the auditor asked")
        before, plan = rows(pair), kept(pair)
        window = pair.ok("status", "--json").json["databases"][0]["recovery_window"]
        lose_the_book(pair)
        # Every reading command answers at once, from the archive.
        assert rows(pair) == before
        assert kept(pair) == plan
        assert pair.ok("status", "--json").json["databases"][0]["recovery_window"] == window
        assert [row["backup_id"] for row in pair.ok("holds", "--json").json["backup_holds"]] == [first["id"]]
        # recover writes the book anew, once.
        [said] = pair.ok("recover", "--json").json["databases"][0]["done"]
        assert said == "this node's view of the archive was lost; it was made anew from the 3 backups there"
        assert pair.ok("recover", "--json").json["databases"][0]["done"] == []
        # The chain goes on, log leaves the copies again, and a restore to a moment before the loss works.
        pair.commit()
        row = pair.backup()
        assert row["type"] == "incremental"
        assert row["log_start"] == last["log_end"]
        assert row["truncation"]["state"] == "truncated"
        pair.ok("restore", "orders", "--at", entry.at.isoformat(), "--target", str(tmp_path / "out"))
        assert sums_of(tmp_path / "out" / "app.db") == (entry.rows, entry.total)
        # Prune minds the hold still, and removes what goes.
        for _ in range(2):
            pair.commit()
            pair.backup("full")
        with pair.policy_with(("keep_days = 28\n", ""), ("keep_fulls_min = 2", "keep_fulls_min = 1")):
            lose_the_book(pair)
            done = pair.ok("prune", "orders", "--yes", "--json").json["databases"][0]
            assert first["id"] not in done["deleted"]
            assert {last["id"], row["id"]} <= set(done["deleted"])
            problem, _, _ = pair.fails(5, "release", last["id"])
            assert last["id"] in problem
            pair.ok("release", first["id"])
            assert first["id"] in pair.ok("prune", "orders", "--yes", "--json").json["databases"][0]["deleted"]
        pair.ok("verify", "--level", "data")
