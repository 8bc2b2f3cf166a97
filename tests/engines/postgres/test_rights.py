"""A role that is no superuser, with the rights that we say it needs and no other, can do all that a run does."""

from __future__ import annotations

import pytest

from backupd.engines.postgres.connect import connect
from backupd.engines.postgres.facts import read_facts
from backupd.engines.postgres.rights import missing_grants, rights_for
from tests.pg_pairs import PairFactory, all_versions

pytestmark = pytest.mark.real


def test_version_14_lets_only_a_superuser_ask_for_a_checkpoint() -> None:
    assert any(right.grant == 'ALTER ROLE "x""y" SUPERUSER' for right in rights_for('x"y', 14, "postgres"))


@pytest.mark.slow
@pytest.mark.parametrize("major", all_versions())
def test_the_rights_that_we_name_are_enough(make_pair: PairFactory, major: int) -> None:
    pair = make_pair(major)
    active = pair.a.add_password_user("keeper", "x")
    pair.a.psql("CREATE DATABASE stamps")
    with connect(active, copy="a") as server:
        missing = missing_grants(server, "stamps")
        assert len(missing) == len(rights_for("keeper", major, "stamps"))
        for grant in missing:
            pair.a.psql(grant)
        assert missing_grants(server, "stamps") == []
        server.run("CHECKPOINT")
        server.run("SELECT pg_create_restore_point('x'), pg_switch_wal()")
        server.run("SELECT pg_create_physical_replication_slot('backupd', true)")
        read_facts(server)
    with connect(active, dbname="stamps") as server:
        server.run("CREATE SCHEMA backupd")
    pair.wait_caught_up()
    with connect(pair.b.conninfo.replace("user=postgres", "user=keeper password=x"), copy="b") as server:
        assert missing_grants(server, "stamps") == []
        server.run("CHECKPOINT")
        server.run("SELECT pg_create_physical_replication_slot('backupd', true)")
        server.run("SELECT pg_wal_replay_pause()")
        server.run("SELECT pg_backup_start('x', true)")
        server.run("SELECT pg_backup_stop(false)")
        server.run("SELECT pg_wal_replay_resume()")
        server.run("SELECT pg_replication_slot_advance('backupd', pg_last_wal_replay_lsn())")
        assert read_facts(server).slot("backupd") is not None
