"""What belongs to a backup of a data directory, and what does not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from backupd.engines.postgres import data_files
from backupd.engines.postgres.data_files import find_files, real_path, snapshot_names
from backupd.engines.postgres.volume_table import Entry, Kind, Tablespace
from backupd.errors import ConfigInvalid, NotHealthy, Refused
from tests.engines.postgres.cluster_builders import CATALOG, PAGE, a_data_directory, paths_of, put
from tests.pg_pairs import PairFactory, all_versions

WHOLE = [
    *(".", "PG_VERSION", "base", "base/5", "base/5/16384", "base/5/16384.1", "base/5/16384_fsm", "base/5/16384_vm"),
    *("base/5/16390", "base/5/16400_init", "base/5/PG_VERSION", "global", "global/1262", "global/pg_filenode.map"),
    *("log", "pg_multixact", "pg_multixact/members", "pg_multixact/members/0000", "pg_replslot", "pg_stat_tmp"),
    *("pg_subtrans", "pg_tblspc", "pg_tblspc/16499", f"pg_tblspc/16499/{CATALOG}", f"pg_tblspc/16499/{CATALOG}/5"),
    *(f"pg_tblspc/16499/{CATALOG}/5/16500", "pg_twophase", "pg_wal", "pg_wal/archive_status", "pg_wal/summaries"),
    *("pg_xact", "pg_xact/0000", "postgresql.conf"),
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return a_data_directory(tmp_path)


def entry_of(data: Path, path: str) -> Entry:
    return next(entry for entry in find_files(data).entries if entry.path == path)


def test_all_that_a_restore_needs_is_found_and_nothing_else(data: Path) -> None:
    assert paths_of(find_files(data)) == WHOLE


@pytest.mark.parametrize(
    "path",
    [
        *("postmaster.pid", "postmaster.opts", "backup_label", "backup_label.old", "tablespace_map", "backup_manifest"),
        *("backup_manifest.tmp", "recovery.signal", "standby.signal", "postgresql.auto.conf.tmp", "current_logfiles"),
        *("base/pgsql_tmp/pgsql_tmp17.0", "base/5/pg_internal.init", "global/pg_internal.init.1234"),
        *("base/5/t3_16385", "base/5/t12_16385_fsm", "base/5/t3_16385.1", "base/5/t3_16385_vm.2"),
        *("base/5/16400_fsm", "base/5/16400_vm", "base/5/16400.1", "base/5/16400_fsm.1"),
        *("pg_wal/00000002.history", "pg_wal/archive_status/x.done", "pg_dynshmem/mmap.1", "pg_notify/0000"),
        *("pg_serial/0000", "pg_snapshots/1", "pg_stat_tmp/global.stat", "pg_log/x.log"),
        *(f"pg_tblspc/16499/{CATALOG}/pgsql_tmp/pgsql_tmp1.2", "pg_tblspc/16499/lost+found/x"),
        *(".backupd-snapshot/run.reflink/PG_VERSION", ".backupd-restore/base/1"),
    ],
)
def test_these_are_left_out(data: Path, path: str) -> None:
    put(data, path, b"x" * 10)
    emptied = {"pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_log"}
    assert [it for it in paths_of(find_files(data)) if it not in WHOLE and it not in emptied] == []


@pytest.mark.parametrize(
    "path", ["base/5/16401_vm.1", "base/6/16400", "t3_16385", "base/5/custom", "pg_logical/replorigin_checkpoint"]
)
def test_these_stay(data: Path, path: str) -> None:
    put(data, path, b"x" * 10)
    assert path in paths_of(find_files(data))


def test_each_file_is_known_for_what_it_is(data: Path) -> None:
    kinds = {entry.path: entry.kind for entry in find_files(data).entries}
    relations = [path for path, kind in kinds.items() if kind == Kind.RELATION]
    assert relations == [
        *("base/5/16384", "base/5/16384.1", "base/5/16384_fsm", "base/5/16384_vm", "base/5/16390"),
        *("base/5/16400_init", "global/1262", f"pg_tblspc/16499/{CATALOG}/5/16500"),
    ]
    assert [path for path, kind in kinds.items() if kind == Kind.PAGED] == ["pg_multixact/members/0000", "pg_xact/0000"]
    assert kinds["global/pg_filenode.map"] == kinds["base/5/PG_VERSION"] == Kind.PLAIN
    assert entry_of(data, "base/5/16384.1") == Entry("base/5/16384.1", Kind.RELATION, 3 * PAGE, 0o600, 0, 131072)


def test_modes_are_as_they_are(data: Path) -> None:
    (data / "postgresql.conf").chmod(0o640)
    data.chmod(0o750)
    assert entry_of(data, "postgresql.conf").mode == 0o640
    assert entry_of(data, ".").mode == 0o750


def test_the_server_s_log_is_where_it_says(data: Path) -> None:
    put(data, "mylog/a.log", b"x")
    found = paths_of(find_files(data, emptied=["mylog"]))
    assert "mylog" in found
    assert "mylog/a.log" not in found
    assert "log/server.log" in found


def test_places_are_the_data_directory_and_each_tablespace(data: Path) -> None:
    places = snapshot_names(data)
    assert [place.directory for place in places] == [data, data.parent / "space"]
    assert places[1].names == (f"{CATALOG}/5/16500",)
    assert "global/pg_control" in places[0].names
    for place in places:
        for name in place.names:
            assert (place.directory / name).is_file()
            assert not (place.directory / name).is_symlink()
    found = find_files(data)
    assert found.tablespaces == (Tablespace(16499, str(data.parent / "space")),)
    roots = found.roots([Path("/s/data"), Path("/s/space")])
    assert real_path("base/5/16384", roots) == Path("/s/data/base/5/16384")
    assert real_path(f"pg_tblspc/16499/{CATALOG}/5/16500", roots) == Path(f"/s/space/{CATALOG}/5/16500")
    assert real_path("pg_tblspc/16498/x", roots) == Path("/s/data/pg_tblspc/16498/x")
    with pytest.raises(ValueError, match="shorter"):
        found.roots([Path("/s/data")])


def test_a_tablespace_inside_of_pg_tblspc_belongs_to_the_data_directory(data: Path) -> None:
    put(data, f"pg_tblspc/17000/{CATALOG}/5/17001", b"\0" * PAGE)
    found = find_files(data)
    assert f"pg_tblspc/17000/{CATALOG}/5/17001" in paths_of(found)
    assert len(found.places()) == 2
    assert f"pg_tblspc/17000/{CATALOG}/5/17001" in found.places()[0].names


@pytest.mark.parametrize("how", ["a link too", "not absolute", "inside of the data directory"])
def test_odd_tablespaces_are_refused(data: Path, how: str) -> None:
    link = data / "pg_tblspc/16499"
    link.unlink()
    if how == "a link too":
        (data.parent / "second").symlink_to(data.parent / "space")
        link.symlink_to(data.parent / "second")
    elif how == "not absolute":
        link.symlink_to("../../space")
    else:
        shutil.move(data.parent / "space", data / "space")
        link.symlink_to(data / "space")
    with pytest.raises(Refused, match="16499") as told:
        find_files(data)
    assert how in told.value.because


def test_a_tablespace_that_is_not_mounted_is_told(data: Path) -> None:
    shutil.rmtree(data.parent / "space" / CATALOG)
    with pytest.raises(NotHealthy, match=CATALOG):
        find_files(data)


def test_a_link_to_a_directory_is_refused_but_for_the_log(data: Path) -> None:
    shutil.move(data / "pg_wal", data.parent / "wal")
    (data / "pg_wal").symlink_to(data.parent / "wal")
    assert paths_of(find_files(data)) == WHOLE
    shutil.move(data / "pg_xact", data.parent / "xact")
    (data / "pg_xact").symlink_to(data.parent / "xact")
    with pytest.raises(Refused, match="pg_xact is a link"):
        find_files(data)


def test_a_link_to_a_file_is_left_out_and_told(data: Path) -> None:
    shutil.move(data / "postgresql.conf", data.parent / "postgresql.conf")
    (data / "postgresql.conf").symlink_to(data.parent / "postgresql.conf")
    found = find_files(data)
    assert "postgresql.conf" not in paths_of(found)
    assert "postgresql.conf is a link to" in found.notes[0]


def test_what_vanishes_during_the_walk_was_not_there(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = data_files._listed
    put(data, "base/6/1259", b"\0" * PAGE)

    def and_then_gone(directory: str) -> list[os.DirEntry[str]]:
        found = listed(directory)
        if directory.endswith("/base/5"):
            (data / "base/5/16384_vm").unlink()
        elif directory.endswith("/base"):
            shutil.rmtree(data / "base/6")
        return found

    monkeypatch.setattr(data_files, "_listed", and_then_gone)
    found = paths_of(find_files(data))
    assert "base/5/16384_vm" not in found
    assert "base/6" not in found
    assert "base/5/16384" in found


@pytest.mark.parametrize("path", ["base/5/16384", "base/5", "pg_tblspc", "global/pg_control"])
def test_what_cannot_be_read_is_named_with_its_owner(data: Path, path: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    for place in (*data.parents, data):
        if place.stat().st_uid == 0 and not place.stat().st_mode & 1:
            place.chmod(place.stat().st_mode | 0o055)
    for top, directories, files in os.walk(data):
        for name in directories:
            (Path(top) / name).chmod(0o755)
        for name in files:
            (Path(top) / name).chmod(0o644)
    (data / path).chmod(0o600)
    os.seteuid(65534)
    try:
        with pytest.raises(NotHealthy, match=str(data / path)) as told:
            find_files(data)
    finally:
        os.seteuid(0)
    assert "run backupd as root, who owns it" in told.value.next_step


@pytest.mark.parametrize("path", ["PG_VERSION", "global/pg_control"])
def test_another_directory_is_not_a_data_directory(data: Path, path: str) -> None:
    (data / path).unlink()
    with pytest.raises(ConfigInvalid, match="not a PostgreSQL data directory"):
        find_files(data)


@pytest.mark.real
@pytest.mark.parametrize("major", all_versions())
def test_a_real_directory_is_understood_whole(major: int, make_pair: PairFactory) -> None:
    server = make_pair(major, standby=False).a
    server.add_tablespace("outside")
    server.psql("CREATE TABLE t TABLESPACE outside AS SELECT generate_series(1, 1000) AS a")
    server.psql("CREATE UNLOGGED TABLE u AS SELECT generate_series(1, 1000) AS a")
    kept, unlogged = (server.psql(f"SELECT pg_relation_filepath('{name}')") for name in ("t", "u"))
    with_temporary = (
        "BEGIN; CREATE TEMP TABLE x AS SELECT generate_series(1, 1000) AS a; SELECT pg_relation_filepath('x')"
    )
    temporary = server.psql(with_temporary)
    server.stop()
    found = find_files(server.data)
    paths = paths_of(found)
    assert kept in paths
    assert unlogged not in paths
    assert f"{unlogged}_init" in paths
    assert temporary not in paths
    assert found.tablespaces[0].location == str(server.tablespaces / "outside")
    assert found.notes == ()
    known = {"base", "global", "pg_xact", "pg_multixact", "pg_logical", "pg_commit_ts", "pg_stat", "pg_twophase"}
    known |= {"pg_tblspc", ".", "PG_VERSION", "postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"}
    assert {path.split("/")[0] for path in paths} - known <= {
        *("pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_subtrans"),
        *("pg_stat_tmp", "log"),
    }
