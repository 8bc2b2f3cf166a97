"""A role that may nothing is told what it needs, before anything else is asked of the pair."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres.cluster import PgCopy, PgOptions
from backupd.engines.postgres.writer import PostgresWriter
from backupd.errors import ConfigInvalid


class _Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)


@pytest.mark.real
def test_a_role_without_rights_is_told_the_grants(pg_pair: PgPair, tmp_path: Path) -> None:
    pg_pair.active.psql("CREATE ROLE nobody_yet LOGIN")
    pg_pair.wait_caught_up()
    try:
        copies = {
            each.name: PgCopy(each.name, each.conninfo.replace("user=postgres", "user=nobody_yet"), each.data)
            for each in pg_pair.servers
        }
        writer = PostgresWriter(
            database="orders", copies=copies, options=PgOptions(), state_dir=tmp_path, clock=_Clock()
        )
        with pytest.raises(ConfigInvalid) as caught:
            writer.rights()
        assert "GRANT pg_monitor TO" in caught.value.next_step
    finally:
        pg_pair.active.psql("DROP ROLE nobody_yet")
