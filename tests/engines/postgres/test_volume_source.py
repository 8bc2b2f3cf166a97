"""What is read of a cluster is its files, and a page that is not right is named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backupd.engines.postgres.data_files import find_files, real_path
from backupd.engines.postgres.descriptors import Descriptors
from backupd.engines.postgres.settling import Moving
from backupd.engines.postgres.small_sources import ControlSource, TableSource, control_is_sound
from backupd.engines.postgres.volume_source import VolumeSource
from backupd.engines.postgres.volume_table import ClusterFacts, Kind, VolumeTable, decode, encode
from backupd.errors import DamageFound, FreezeBroken, NotHealthy
from tests.engines.postgres.cluster_builders import (
    CATALOG,
    PAGE,
    START_LSN,
    a_data_directory,
    a_page,
    frozen,
    pages,
    put,
    read_all,
)
from tests.pg_pairs import PairFactory, all_versions

FACTS = ClusterFacts(150018, "7", 1, START_LSN, START_LSN + 1, "label")
RELATION_PAGES = 5 + 3 + 3 + 1 + 1 + 1 + 2


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return a_data_directory(tmp_path)


def moving(data: Path, pause: Callable[[float], None] = lambda _: None, **how: object) -> VolumeSource:
    found = find_files(data)
    newest = how.get("newest")
    judged = Moving(START_LSN, None if newest is None else (lambda: newest), pause)  # type: ignore[arg-type,return-value]
    return VolumeSource(found, found.roots(), data_checksums=bool(how.get("checksums", True)), moving=judged)


def content_of(table: VolumeTable, volume: bytes) -> dict[str, bytes]:
    return {it.path: volume[it.offset : it.offset + it.size_bytes] for it in table.entries if it.kind != Kind.DIRECTORY}


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


# --- frozen -----------------------------------------------------------------


@pytest.mark.parametrize("block_pages", [1, 3, 128])
def test_a_frozen_cluster_is_read_as_it_is(data: Path, block_pages: int) -> None:
    source = frozen(data)
    volume, bad = read_all(source, block_pages)
    assert bad == []
    assert len(volume) == source.size_bytes
    checked = source.finish()
    assert (checked.relation_pages, checked.unchecked_pages, checked.notes) == (RELATION_PAGES, 0, ())
    table = decode(encode(source.table(FACTS)))
    found = find_files(data)
    assert [it.path for it in table.entries] == [it.path for it in found.entries]
    for path, content in content_of(table, volume).items():
        assert content == real_path(path, found.roots()).read_bytes(), path
    source.close()


def test_many_threads_read_the_same(data: Path) -> None:
    expected, _ = read_all(frozen(data))
    source = frozen(data)

    def part(first: int) -> bytes:
        view = memoryview(bytearray(PAGE))
        source.read_into(view, first * PAGE)
        assert source.bad_pages(first, view, None) == []  # type: ignore[arg-type]
        source.forget(first * PAGE, PAGE)
        return bytes(view)

    with ThreadPoolExecutor(8) as pool:
        assert b"".join(pool.map(part, list(range(source.page_count)))) == expected
    source.finish()


@pytest.mark.parametrize(
    ("path", "block", "words"),
    [
        ("base/5/16384", 3, "block 3 of base/5/16384"),
        ("base/5/16384_fsm", 2, "block 2 of base/5/16384_fsm (free space map)"),
        ("base/5/16384_vm", 0, "block 0 of base/5/16384_vm (visibility map)"),
        ("base/5/16400_init", 0, "block 0 of base/5/16400_init (init fork)"),
        ("global/1262", 0, "block 0 of global/1262"),
        (f"pg_tblspc/16499/{CATALOG}/5/16500", 1, f"block 1 of pg_tblspc/16499/{CATALOG}/5/16500"),
        (
            "base/5/16384.1",
            2,
            "block 2 of base/5/16384.1 (segment 1: block 0 of it is block 131072 of the relation)",
        ),
    ],
)
def test_a_flipped_byte_is_named_with_file_and_block(data: Path, path: str, block: int, words: str) -> None:
    flip(real_path(path, find_files(data).roots()), block * PAGE + 5000)
    source = frozen(data)
    _, bad = read_all(source)
    assert len(bad) == 1
    assert source.words(bad) == words
    assert source.finish().relation_pages == RELATION_PAGES


def test_a_flipped_byte_in_what_has_no_checksum_is_not_ours_to_see(data: Path) -> None:
    flip(data / "pg_xact/0000", 100)
    assert read_all(frozen(data))[1] == []


def test_without_checksums_pages_are_unchecked_but_for_their_headers(data: Path) -> None:
    flip(data / "base/5/16384", 5000)
    source = frozen(data, data_checksums=False)
    assert read_all(source)[1] == []
    checked = source.finish()
    assert checked.unchecked_pages == RELATION_PAGES
    assert "no data checksums" in checked.notes[0]
    (data / "base/5/16384").write_bytes(b"x" * PAGE)
    source = frozen(data, data_checksums=False)
    assert source.words(read_all(source)[1]) == "block 0 of base/5/16384"


def test_a_snapshot_that_has_only_the_named_files_is_enough(data: Path, tmp_path: Path) -> None:
    expected, _ = read_all(frozen(data))
    found = find_files(data)
    snapshots = []
    for number, place in enumerate(found.places()):
        snapshots.append(tmp_path / f"snapshot{number}")
        for name in place.names:
            put(snapshots[-1], name, (place.directory / name).read_bytes())
    shutil.rmtree(data)
    shutil.rmtree(tmp_path / "space")
    source = VolumeSource(found, found.roots(snapshots), data_checksums=True)
    assert read_all(source) == (expected, [])
    source.finish()
    assert ControlSource(snapshots[0], moving=False).page_count == 1


def test_a_file_that_does_not_end_with_a_page_is_damage(data: Path) -> None:
    with (data / "base/5/16384_fsm").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DamageFound, match="base/5/16384_fsm does not end with a page"):
        frozen(data)


@pytest.mark.parametrize("how", ["grew", "shrank", "vanished"])
def test_what_changed_between_the_walk_and_the_snapshot_breaks_the_freeze(data: Path, how: str) -> None:
    found = find_files(data)
    victim = data / "base/5/16384"
    if how == "vanished":
        victim.unlink()
    else:
        os.truncate(victim, (6 if how == "grew" else 4) * PAGE)
    with pytest.raises(FreezeBroken) as told:
        VolumeSource(found, found.roots(), data_checksums=True)
    assert "base/5/16384" in told.value.because


def test_settings_that_were_edited_meanwhile_break_nothing(data: Path) -> None:
    found = find_files(data)
    (data / "postgresql.conf").write_bytes(b"port = 5433  # and a comment\n")
    (data / "base/5/PG_VERSION").unlink()
    source = VolumeSource(found, found.roots(), data_checksums=True)
    volume, _ = read_all(source)
    assert content_of(source.table(FACTS), volume)["postgresql.conf"].startswith(b"port = 5433")
    assert "base/5/PG_VERSION was removed" in source.finish().notes[0]


def test_a_page_written_while_it_was_read_breaks_the_freeze(data: Path) -> None:
    source = frozen(data)
    read_all(source)
    victim = data / "base/5/16384"
    victim.write_bytes(pages(0, 5))
    os.utime(victim, ns=(1, 1))
    with pytest.raises(FreezeBroken, match="did not stand still") as told:
        source.finish()
    assert "base/5/16384: it was written" in told.value.because


def test_a_file_cut_while_it_is_read_breaks_the_freeze(data: Path) -> None:
    source = frozen(data)
    os.truncate(data / "base/5/16384", PAGE)
    with pytest.raises(FreezeBroken, match="shorter than it was"):
        read_all(source)


def test_a_page_that_nobody_looked_at_is_missed(data: Path) -> None:
    source = frozen(data)
    view = memoryview(bytearray(source.size_bytes))
    source.read_into(view, 0)
    source.bad_pages(0, view[: -4 * PAGE], None)  # type: ignore[arg-type]
    with pytest.raises(NotHealthy, match="not every page") as told:
        source.finish()
    assert f"there are {RELATION_PAGES}" in told.value.because


def test_an_unreadable_file_is_named(data: Path) -> None:
    source = frozen(data)
    (data / "pg_xact/0000").unlink()
    with pytest.raises(NotHealthy, match=r"cannot read .*pg_xact/0000"):
        read_all(source)


def test_a_link_in_place_of_a_file_is_not_followed(data: Path) -> None:
    source = frozen(data)
    (data / "global/1262").unlink()
    (data / "global/1262").symlink_to(data / "base/5/16384")
    with pytest.raises(NotHealthy, match=r"cannot read .*global/1262"):
        read_all(source)


# --- moving -----------------------------------------------------------------


class Pauses:
    """Each pause does the next thing, and the last one again and again."""

    def __init__(self, *things: Callable[[], object]) -> None:
        self.things = list(things)
        self.count = 0

    def __call__(self, seconds: float) -> None:
        assert seconds > 0
        thing = self.things[min(self.count, len(self.things) - 1)]
        self.count += 1
        thing()


def torn(block: int, lsn: int = 0x1000000) -> bytes:
    """Half of the page as it was, half as it becomes."""
    return a_page(block, lsn=lsn)[:6000] + a_page(block, lsn=lsn, fill=b"new")[6000:]


def test_a_torn_page_is_read_again_until_it_is_whole(data: Path) -> None:
    victim = data / "base/5/16384"
    whole = a_page(3, fill=b"new")
    content = victim.read_bytes()
    victim.write_bytes(content[: 3 * PAGE] + torn(3) + content[4 * PAGE :])
    pauses = Pauses(lambda: None, lambda: victim.write_bytes(content[: 3 * PAGE] + whole + content[4 * PAGE :]))
    source = moving(data, pauses)
    volume, bad = read_all(source)
    assert bad == []
    assert pauses.count == 2
    stored = content_of(source.table(FACTS), volume)["base/5/16384"]
    assert stored == content[: 3 * PAGE] + whole + content[4 * PAGE :]
    checked = source.finish()
    assert (checked.reread_pages, checked.accepted_pages, checked.relation_pages) == (1, 0, RELATION_PAGES)


def test_a_page_that_never_becomes_whole_is_bad(data: Path) -> None:
    flip(data / "base/5/16384", 3 * PAGE + 5000)
    pauses = Pauses(lambda: None)
    source = moving(data, pauses)
    _, bad = read_all(source)
    assert source.words(bad) == "block 3 of base/5/16384"
    assert pauses.count == 50


@pytest.mark.parametrize(
    ("lsn", "newest", "bad"),
    [
        (START_LSN - 1, None, True),
        (START_LSN, None, False),
        (START_LSN + 500, START_LSN + 1000, False),
        (START_LSN + 1001, START_LSN + 1000, True),
        (0xFFFFFFFF_00000000, START_LSN + 1000, True),
    ],
)
def test_a_torn_page_that_the_log_replaces_is_taken(data: Path, lsn: int, newest: int | None, bad: bool) -> None:
    put(data, "base/5/16384", pages(0, 2) + torn(2, lsn) + pages(3, 2))
    source = moving(data, newest=newest)
    assert bool(read_all(source)[1]) is bad
    checked = source.finish()
    assert checked.accepted_pages == (not bad)
    assert any("come from the log: 1" in note for note in checked.notes) is not bad


def test_a_torn_page_that_becomes_new_is_taken(data: Path) -> None:
    victim = data / "base/5/16384"
    victim.write_bytes(torn(0) + pages(1, 4))
    pauses = Pauses(lambda: victim.write_bytes(torn(0, START_LSN + 9) + pages(1, 4)))
    source = moving(data, pauses)
    volume, bad = read_all(source)
    assert bad == []
    assert content_of(source.table(FACTS), volume)["base/5/16384"][:PAGE] == torn(0, START_LSN + 9)
    assert source.finish().accepted_pages == 1


def test_what_vanished_before_it_was_read_is_left_out(data: Path) -> None:
    source = moving(data)
    (data / "base/5/16384").unlink()
    shutil.rmtree(data / "global")
    volume, bad = read_all(source)
    assert bad == []
    table = decode(encode(source.table(FACTS)))
    content = content_of(table, volume)
    assert "base/5/16384" not in content
    assert "global/1262" not in content
    assert content["base/5/16384.1"] == pages(131072, 3)
    assert content["global/pg_filenode.map"] == b"m" * 512
    assert "shrank or vanished while they were read: 2, first base/5/16384" in source.finish().notes[0]


@pytest.mark.parametrize("left_bytes", [3 * PAGE, 3 * PAGE + 100])
def test_what_shrank_has_its_real_size(data: Path, left_bytes: int) -> None:
    source = moving(data)
    os.truncate(data / "base/5/16384", left_bytes)
    volume, bad = read_all(source, 1)
    assert bad == []
    table = source.table(FACTS)
    assert content_of(table, volume)["base/5/16384"] == pages(0, 3)
    entry = next(it for it in table.entries if it.path == "base/5/16384")
    assert volume[entry.offset + 3 * PAGE : entry.offset + 5 * PAGE] == bytes(2 * PAGE)
    source.finish()


def test_a_hole_between_what_could_be_read_is_zeros_and_inside(data: Path) -> None:
    first = next(it.first_page for it in frozen(data).table(FACTS).entries if it.path == "base/5/16384")
    source = moving(data)
    place = memoryview(bytearray(PAGE))
    os.truncate(data / "base/5/16384", PAGE)
    volume = bytearray()
    for page in range(source.page_count):
        if page == first + 4:
            put(data, "base/5/16384", pages(0, 5))
        source.read_into(place, page * PAGE)
        assert source.bad_pages(page, place, None) == []  # type: ignore[arg-type]
        volume += place
    stored = content_of(source.table(FACTS), bytes(volume))["base/5/16384"]
    assert stored == pages(0, 1) + bytes(3 * PAGE) + pages(4, 1)


def test_what_grew_has_the_size_of_the_beginning(data: Path) -> None:
    with (data / "base/5/16384_fsm").open("ab") as file:
        file.write(b"half a page that is being added")
    source = moving(data)
    put(data, "base/5/16384", pages(0, 9))
    volume, bad = read_all(source)
    assert bad == []
    content = content_of(source.table(FACTS), volume)
    assert content["base/5/16384"] == pages(0, 5)
    assert content["base/5/16384_fsm"] == pages(0, 3)
    assert source.finish().notes == ()


def test_settings_are_those_of_one_moment(data: Path) -> None:
    source = moving(data)
    (data / "postgresql.conf").write_bytes(b"")
    volume, _ = read_all(source)
    assert content_of(source.table(FACTS), volume)["postgresql.conf"] == b"port = 5432\n"


# --- the small ones ---------------------------------------------------------


def control_of(page: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in page[:288]:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return page[:288] + (crc ^ 0xFFFFFFFF).to_bytes(4, "little") + bytes(PAGE - 292)


def test_the_control_file_is_read_again_until_it_is_whole(data: Path) -> None:
    path = data / "global/pg_control"
    good = control_of(bytes(range(256)) + bytes(32))
    path.write_bytes(good[:100] + b"torn" + good[104:])
    pauses = Pauses(lambda: None, lambda: path.write_bytes(good))
    source = ControlSource(data, moving=True, pause=pauses)
    view = memoryview(bytearray(PAGE))
    source.read_into(view, 0)
    assert bytes(view) == good
    assert source.bad_pages(0, view, None) == []  # type: ignore[arg-type]
    assert pauses.count == 2


def test_a_damaged_control_file_is_a_bad_page(data: Path) -> None:
    source = ControlSource(data, moving=False)
    view = memoryview(bytearray(PAGE))
    source.read_into(view, 0)
    bad = source.bad_pages(0, view, None)  # type: ignore[arg-type]
    assert bad == [0]
    assert "pg_control" in source.words(bad)
    put(data, "global/pg_control", b"short")
    with pytest.raises(DamageFound, match="not a control file"):
        ControlSource(data, moving=False)
    (data / "global/pg_control").unlink()
    with pytest.raises(NotHealthy, match="cannot read"):
        ControlSource(data, moving=True)


def test_the_table_is_a_source_too() -> None:
    source = TableSource(b"t" * PAGE + b"u" * PAGE)
    view = memoryview(bytearray(PAGE))
    source.read_into(view, PAGE)
    assert (bytes(view), source.page_count, source.size_bytes) == (b"u" * PAGE, 2, 2 * PAGE)


def test_few_files_are_open_at_once(data: Path) -> None:
    opened: list[str] = []

    def open_one(name: str) -> int:
        opened.append(name)
        return os.open(data / "PG_VERSION", os.O_RDONLY)

    def open_now() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = open_now()
    cache = Descriptors(open_one, 3)
    for number in [*range(10), 9, 8, 7]:
        with cache.use(str(number)):
            assert open_now() <= before + 4
    assert len(opened) == 10
    with cache.use("9") as first, cache.use("9") as second:
        assert first != second
    cache.close()
    assert open_now() == before


# --- real servers -----------------------------------------------------------


@pytest.fixture
def under_load(request: pytest.FixtureRequest, make_pair: PairFactory) -> Iterator[tuple[Path, Moving]]:
    pair = make_pair(request.param, settings={"shared_buffers": "2MB", "full_page_writes": "on"})
    pair.active.pgbench("-i", "-s", "5")
    pair.wait_caught_up()
    load = pair.active.start_pgbench("-c", "2", "-T", "3600")
    try:
        pair.active.psql("CHECKPOINT")
        pair.wait_caught_up()
        pair.passive.psql("CHECKPOINT")
        high, low = pair.passive.psql("SELECT redo_lsn FROM pg_control_checkpoint()").split("/")
        yield pair.passive.data, Moving(int(high, 16) << 32 | int(low, 16))
    finally:
        load.terminate()
        load.wait()


@pytest.mark.real
@pytest.mark.parametrize("under_load", all_versions(), indirect=True)
def test_a_standby_that_replays_is_read_without_a_bad_page(under_load: tuple[Path, Moving]) -> None:
    data, judged = under_load
    for _ in range(3):
        found = find_files(data)
        source = VolumeSource(found, found.roots(), data_checksums=True, moving=judged)
        volume, bad = read_all(source)
        assert bad == [], source.words(bad)
        assert source.finish().relation_pages > 5000
        table = decode(encode(source.table(FACTS)))
        assert len(volume) == table.size_bytes
        source.close()
        control = ControlSource(data, moving=True)
        view = memoryview(bytearray(PAGE))
        control.read_into(view, 0)
        assert control_is_sound(bytes(view))
