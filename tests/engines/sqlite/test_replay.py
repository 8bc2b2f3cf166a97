"""Replay: the passive's bytes equal the active's, after every log and after every crash."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from backupd import steps
from backupd.engines.sqlite.apply import apply_partially
from backupd.engines.sqlite.inspect import Inspector
from backupd.engines.sqlite.log_source import SameHost
from backupd.engines.sqlite.logheader import HEADER_BYTES
from backupd.engines.sqlite.pagemap import PageMap
from backupd.engines.sqlite.replay import Replay
from backupd.errors import InjectedFault, NotHealthy
from backupd.model.pair import CopyState
from tests.engines.sqlite.cutting import Active


class Passive:
    """The receiving side without its process."""

    def __init__(self, directory: Path, active: Active) -> None:
        self.state_dir = directory / "b"
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self.path = directory / "passive.db"
        self.source = SameHost(active.logs.root)
        self.replay = Replay(self.path, self.state_dir)
        self.inspector = Inspector(self.replay.logs, None)

    def take_seed(self, active: Active) -> None:
        closed, seed = active.seed()
        self.inspector.receive(closed.header.history, closed.header.number, self.source.fetch, seed=True)
        moved = self.path.with_name("passive.db.seed")
        shutil.copy(seed, moved)
        history = self.replay.logs.history(closed.header.history)
        self.replay.adopt_seed(moved, history.path_of(closed.header.number))

    def take(self, history: str, number: int) -> None:
        self.inspector.receive(history, number, self.source.fetch)
        self.replay.apply(self.replay.logs.history(history).path_of(number))

    def follow(self, active: Active) -> None:
        closed = active.last
        assert closed is not None
        self.take(closed.header.history, closed.header.number)


@pytest.fixture
def active(tmp_path: Path) -> Active:
    return Active(tmp_path / "a")


def seeded(tmp_path: Path, active: Active) -> Passive:
    active.write()
    passive = Passive(tmp_path, active)
    passive.take_seed(active)
    assert passive.path.read_bytes() == active.content()
    return passive


def assert_equal(passive: Passive, active: Active) -> None:
    assert passive.replay.marker.state is CopyState.HEALTHY
    assert passive.path.read_bytes() == active.content()
    found = PageMap.of_file(passive.path, active.page_bytes)
    assert found.checksum == passive.replay.marker.checksum


def test_replays_what_an_application_wrote(tmp_path: Path, active: Active) -> None:
    passive = seeded(tmp_path, active)
    for rows in (1, 40, 300):
        active.write(rows)
        active.db.execute("DELETE FROM t WHERE id % 7 = 0")
        active.db.execute("UPDATE t SET body = zeroblob(900) WHERE id % 5 = 0")
        active.cut()
        passive.follow(active)
        assert_equal(passive, active)


def test_goes_on_after_the_wal_was_restarted(tmp_path: Path, active: Active) -> None:
    passive = seeded(tmp_path, active)
    active.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    active.write()
    active.cut()
    passive.follow(active)
    assert_equal(passive, active)


def test_14_vacuum_shrinks_the_database(tmp_path: Path, active: Active) -> None:
    passive = seeded(tmp_path, active)
    active.write(2000)
    active.cut()
    passive.follow(active)
    before = passive.path.stat().st_size
    active.db.execute("DELETE FROM t WHERE id > 20")
    active.db.execute("VACUUM")
    active.see()
    active.cut()
    passive.follow(active)
    assert passive.path.stat().st_size < before / 5
    assert_equal(passive, active)


def test_14_shrinks_and_grows_inside_one_log(tmp_path: Path, active: Active) -> None:
    passive = seeded(tmp_path, active)
    active.write(500)
    active.db.execute("DELETE FROM t WHERE id > 20")
    active.db.execute("VACUUM")
    active.write(200)
    active.cut()
    passive.follow(active)
    assert_equal(passive, active)


def test_15_growth_with_sparse_writes(tmp_path: Path, active: Active) -> None:
    passive = seeded(tmp_path, active)
    active.db.execute("INSERT INTO t(body) VALUES (zeroblob(3000000))")
    active.cut()
    passive.follow(active)
    active.db.execute("DELETE FROM t WHERE length(body) > 100000")
    active.db.execute("PRAGMA incremental_vacuum(300)").fetchall()
    active.db.execute("INSERT INTO t(body) VALUES (zeroblob(2000000))")
    active.cut()
    passive.follow(active)
    assert_equal(passive, active)


@pytest.mark.parametrize("page_bytes", [512, 1024, 2048, 8192, 16384, 32768, 65536])
def test_17_every_page_size(tmp_path: Path, page_bytes: int) -> None:
    active = Active(tmp_path / "a", page_bytes=page_bytes)
    passive = seeded(tmp_path, active)
    active.write(200)
    active.db.execute("DELETE FROM t WHERE id < 100")
    active.cut()
    passive.follow(active)
    assert_equal(passive, active)


def test_35_reserved_bytes_do_not_matter(tmp_path: Path) -> None:
    # What an encrypting SQLite does: 8 bytes at the end of each page are its own (fileformat2, offset 20).
    path = tmp_path / "a" / "app.db"
    path.parent.mkdir()
    made = sqlite3.connect(path)
    made.execute("PRAGMA user_version=1")
    made.close()
    content = bytearray(path.read_bytes())
    content[20] = 8
    content[105:107] = (4096 - 8).to_bytes(2, "big")  # where the (empty) cell content of page 1 begins
    path.write_bytes(content)
    active = Active(tmp_path / "a")
    assert active.content()[20] == 8
    passive = seeded(tmp_path, active)
    active.write(100)
    active.cut()
    passive.follow(active)
    assert_equal(passive, active)


def test_stamps_travel_in_control_records(tmp_path: Path, active: Active) -> None:
    passive = seeded(tmp_path, active)
    stamp = {"type": "full", "backup_id": "x", "end": f"{active.history}/1", "at": "2026-01-01T00:00:00+00:00"}
    active.control({"stamp": stamp})
    passive.follow(active)
    active.control({"stamp": {**stamp, "type": "incremental"}})
    passive.follow(active)
    assert passive.replay.marker.stamps == {"full": stamp, "incremental": {**stamp, "type": "incremental"}}
    active.control({"stamp": stamp})
    passive.follow(active)
    assert Replay(passive.path, passive.state_dir).marker.stamps == {"full": stamp, "incremental": None}


def test_follows_a_delta_into_a_new_history(tmp_path: Path, active: Active) -> None:
    passive = seeded(tmp_path, active)
    active.write(300)
    active.cut()
    passive.follow(active)
    active.write(20)  # lost to the log: the delta carries it
    active.db.execute("DELETE FROM t WHERE id > 100")
    active.db.execute("PRAGMA incremental_vacuum")
    active.fork("ffee00112233aabb")
    passive.follow(active)
    assert_equal(passive, active)
    active.write()
    active.cut()
    passive.follow(active)
    assert_equal(passive, active)
    assert passive.replay.marker.history == "ffee00112233aabb"


def test_a_foreign_change_makes_the_copy_suspect(tmp_path: Path, active: Active) -> None:
    passive = seeded(tmp_path, active)
    with open(passive.path, "r+b") as file:
        file.seek(5000)
        file.write(b"x")
    active.write()
    active.cut()
    passive.follow(active)
    assert passive.replay.marker.state is CopyState.SUSPECT
    assert "changed by somebody else" in Replay(passive.path, passive.state_dir).open().because
    passive.take_seed(active)  # a new seed heals it
    assert_equal(passive, active)


def test_rot_that_replay_does_not_see_is_found_by_the_checksum_of_a_start(tmp_path: Path, active: Active) -> None:
    passive = seeded(tmp_path, active)
    (passive.state_dir / "replay.map").unlink()
    was = passive.path.stat()
    with open(passive.path, "r+b") as file:
        file.seek(5000)
        file.write(b"x")
    os.utime(passive.path, ns=(was.st_atime_ns, was.st_mtime_ns))
    marker = Replay(passive.path, passive.state_dir).open()
    assert marker.state is CopyState.MUST_SEED


def test_a_log_that_leads_elsewhere_makes_the_copy_must_seed(tmp_path: Path, active: Active) -> None:
    passive = seeded(tmp_path, active)
    active.write()
    closed = active.cut()
    header, data = closed.header, closed.path.read_bytes()
    active.close(
        data[HEADER_BYTES : HEADER_BYTES + header.body_bytes],
        replace(header, checksum_after=header.checksum_after ^ 1),
        [(header.entries, header.pages_after, 5)],
    )
    passive.follow(active)
    marker = Replay(passive.path, passive.state_dir).open()
    assert marker.state is CopyState.MUST_SEED
    assert "the checksum of all pages is" in marker.because
    active.write()
    with pytest.raises(NotHealthy, match="cannot replay log 3"):
        passive.replay.apply(active.cut().path)


def test_a_log_of_another_state_is_not_replayed(tmp_path: Path, active: Active) -> None:
    passive = seeded(tmp_path, active)
    active.write()
    active.map.checksum ^= 1  # the active went on from something else
    closed = active.cut()
    with pytest.raises(NotHealthy, match="checksum before it"):
        passive.follow(active)
    with pytest.raises(NotHealthy, match="cannot be replayed"):
        passive.replay.apply(closed.path)
    assert passive.replay.ready


def test_a_start_rolls_the_saved_map_forward(tmp_path: Path, active: Active) -> None:
    passive = seeded(tmp_path, active)  # saves the map
    for _ in range(3):
        active.write()
        active.cut()
        passive.follow(active)
    again = Replay(passive.path, passive.state_dir)
    steps.arm("count", 0, "nothing")
    again.open()
    steps.disarm()
    assert again.ready
    assert again.map is not None
    assert again.map.checksum == passive.replay.marker.checksum


def test_37_a_disk_that_is_full_stops_replay_and_loses_nothing(tmp_path: Path, active: Active) -> None:
    passive = seeded(tmp_path, active)
    active.write(500)
    active.cut()
    passive.inspector.receive(active.history, 2, passive.source.fetch)
    path = passive.replay.logs.history(active.history).path_of(2)
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (passive.path.stat().st_size + 4096, was[1]))
    try:
        with pytest.raises(NotHealthy, match="cannot write") as caught:
            passive.replay.apply(path)
        assert "File too large" in caught.value.because  # what a limit says; a full disk says its own words
        with pytest.raises(NotHealthy):
            passive.replay.open()
        assert not passive.replay.ready
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)
    passive.replay.open()
    passive.replay.apply(path)
    assert_equal(passive, active)


def test_38_a_redo_does_not_make_a_suspect_copy_healthy(tmp_path: Path, active: Active) -> None:
    passive, paths = prepared(tmp_path, active)
    steps.arm("fail", 1, "replay.fsync")
    with pytest.raises(InjectedFault):
        passive.replay.apply(paths[0])
    steps.disarm()
    passive.replay.mark(CopyState.SUSPECT, "a page is bad")
    marker = passive.replay.open()
    assert (marker.state, marker.because, marker.number) == (CopyState.SUSPECT, "a page is bad", 2)


def test_38_a_redo_whose_log_is_gone_says_seed(tmp_path: Path, active: Active) -> None:
    passive, paths = prepared(tmp_path, active)
    steps.arm("fail", 1, "replay.fsync")
    with pytest.raises(InjectedFault):
        passive.replay.apply(paths[0])
    steps.disarm()
    paths[0].unlink()
    marker = passive.replay.open()
    assert marker.state is CopyState.MUST_SEED
    assert "no log file" in marker.because
    assert Replay(passive.path, passive.state_dir).open() == marker
    passive.take_seed(active)
    assert_equal(passive, active)


# --- 38: crashes ------------------------------------------------------------

_CRASH = """
import sys
from pathlib import Path
from backupd.engines.sqlite.replay import Replay
replay = Replay(Path(sys.argv[1]), Path(sys.argv[2]))
replay.open()
for path in sys.argv[3:]:
    replay.apply(Path(path))
print(replay.marker.state)
"""


def prepared(tmp_path: Path, active: Active) -> tuple[Passive, list[Path]]:
    """A passive with two inspected logs that are not replayed: growth, and VACUUM."""
    passive = seeded(tmp_path, active)
    active.write(60)
    active.cut()
    active.db.execute("DELETE FROM t WHERE id > 30")
    active.db.execute("VACUUM")
    active.see()
    active.cut()
    paths = []
    for number in (2, 3):
        passive.inspector.receive(active.history, number, passive.source.fetch)
        paths.append(passive.replay.logs.history(active.history).path_of(number))
    return passive, paths


def run_replay(passive: Passive, paths: list[Path], fault: str) -> int:
    command = [sys.executable, "-c", _CRASH, str(passive.path), str(passive.state_dir), *map(str, paths)]
    return subprocess.run(command, env={**os.environ, "BACKUPD_FAULT": fault}, check=False, timeout=60).returncode


def test_38_killed_at_every_step(tmp_path: Path, active: Active) -> None:
    passive, paths = prepared(tmp_path, active)
    image = tmp_path / "image"
    shutil.copytree(tmp_path / "b", image)
    shutil.copy2(passive.path, tmp_path / "image.db")
    wanted, n = active.content(), 0
    while True:
        n += 1
        shutil.rmtree(passive.state_dir)
        shutil.copytree(image, passive.state_dir)
        with open(passive.path, "r+b") as file:  # keep the inode: the marker knows it
            file.truncate()
            file.write((tmp_path / "image.db").read_bytes())
        was = (tmp_path / "image.db").stat()
        os.utime(passive.path, ns=(was.st_atime_ns, was.st_mtime_ns))
        status = run_replay(passive, paths, f"die:{n}")
        if status == 0:
            break
        assert status == -signal.SIGKILL
        assert run_replay(passive, paths, "die:0") == 0
        assert passive.path.read_bytes() == wanted, f"after a kill at step {n}"
    assert n > 10
    assert passive.path.read_bytes() == wanted


def test_38_failing_at_every_step(tmp_path: Path, active: Active) -> None:
    passive, paths = prepared(tmp_path, active)
    replay, n, ended = passive.replay, 0, False
    image, marker = passive.path.read_bytes(), (passive.state_dir / "replay.json").read_bytes()
    was = passive.path.stat()
    while not ended:
        n += 1
        passive.path.write_bytes(image)
        os.utime(passive.path, ns=(was.st_atime_ns, was.st_mtime_ns))
        (passive.state_dir / "replay.json").write_bytes(marker)
        replay.open()
        steps.arm("fail", n)
        try:
            for path in paths:
                replay.apply(path)
            ended = True
        except InjectedFault:
            steps.disarm()
            replay.open()
            for path in paths:
                replay.apply(path)
        steps.disarm()
        assert_equal(passive, active)
    assert n > 10


def test_38_killed_while_a_seed_is_put_in_place(tmp_path: Path, active: Active) -> None:
    active.write()
    code = _CRASH.replace("for path in sys.argv[3:]:\n    replay.apply(Path(path))", "").replace(
        "print", "replay.marker.number or replay.adopt_seed(Path(sys.argv[3]), Path(sys.argv[4]))\nprint"
    )
    closed, seed = active.seed()
    for n in range(1, 50):
        passive = Passive(tmp_path / str(n), active)
        passive.inspector.receive(closed.header.history, 1, passive.source.fetch, seed=True)
        log = passive.replay.logs.history(closed.header.history).path_of(1)
        moved = passive.path.with_name("seed")
        shutil.copy(seed, moved)
        command = [sys.executable, "-c", code, str(passive.path), str(passive.state_dir), str(moved), str(log)]
        first = subprocess.run(
            command, env={**os.environ, "BACKUPD_FAULT": f"die:{n}"}, check=False, capture_output=True, timeout=60
        )
        again = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert again.stdout == "healthy\n", again.stderr
        assert passive.path.read_bytes() == active.content()
        if first.returncode == 0:
            assert n > 4
            return
    pytest.fail("the run never ended without a kill")


# --- partial ------------------------------------------------------------------


def test_partial_replay_stops_at_the_last_commit_not_after_the_wish(tmp_path: Path, active: Active) -> None:
    active.write()
    _, seed = active.seed()
    states = [(0, 0, active.content())]
    for _ in range(4):
        active.write(30)
        frame, _, at = active.marks[-1]
        states.append((frame - active.frame, at, active.content()))
    closed = active.cut()
    start = closed.header.start_offset
    for count, at, content in states:
        for offset, us in ((start + count, None), (start + count + 1, None), (None, at), (start + count, 1 << 60)):
            target = tmp_path / "restored.db"
            shutil.copy(seed, target)
            end = apply_partially(target, closed.path, until_offset=offset, until_us=us)
            assert (end.entries, end.position.offset) == (count, start + count)
            assert target.read_bytes() == content
            assert end.unix_us == (at or None)
    shutil.copy(seed, target)
    page_map = PageMap.of_file(target, 4096)
    assert apply_partially(target, closed.path, page_map=page_map).entries == closed.header.entries
    assert target.read_bytes() == active.content()
    assert page_map.checksum == closed.header.checksum_after
