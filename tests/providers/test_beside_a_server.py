"""A snapshot inside the data directory of a server that runs disturbs neither it nor somebody's pg_basebackup."""

from __future__ import annotations

import pytest

from backupd.providers.plain_copy import PlainCopyProvider
from tests.pg_pairs import a_pair


@pytest.mark.real
def test_pg_basebackup_passes_a_snapshot_over() -> None:
    with a_pair(standby=False) as pair:
        server, provider = pair.a, PlainCopyProvider()
        snapshot = provider.take(server.data, ["PG_VERSION", "global/pg_control"], "L1")
        taken = pair.directory / "taken"
        server.program("pg_basebackup", "-D", taken, "-d", server.conninfo, "-X", "none", "-c", "fast")
        assert (taken / "PG_VERSION").is_file()
        assert [path.name for path in taken.iterdir() if "backupd" in path.name] == []
        server.restart()
        assert provider.leftovers(server.data) == [snapshot]
        assert (snapshot.directory / "PG_VERSION").read_bytes() == (server.data / "PG_VERSION").read_bytes()
        provider.discard(snapshot)
        assert [path.name for path in server.data.iterdir() if "backupd" in path.name] == []
