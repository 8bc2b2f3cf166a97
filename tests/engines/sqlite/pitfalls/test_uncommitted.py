"""Pitfalls 6, 7, 8, 11: bytes in the -wal that are no commits, or not yet, or never will be."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from backupd.engines.sqlite import wal
from tests.engines.sqlite.pitfalls.world import OrderFailed, World


def last_commit_in_file(path: Path) -> int:
    """The last commit frame whose sums hold, found by reading the file: what a scanner would believe."""
    data = path.read_bytes()
    top = wal.parse_header(data)
    assert top is not None
    body = data[wal.WAL_HEADER_BYTES :]
    good, _ = wal.verify_frames(body, top.page_bytes, top.sums, top.big_endian)
    same = wal.salts_count(body, top.page_bytes, top.salt1, top.salt2)
    commits = wal.frame_headers(body, top.page_bytes)["commit"][: min(good, same)]
    return max((number for number, size in enumerate(commits.tolist(), 1) if size), default=0)


def test_pitfall_06_spilled_then_rolled_back(world: World) -> None:
    """A small cache spills a big transaction into the -wal; it is rolled back, then something small is committed.

    The stale tail is never cut.
    """
    app, agent = world.writing_app("cache_size=5", "cache_spill=1"), world.agent()
    agent.begin()
    cut = agent.cut_frame()
    app.execute("BEGIN")
    app.insert("never", rows=200)
    assert world.file_frames() > agent.max_frame() + 20
    agent.tick()
    app.execute("ROLLBACK")
    agent.tick()
    assert agent.cut_frame() == cut
    assert world.kinds() == ["SEED"]
    app.write("small")
    agent.tick()
    assert agent.cut_frame() == agent.max_frame() < world.file_frames()
    world.assert_equal(app)
    assert app.words() == ["first", "small"]


def test_pitfall_07_spilled_page_rewritten(world: World) -> None:
    """Pages that a transaction has spilled are changed again in the same transaction: SQLite rewrites their frames.

    The capture looks while they lie there, keeps no sums of them, and cuts what is right after the commit.
    """
    app, agent = world.writing_app("cache_size=5", "cache_spill=1"), world.agent()
    agent.begin()
    app.execute("BEGIN")
    app.insert("first try", rows=100)
    agent.tick()
    app.execute("UPDATE t SET wide = ?", "y" * 1500)
    agent.tick()
    app.execute("UPDATE t SET word = ?", "second try")
    agent.tick()
    assert world.kinds() == ["SEED"]
    app.execute("COMMIT")
    agent.tick()
    assert world.kinds() == ["SEED", "FRAMES"]
    world.assert_equal(app)


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int fails(void) { return access(getenv("FAIL_SYNC_WHILE"), F_OK) == 0; }
int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    if (fails()) { errno = EIO; return -1; }
    return real(fd);
}
int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    if (fails()) { errno = EIO; return -1; }
    return real(fd);
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that makes fsync fail while a file exists."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc here, and a failing fsync is made by a small C library")
    directory = tmp_path_factory.mktemp("shim")
    source, made = directory / "shim.c", directory / "shim.so"
    source.write_text(SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
    return made


def test_pitfall_08_ghost_commit(world: World, shim: Path) -> None:
    """The fsync of a commit fails: the commit frame is in the file with good sums, and the commit never happened.

    It is not cut, and what is committed over it later is.
    """
    switch = world.directory / "fail"
    app = world.app({"LD_PRELOAD": str(shim), "FAIL_SYNC_WHILE": str(switch)})
    app.open("journal_mode=WAL", "wal_autocheckpoint=0", "synchronous=FULL")
    app.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, word TEXT, wide TEXT)")
    app.write("first")
    agent = world.agent()
    agent.begin()
    switch.touch()
    with pytest.raises(OrderFailed) as failed:
        app.write("ghost")
    assert failed.value.because == "disk I/O error"
    switch.unlink()
    assert last_commit_in_file(world.wal) > agent.max_frame()  # a scanner would have shipped it
    agent.tick()
    assert world.kinds() == ["SEED"]
    app.write("real")
    agent.tick()
    assert world.kinds() == ["SEED", "FRAMES"]
    world.assert_equal(app)
    assert app.words() == ["first", "real"]


@pytest.mark.parametrize(
    ("keep", "how"),
    [
        pytest.param("last frame torn", {"delta"}, id="torn-frame"),
        pytest.param("header torn", {"delta"}, id="torn-header"),
        pytest.param("empty", {"delta"}, id="empty"),
        pytest.param("garbage behind", {"go on"}, id="garbage-behind"),
    ],
)
def test_pitfall_11_torn_last_frame_or_header(world: World, keep: str, how: set[str]) -> None:
    """The -wal ends at an odd byte after a crash of the host, inside its last frame or inside its header.

    What is torn is no commit; the capture begins all the same, once, and ends up equal.
    """
    app, agent = world.writing_app(), world.agent()
    app.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    agent.begin()
    app.write("shipped")
    agent.tick()
    for one in (app, agent):
        one.kill()
    world.shm.unlink()
    size = world.wal.stat().st_size
    with world.wal.open("r+b") as file:
        if keep == "garbage behind":
            file.seek(size)
            file.write(b"\x07" * 5001)
        else:
            file.truncate({"last frame torn": size - 1237, "header torn": 17, "empty": 0}[keep])
    agent = world.agent()
    assert agent.begin() in how
    agent.tick()
    again = world.app()
    again.open("wal_autocheckpoint=0")
    again.write("afterwards")
    agent.tick()
    world.assert_equal(again)


def test_pitfall_11_a_frame_being_written_is_waited_for(world: World) -> None:
    """While a writer is in the middle of a frame, the file ends at an odd byte: no log, no error, turn after turn."""
    app, agent = world.writing_app(), world.agent()
    agent.begin()
    with world.wal.open("ab") as file:
        file.write(b"\x00\x00\x00\x02" + b"\x01" * 1233)
    for _ in range(20):
        agent.tick()
    assert world.kinds() == ["SEED"]
    app.write("over it")
    agent.tick()
    world.assert_equal(app)
