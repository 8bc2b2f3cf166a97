"""A record that lies, with the right sum: a restore writes nothing outside of its target, and says what is wrong."""

from __future__ import annotations

import copy
import itertools
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backupd.archive.lease import DatabaseLease
from backupd.archive.local import LocalStore
from backupd.archive.repository import Repository
from backupd.bootstrap import SystemClock
from backupd.pipeline.container import Block, BlockHeader, head_of, pack
from backupd.pipeline.stream import pack_stream
from tests.archive_builders import open_archive, take_logs, write_log
from tests.faults.hostile import Scene, make_archive, places_in, put, record_of

ROOT = Path(__file__).parents[2]
DEEP = "[" * 100_000
NASTY: list[Any] = [
    *("", ".", "..", "../x", "../../../../x", "/etc/x", "a/b", "a\0b", "\ud800", "\\..\\x", "APP.DB", "app.db-wal"),
    *("a" * 300, "a" * 5000, "app.db ", "app.db\n", "\u202e", "a\u0301pp.db", "db/../../x", "db/orders/data/../x"),
    *(-1, 0, 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63), 0.5, 1e308, float("nan"), float("inf")),
    *(
        None,
        True,
        False,
        [],
        {},
        [[]],
        [None],
        {"a": 1},
        "full",
        "incremental",
        "express",
        "copy",
        "postgres",
        "sqlite",
    ),
    *("1/0", "x/9999999999999999999", "9" * 30 + "/1", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00", "junk"),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_archive(tmp_path_factory.mktemp("hostile") / "sound")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory, sound: Path) -> Iterator[Any]:
    numbers = itertools.count()
    root = tmp_path_factory.mktemp("scenes")

    def new() -> Scene:
        place = root / str(next(numbers))
        place.mkdir()
        return Scene.of(place, sound)

    yield new
    shutil.rmtree(root, ignore_errors=True)


def judge(scene: Scene) -> int:
    """Restore; nothing but the target may have changed. Answers with the exit status."""
    before = scene.everything_else()
    error = scene.restore()
    assert scene.everything_else() == before
    if error is None:
        [path] = scene.target.iterdir()  # by whatever plain name the record calls it
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("SELECT count(*) FROM ledger").fetchone() == (200,)
        assert path.stat().st_mode & 0o7777 == 0o600
        return 0
    assert all(error.lines())
    return error.exit_status


def test_an_honest_record_is_restored(scenes: Any) -> None:
    assert judge(scenes()) == 0


lies = st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(NASTY)), min_size=1, max_size=3)


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(lies=lies)
def test_whatever_a_record_says_nothing_outside_is_touched(scenes: Any, lies: list[tuple[int, Any]]) -> None:
    scene = scenes()

    def change(content: Any) -> Any:
        for number, said in lies:
            places = places_in(content)
            content = put(content, places[number % len(places)], copy.deepcopy(said))
        return content

    scene.say(record_of(scene), "record", change)
    status = judge(scene)
    shutil.rmtree(scene.root)
    # 0: a lie that a restore need not believe (a note, a host's name); 7: it asks for more than the disk has.
    assert status in (0, 5, 6, 7)


FILE = ("files", 0)


@pytest.mark.parametrize(
    ("at", "said"),
    [
        *(((*FILE, "path"), path) for path in ("../x", "/tmp/x", "a/b", "..", "", "a\0b", "\ud800", "a" * 256)),
        *(((*FILE, field), -1) for field in ("size_bytes", "page_bytes", "page_count", "block_pages")),
        *(((*FILE, field), 2**63) for field in ("size_bytes", "page_bytes", "page_count", "block_pages")),
        ((*FILE, "page_bytes"), 0),
        ((*FILE, "page_bytes"), 1000),
        ((*FILE, "block_pages"), 0),
        ((*FILE, "block_pages"), 2**20),
        ((*FILE, "segments", 0, "name"), "../../../etc/passwd"),
        ((*FILE, "segments", 0, "name"), "db/other-00000000/data/x/000000"),
        ((*FILE, "segments", 0, "page_count"), 0),
        ((*FILE, "segments", 0, "first_page"), 1),
        ((*FILE, "map", "name"), "repo.json"),
        ((*FILE, "map", "page_count"), 2**40),
        (("log_end",), "x"),
        (("finished_at",), "2026-11-22T01:00:00"),
        (("encryption",), {"cipher": "none", "key": "", "recipients": 5}),
    ],
)
def test_a_lie_that_matters_is_damage(scenes: Any, at: tuple[str | int, ...], said: Any) -> None:
    scene = scenes()
    scene.say(record_of(scene), "record", lambda content: put(content, at, said))
    assert judge(scene) == 6
    assert not scene.target.exists() or not os.listdir(scene.target)


def test_two_files_of_one_name_overlap(scenes: Any) -> None:
    scene = scenes()

    def twice(content: Any) -> Any:
        content["files"].append({**content["files"][0], "path": "APP.db"})
        return content

    scene.say(record_of(scene), "record", twice)
    assert judge(scene) == 6


def test_segments_that_overlap_are_damage(scenes: Any) -> None:
    scene = scenes()

    def twice(content: Any) -> Any:
        content["files"][0]["segments"] *= 2
        return content

    scene.say(record_of(scene), "record", twice)
    assert judge(scene) == 6


def test_a_record_that_is_nested_without_end_is_damage(scenes: Any) -> None:
    scene = scenes()
    scene.say(record_of(scene), "record", lambda _: DEEP.encode())
    assert judge(scene) == 6


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(said=st.sampled_from(NASTY), field=st.sampled_from(["database", "engine", "identity", "created_at"]))
@example(said="../../x", field="database")
def test_a_database_that_lies_about_its_name(scenes: Any, said: Any, field: str) -> None:
    scene = scenes()
    path, _ = scene.object("identity")
    scene.say(path, "identity", lambda content: {**content, field: said})
    status = judge(scene)
    shutil.rmtree(scene.root)
    assert status in (0, 5, 6)


# --- what is larger than it says, and what says that it is large ------------------------------------------------------


def bare(scene: Scene, memory_bytes: int = 900 << 20) -> tuple[int, str]:
    """The command in a process that may have so much memory; a MemoryError would be exit status 1."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))

    done = subprocess.run(
        [sys.executable, "-m", "backupd.cli.main", "restore", "--from", scene.archive, "--target", scene.target],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stderr


def swap(scene: Scene, kind: str, data: bytes) -> dict[str, Any]:
    """Other bytes for an object; answers with what a record says of it."""
    from backupd.digests import sha256_hex

    path, _ = scene.object(kind)
    path.chmod(0o600)
    path.write_bytes(data)
    return {"stored_bytes": len(data), "sha256": sha256_hex(data)}


def test_a_page_block_of_a_gigabyte_of_zeros_is_damage_and_costs_no_memory(scenes: Any) -> None:
    scene = scenes()
    _, name = scene.object("data")
    size = 1 << 30
    frame = _zeros(size)
    assert len(frame) * 10_000 < size * 2
    head = head_of(name, "segment", "x")
    data = b"".join(pack(head, [Block(BlockHeader(0, 0, size // 4096, 0, size, len(frame)), frame)]))
    said = swap(scene, "data", data)

    def change(content: Any) -> Any:
        file = content["files"][0]
        file |= {"size_bytes": size, "page_count": size // 4096, "block_pages": size // 4096}
        file["segments"][0] |= {**said, "page_count": size // 4096, "plain_bytes": size}
        file["map"]["page_count"] = size // 4096
        return content

    scene.say(record_of(scene), "record", change)
    status, said_of_it = bare(scene)
    assert status == 6, said_of_it
    assert "compressed together" in said_of_it


def _zeros(size: int) -> bytes:
    import zstandard

    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj(size=size)
    return b"".join([*(compressor.compress(bytes(1 << 20)) for _ in range(size >> 20)), compressor.flush()])


def test_a_page_map_of_a_gigabyte_is_damage_and_costs_no_memory(scenes: Any) -> None:
    scene = scenes()
    _, name = scene.object("map")
    frame = _zeros(1 << 30)
    head = head_of(name, "map", "x")
    data = b"".join(pack(head, [Block(BlockHeader(0, 0, 0, 0, 1 << 30, len(frame)), frame)]))
    said = swap(scene, "map", data)
    scene.say(
        record_of(scene), "record", lambda content: put(content, (*FILE, "map"), {**content["files"][0]["map"], **said})
    )
    status, said_of_it = bare(scene)
    assert status == 6, said_of_it
    assert "more than one frame holds" in said_of_it


def test_a_file_larger_than_the_disk_is_refused_before_its_map_is_read(scenes: Any) -> None:
    scene = scenes()
    pages = 2**40
    before = scene.object("map")[0].read_bytes()
    swap(scene, "map", b"not even a map")

    def change(content: Any) -> Any:
        file = content["files"][0]
        file |= {"size_bytes": pages * 4096, "page_count": pages}
        file["segments"][0] |= {"page_count": pages}
        file["map"]["page_count"] = pages
        return content

    scene.say(record_of(scene), "record", change)
    status, said_of_it = bare(scene)
    assert status == 7, said_of_it
    assert "are needed" in said_of_it
    assert not scene.target.exists()
    assert before


def test_a_log_file_that_expands_without_end_is_stopped_at_its_size(tmp_path: Path, sound: Path) -> None:
    root = tmp_path / "scene"
    root.mkdir()
    scene = Scene.of(root, sound)
    archive = open_archive(LocalStore(scene.archive))
    [full] = archive.list().backups
    log, path = write_log(tmp_path, 1)
    log = replace(log, start=full.record.log_end, end=replace(full.record.log_end, offset=17))
    take_logs(archive, full, [(log, path)])
    [stored] = [each for each in archive.list().backups if each.record.logs]
    name = stored.record.logs[0].name
    head = _head_of(scene.archive / name)
    data = b"".join(pack_stream(head, (bytes(1 << 20) for _ in range(2000))))
    assert len(data) * 2000 < 2000 << 20
    (scene.archive / name).chmod(0o600)
    (scene.archive / name).write_bytes(data)
    record = scene.archive / "db" / archive.dbid / "backup" / stored.record.id
    from backupd.digests import sha256_hex

    scene.say(
        record,
        "record",
        lambda content: put(
            put(content, ("logs", 0, "stored_bytes"), len(data)), ("logs", 0, "sha256"), sha256_hex(data)
        ),
    )

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, 64 << 20))

    done = subprocess.run(
        [sys.executable, "-m", "backupd.cli.main", "restore", "--from", scene.archive, "--target", scene.target],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        preexec_fn=small_files,
        check=False,
    )
    assert done.returncode == 6, done.stderr
    assert "it expands to more than the" in done.stderr


def _head_of(path: Path) -> bytes:
    data = path.read_bytes()
    length = int.from_bytes(data[4:8], "little")
    return data[12 : 8 + length]


@pytest.mark.parametrize("what", ["pipe", "device", "directory"])
def test_an_object_that_is_no_plain_file_is_not_waited_for(scenes: Any, what: str) -> None:
    scene = scenes()
    path, _ = scene.object("data")
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    error = scene.restore()
    assert error is not None
    assert error.exit_status in ((6,) if what != "directory" else (6, 8))
    assert what == "directory" or "no plain file" in error.because


def test_a_run_that_goes_on_elsewhere_is_not_waited_for(scenes: Any, tmp_path: Path) -> None:
    """A host that reads an archive from outside takes no lease there, and needs nobody's."""
    scene = scenes()
    archive = Repository.open(LocalStore(scene.archive), SystemClock()).database("orders", "sqlite", None)
    lease = DatabaseLease(archive, run="a backup elsewhere", seen=tmp_path / "seen.json", tell=lambda *_, **__: None)
    lease.acquire()
    try:
        error = scene.restore()
    finally:
        lease.release()
    assert error is None
