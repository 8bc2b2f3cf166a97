"""Express fulls of a real SQLite pair with an encrypted archive, taken by a host that cannot read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.archive.age import new_identity
from tests.stories.home import home, sums_of


@pytest.mark.slow
def test_a_few_days_of_express_fulls(tmp_path: Path) -> None:
    secret, recipient = new_identity()
    key = tmp_path / "key.txt"
    key.write_text(f"{secret}\n")
    with home(tmp_path / "home", rows=4000) as pair:
        pair.up()
        pair.policy.write_text(f'{pair.policy.read_text()}\n[encryption]\nmode = "age"\nrecipients = ["{recipient}"]\n')
        full = pair.backup("full")
        states = []
        for day in range(3):
            pair.commit("UPDATE ledger SET amount = amount + 1 WHERE id % 400 = 0")
            express = pair.backup("express")
            assert (express["type"], express["truncation"]["state"]) == ("express", "truncated"), day
            assert express["checked_pages"] >= full["checked_pages"]
            assert express["stored_bytes"] < full["stored_bytes"] / 3
            states.append((express["id"], pair.commit()))
        after = pair.backup("incremental")
        assert after["log_start"] == express["log_end"]
        plan = pair.ok("restore", "orders", "--target", str(tmp_path / "out"), "--dry-run", "--json", "--key", str(key))
        assert plan.json["base"] == express["id"]
        assert plan.json["logs_count"] < 6, "not the log since the full"
        pair.ok("restore", "orders", "--target", str(tmp_path / "out"), "--yes", "--key", str(key))
        _, newest = states[-1]
        assert sums_of(tmp_path / "out" / "app.db") == (newest.rows, newest.total)
        assert pair.ok("verify", "--level", "data", "--key", str(key)).status == 0

        # After a restore a new history needs a full; an express is one, and few pages differ.
        pair.ok("restore", "orders", "--backup", states[0][0], "--yes", "--key", str(key))
        back = pair.backup("express")
        assert back["type"] == "express"
        assert back["stored_bytes"] < full["stored_bytes"] / 3
        last = pair.commit("DELETE FROM ledger WHERE id % 7 = 0")
        assert pair.backup("incremental")["type"] == "incremental"
        pair.ok("restore", "orders", "--target", str(tmp_path / "again"), "--yes", "--key", str(key))
        assert sums_of(tmp_path / "again" / "app.db") == (last.rows, last.total)
        assert pair.ok("list", "orders").out.count(" express ") == 4
