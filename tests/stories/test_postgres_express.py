"""Express fulls of a real PostgreSQL pair: files come, grow, move and go, and every state comes back."""

from __future__ import annotations

import shutil

import pytest

from tests.stories.pg_home import PgHome, pg_home

pytestmark = pytest.mark.real


def restored(home: PgHome, backup_id: str, rows: int, *, extra: int) -> None:
    target = home.root / f"look-{backup_id[-8:]}" / "data"
    target.parent.mkdir(mode=0o700)
    shutil.chown(target.parent, home.pair.a.data.owner())
    plan = home.ok("restore", "orders", "--backup", backup_id, "--target", str(target), "--dry-run", "--json").json
    assert plan["base"] == backup_id
    home.ok("restore", "orders", "--backup", backup_id, "--target", str(target), "--yes")
    home.check_restored(target)
    with home.opened(target) as server:
        assert int(server.psql("SELECT count(*) FROM pgbench_history")) == rows
        assert int(server.psql("SELECT count(*) FROM extra")) == extra


@pytest.mark.slow
def test_days_of_express_fulls() -> None:
    with pg_home(16, scale=3) as home:
        active = home.pair.active
        active.psql("CREATE TABLE extra AS SELECT g AS id, repeat('x', 200) AS words FROM generate_series(1, 5000) g")
        full = home.backup("full")
        seen = [(full["id"], home.rows(), 5000)]
        # A file grows, one before it in the volume vanishes, new ones come: everything after them lies elsewhere.
        days = (
            ("INSERT INTO extra SELECT g, repeat('y', 200) FROM generate_series(5001, 9000) g", 9000),
            ("CREATE TABLE aaa AS SELECT 1; VACUUM FULL pgbench_branches; DELETE FROM extra WHERE id > 8000", 8000),
            ("DROP TABLE aaa", 8000),
        )
        for statements, extra in days:
            for statement in statements.split("; "):
                active.psql(statement)
            active.pgbench("-t", 20)
            rows = home.rows()
            express = home.backup("express")
            assert express["type"] == "express", express["notes"]
            assert express["checked_pages"] >= full["checked_pages"]
            assert express["stored_bytes"] < full["stored_bytes"] / 2
            seen.append((express["id"], rows, extra))
        assert home.ok("verify", "--level", "data").status == 0
        for backup_id, rows, extra in (seen[0], seen[-1]):
            restored(home, backup_id, rows, extra=extra)
        rows = home.rows()
        home.backup("incremental")
        target = home.root / "latest" / "data"
        target.parent.mkdir(mode=0o700)
        shutil.chown(target.parent, home.pair.a.data.owner())
        home.ok("restore", "orders", "--target", str(target), "--yes")
        with home.opened(target) as server:
            assert int(server.psql("SELECT count(*) FROM pgbench_history")) == rows
