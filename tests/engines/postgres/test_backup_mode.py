"""The server's backup mode on real servers of every version, and the label that it answers with."""

from __future__ import annotations

import pytest

from backupd.demo.postgres_servers import PgPair
from backupd.engines.postgres.backup_mode import BackupMode, read_label
from backupd.engines.postgres.wal_names import lsn_text
from backupd.errors import ConfigInvalid, NotHealthy
from tests.pg_pairs import PairFactory, all_versions

LABEL = """\
START WAL LOCATION: 0/9E3C8B8 (file 000000010000000000000009)
CHECKPOINT LOCATION: 0/9EC1298
BACKUP METHOD: streamed
BACKUP FROM: standby
START TIME: 2026-11-22 05:55:44 UTC
LABEL: backupd
START TIMELINE: 1
"""


@pytest.mark.parametrize("major", all_versions())
def test_a_backup_of_either_side(major: int, make_pair: PairFactory) -> None:
    pair = make_pair(major, settings={"allow_in_place_tablespaces": "on"})
    pair.a.psql("CREATE TABLESPACE elsewhere LOCATION ''")
    pair.wait_caught_up()
    for server in (pair.b, pair.a):
        mode = BackupMode.begin(server.conninfo, "backupd: Köln's 100% test", copy=server.name)
        end = mode.stop()
        assert mode.stop() is end
        mode.close()
        assert end.from_standby == (server is pair.b)
        assert end.start_timeline == 1
        assert end.start_lsn <= end.checkpoint_lsn <= end.stop_lsn
        assert f"START WAL LOCATION: {lsn_text(end.start_lsn)} (file " in end.backup_label
        assert "LABEL: backupd: Köln's 100% test\n" in end.backup_label
        assert end.backup_label.endswith("START TIMELINE: 1\n")
        assert not (server.data / "backup_label").exists()
        assert end.tablespace_map in {"", "16384 pg_tblspc/16384\n"}


def test_the_connection_is_the_backup(pg_pair: PgPair) -> None:
    mode = BackupMode.begin(pg_pair.b.conninfo, "backupd", copy="b")
    pg_pair.b.psql(f"SELECT pg_terminate_backend({mode.backend_pid})")
    with pytest.raises(NotHealthy, match="lost the connection to copy b") as told:
        mode.stop()
    assert not told.value.details.get("role_change")
    mode.close()
    mode.close()


def test_a_promotion_in_between_is_a_role_change(make_pair: PairFactory) -> None:
    pair = make_pair()
    lost, kept = (BackupMode.begin(pair.b.conninfo, "backupd", copy="b") for _ in range(2))
    pair.b.promote()
    pair.b.psql(f"SELECT pg_terminate_backend({lost.backend_pid})")
    for mode in (kept, lost):
        with pytest.raises(NotHealthy, match="roles changed") as told:
            mode.stop()
        assert told.value.details["role_change"]
        assert "no longer the standby" in told.value.because
        mode.close()


def test_full_page_writes_off_in_between_spoils_it(make_pair: PairFactory) -> None:
    pair = make_pair()
    mode = BackupMode.begin(pair.b.conninfo, "backupd", copy="b")
    pair.a.set(full_page_writes="off")
    pair.a.psql("CHECKPOINT")
    pair.a.psql("CREATE TABLE written_without (n int)")
    pair.wait_caught_up()
    with pytest.raises(NotHealthy) as told:
        mode.stop()
    assert "full_page_writes" in told.value.because
    assert not told.value.details.get("role_change")
    mode.close()
    with pytest.raises(NotHealthy, match="did not do what was asked"):
        BackupMode.begin(pair.b.conninfo, "backupd", copy="b")


def test_a_role_without_the_right_is_told(make_pair: PairFactory) -> None:
    pair = make_pair()
    conninfo = pair.a.add_password_user("nobody_special", "secret word".replace(" ", "_"))
    with pytest.raises(ConfigInvalid, match="may not"):
        BackupMode.begin(conninfo, "backupd", copy="a")


def test_a_label_is_read() -> None:
    label = read_label(LABEL)
    assert (lsn_text(label.start_lsn), lsn_text(label.checkpoint_lsn)) == ("0/9E3C8B8", "0/9EC1298")
    assert (label.start_timeline, label.from_standby) == (1, True)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("START WAL LOCATION", "START WAL", "no line for: start"),
        ("CHECKPOINT LOCATION: 0/9EC1298", "CHECKPOINT LOCATION: soon", "no line for: checkpoint"),
        ("BACKUP FROM: standby", "BACKUP FROM: tape", "no line for: from"),
        ("START TIMELINE: 1", "", "no line for: timeline"),
        ("START TIMELINE: 1", "START TIMELINE: 2", "timeline 2, and the file 0000000100000"),
    ],
)
def test_a_label_that_is_odd_is_refused(old: str, new: str, says: str) -> None:
    with pytest.raises(NotHealthy) as told:
        read_label(LABEL.replace(old, new))
    assert says in told.value.because
