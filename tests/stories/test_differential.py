"""A differential of a real pair, after an incremental has let the log since the full go from both copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stories.home import home, sums_of


@pytest.mark.slow
def test_a_differential_after_truncation_restores_alone(tmp_path: Path) -> None:
    with home(tmp_path / "home") as pair:
        pair.up()
        pair.backup("full")
        pair.commit()
        pair.commit("UPDATE ledger SET amount = amount + 1")
        incremental = pair.backup()
        assert incremental["truncation"]["state"] == "truncated"
        assert incremental["truncation"]["before"] == incremental["log_end"]
        pair.commit("DELETE FROM ledger WHERE id % 7 = 0")
        wanted = pair.commit()
        differential = pair.backup("differential")
        assert differential["type"] == "differential", differential["notes"]
        assert differential["log_start"] == incremental["log_start"]

        # What the incremental was is of no importance any more: only the log that it stored is.
        [record] = pair.objects("backup")[1:2]
        assert record.name == incremental["id"]
        held = record.read_bytes()
        for number, harm in enumerate((held[:-20], b"")):
            record.chmod(0o600)
            record.write_bytes(harm)
            out = tmp_path / f"out{number}"
            pair.ok("restore", "orders", "--backup", differential["id"], "--target", str(out))
            assert sums_of(out / "app.db") == (wanted.rows, wanted.total)
        record.write_bytes(held)
        pair.ok("verify", "--level", "data")
        pair.ok("restore", "orders", "--yes")
        assert sums_of(pair.active) == (wanted.rows, wanted.total)
