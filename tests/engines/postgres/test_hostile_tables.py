"""A cluster's table that lies, with the right sums around it: nothing is written outside, nothing without end."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backupd.engines.postgres.cluster import CONTROL, TABLE, VOLUME, PgOptions
from backupd.engines.postgres.directory_target import DirectoryTarget
from backupd.engines.postgres.staged_log import used_histories
from backupd.engines.postgres.staged_target import RestoreChoices
from backupd.engines.postgres.volume_files import VolumeFiles
from backupd.engines.postgres.volume_table import (
    ClusterFacts,
    Entry,
    Kind,
    Tablespace,
    VolumeTable,
    decode,
    encode,
    lay_out,
)
from backupd.errors import BackupdError, DamageFound, NotHealthy
from backupd.model.records import StoredFile, StoredMap

PAGE = 8192
FACTS = ClusterFacts(160003, "7", 1, 0x3000028, 0x3000100, "START WAL LOCATION: 0/3\nCHECKPOINT LOCATION: 0/3\n")
ENTRIES = [
    Entry(".", Kind.DIRECTORY, mode=0o700),
    Entry("PG_VERSION", Kind.PLAIN, 3, 0o600),
    Entry("base", Kind.DIRECTORY, mode=0o700),
    Entry("base/5", Kind.RELATION, PAGE, 0o600),
    Entry("pg_tblspc", Kind.DIRECTORY, mode=0o700),
]


def table(*more: Entry, **facts: Any) -> VolumeTable:
    return VolumeTable(replace(FACTS, **facts), *lay_out([*ENTRIES, *more]))


def damaged(found: VolumeTable) -> str:
    with pytest.raises(DamageFound) as caught:
        decode(encode(found))
    return caught.value.because


def test_an_honest_table_is_read() -> None:
    assert decode(encode(table())).header == FACTS


@pytest.mark.parametrize(
    "path",
    [
        *("../x", "/etc/x", "base/../../x", "base//x", "a\0b", "base/.", "", "\ud800", "x" * 256),
        *("backup_label", "tablespace_map", "recovery.signal", "standby.signal", "postmaster.pid"),
        *(".backupd-restore", ".backupd-restore/x"),
    ],
)
def test_a_path_that_leads_out_or_that_a_server_acts_on_is_damage(path: str) -> None:
    assert damaged(table(Entry(path, Kind.PLAIN, 1)))


@pytest.mark.parametrize(
    "facts",
    [
        {"history_files": {"../../../../tmp/x": "words"}},
        {"history_files": {"/tmp/x.history": "words"}},
        {"history_files": {"00000002.history\0": "words"}},
        {"settings": {"max_connections": "100'\nshared_preload_libraries = '/tmp/evil"}},
        {"settings": {"max_connections": "100\\"}},
        {"settings": {"x\ny": "1"}},
        {"wal_segment_bytes": 0},
        {"wal_segment_bytes": 3 << 20},
        {"timeline": 2**32},
        {"timeline": 0},
        {"system_identifier": "../x"},
        {"backup_label": "\ud800"},
        {"tablespaces": (Tablespace(16400, "relative"),)},
        {"tablespaces": (Tablespace(16400, "/srv/../etc"),)},
        {"tablespaces": (Tablespace(16400, "/srv/a\nb"),)},
    ],
)
def test_facts_that_would_write_elsewhere_or_into_a_configuration_are_damage(facts: dict[str, Any]) -> None:
    assert damaged(table(**facts))


def test_timelines_without_end_make_no_files_without_end() -> None:
    with pytest.raises(DamageFound, match="timelines"):
        used_histories({"FFFFFFF0.history": "words"}, [])
    with pytest.raises(DamageFound, match="timelines"):
        used_histories({}, [], 2**31)
    assert set(used_histories({}, [], 3)) == {"00000002.history", "00000003.history"}


def target(root: Path) -> DirectoryTarget:
    return DirectoryTarget(root / "target", RestoreChoices(PgOptions(), state_dir=root / "state"))


def stored(name: str, size: int) -> StoredFile:
    return StoredFile(name, size, PAGE, size // PAGE, "", (), StoredMap("m", size // PAGE, 0, ""))


def test_a_table_that_says_it_is_huge_is_not_read(tmp_path: Path) -> None:
    for name in (TABLE, CONTROL):
        with pytest.raises(DamageFound, match="cannot be right"):
            target(tmp_path).stage_file(stored(name, 1 << 40))


def test_log_that_is_said_to_reach_from_the_first_byte_to_the_last_is_missing_and_costs_nothing(tmp_path: Path) -> None:
    place = target(tmp_path)
    stage = place._stage
    stage.main.own.mkdir(parents=True)
    (stage.main.own / TABLE).write_bytes(encode(table(start_lsn=0, stop_lsn=2**64 - 1)))
    with pytest.raises(DamageFound, match="log that the restored pages need is missing"):
        stage.log.check_whole()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that the server's user may enter, which those below pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="pgl-", dir="/tmp") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.real
def test_pages_that_do_not_fit_their_table_are_damage_before_they_are_fetched(open_directory: Path) -> None:
    place = target(open_directory)
    try:
        place.begin("run")
    except NotHealthy as nobody:
        pytest.skip(nobody.because)
    small = place.stage_file(stored(TABLE, PAGE))
    assert isinstance(small, Path)
    small.write_bytes(encode(table()))
    with pytest.raises(DamageFound, match="do not fit"):
        place.stage_file(stored(VOLUME, 1000 * PAGE))


def test_names_that_differ_by_case_or_form_are_two_files_or_none(tmp_path: Path) -> None:
    names = ("base/A", "base/a", "base/\u00e4", "base/a\u0308")
    found = table(*(Entry(name, Kind.PLAIN, 1) for name in names))
    volume = VolumeFiles(tmp_path / "stage", found)
    volume.open(found.size_bytes)
    volume.close()
    assert all((tmp_path / "stage" / name).is_file() for name in names)
    (tmp_path / "stage" / "base" / "a").unlink()
    os.link(tmp_path / "stage" / "base" / "A", tmp_path / "stage" / "base" / "a")  # as a filesystem without case has it
    with pytest.raises(OSError, match="does not tell its name"):
        VolumeFiles(tmp_path / "stage", found).open(found.size_bytes)


NASTY = ["..", "../x", "/x", "a/b", "", "\0", "\ud800", -1, 0, 2**31, 2**63, 1.5, None, True, [], {}, "7777", "4755"]
LINES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30), st.sampled_from(NASTY)), min_size=1, max_size=3)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(lies=LINES)
def test_whatever_a_table_says_nothing_outside_is_made(
    tmp_path_factory: pytest.TempPathFactory, lies: list[tuple[int, int, Any]]
) -> None:
    root = tmp_path_factory.mktemp("table")
    lines = [json.loads(line) for line in encode(table()).rstrip(b"\n").split(b"\n")]
    for line, number, said in lies:
        fields = lines[line % len(lines)]
        inner = fields.get("cluster")
        if isinstance(inner, dict) and inner and number % 2:  # what is left of it by an earlier lie
            fields = inner
        fields[sorted(fields)[number % len(fields)]] = copy.deepcopy(said)
    data = "\n".join([*map(json.dumps, lines), ""]).encode()
    data += b"\n" * (-len(data) % PAGE)
    try:
        found = decode(data)
        if found.size_bytes <= 1 << 40:
            volume = VolumeFiles(root / "stage", found)
            volume.open(found.size_bytes)
            volume.close()
    except (BackupdError, OSError):
        pass
    assert {path.name for path in root.iterdir()} <= {"stage"}
    for path in root.rglob("*"):
        assert not path.is_symlink()
        assert not path.stat().st_mode & 0o7027, "no bit for others, none for setuid, no group that writes"
