"""A full disk under the passive, the archive or the state: said, nothing lost, and well when there is room."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stories.home import Home, home, sums_of

pytestmark = [pytest.mark.root, pytest.mark.real, pytest.mark.slow]
DISK_BYTES = 24 << 20


@contextlib.contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    """A tmpfs of 24 MiB, mounted where a part of the installation is going to live."""
    at.mkdir(parents=True, exist_ok=True, mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(at)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"this machine cannot mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", str(at)], check=True)


@contextlib.contextmanager
def filled(disk: Path) -> Iterator[None]:
    """No byte is free on the disk."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 12))
    try:
        yield
    finally:
        ballast.unlink()


@contextlib.contextmanager
def installed(tmp_path: Path, part: str) -> Iterator[tuple[Home, Path]]:
    """A pair that is up, one part of it on the small disk."""
    with home(tmp_path / "home", rows=200) as made:
        disk = {"passive": made.passive.parent, "archive": made.archive, "state": made.state}[part]
        with small_disk(disk):
            made.up()
            made.backup("full")
            try:
                yield made, disk
            finally:
                made.stop_service()


def _write(pair: Home, commits: int = 20) -> None:
    """What an application does; it must not notice anything."""
    with pair.connected() as database:
        for _ in range(commits):
            database.execute("INSERT INTO ledger(amount, body) VALUES (2, randomblob(20000))")


def _well_again(pair: Home) -> None:
    """Both copies equal, nothing was lost, and the very same command works."""
    pair.wait_same()
    with pair.connected() as database:
        rows, total = database.execute("SELECT count(*), sum(amount) FROM ledger").fetchone()
    assert sums_of(pair.passive) == (rows, total)
    pair.backup()
    pair.ok("verify", "--level", "data")
    out = pair.root / "out"
    pair.ok("restore", "orders", "--target", str(out))
    assert sums_of(out / "app.db") == (rows, total)
    shutil.rmtree(out)
    assert "Traceback" not in pair.service_log()
    assert pair.ok("status", "--json").json["databases"][0]["alarms"] == []


def test_a_full_archive(tmp_path: Path) -> None:
    with installed(tmp_path, "archive") as (pair, disk):
        _write(pair)
        listed = pair.ok("list", "--json").json["backups"]
        logs = set((pair.state / "orders" / "copies").glob("*/log/*/*.wlog"))
        with filled(disk):
            for kind in ("incremental", "full"):
                problem, because, next_step = pair.fails(8, "backup", "orders", "--type", kind)
                assert "archive" in problem
                assert "no space left" in because.lower()
                assert next_step
            assert pair.ok("list", "--json").json["backups"] == listed
            assert logs <= set((pair.state / "orders" / "copies").glob("*/log/*/*.wlog"))
            assert pair.ok("explain", "truncation", "orders", "--json").json["state"] == "kept"
            pair.wait_same()
        pair.ok("recover")
        _well_again(pair)


def test_a_full_passive(tmp_path: Path) -> None:
    with installed(tmp_path, "passive") as (pair, disk):
        with filled(disk):
            _write(pair)
            problem, because, next_step = pair.fails(7, "backup", "orders", "--type", "incremental")
            assert all((problem, because, next_step))
            answer = pair.ok("status", "--json").json["databases"][0]
            assert answer["alarms"], answer
            _write(pair)
        _well_again(pair)


def test_no_room_for_a_snapshot_beside_the_passive(tmp_path: Path) -> None:
    with installed(tmp_path, "passive") as (pair, disk):
        pair.wait_same()
        with filled(disk):
            problem, because, next_step = pair.fails(7, "backup", "orders", "--type", "full")
            assert "room" in problem + because + next_step or "space" in problem + because + next_step
            assert sorted(path.name for path in disk.iterdir()) == ["app.db", "ballast"]
            pair.wait_same()
        _well_again(pair)


def test_a_full_state_directory(tmp_path: Path) -> None:
    with installed(tmp_path, "state") as (pair, disk):
        with filled(disk):
            # Nothing can be shipped now; the application's log must be kept where it is, and nobody has to wait.
            _write(pair, 30)
            for words in (["backup", "orders", "--type", "incremental"], ["backup", "orders", "--type", "full"]):
                assert all(pair.fails(7, *words))
            answer = pair.ok("status", "--json").json["databases"][0]
            assert answer["alarms"], answer
            _write(pair, 30)
        _well_again(pair)


def test_a_restore_without_room_for_it(tmp_path: Path) -> None:
    with home(tmp_path / "home", rows=200) as pair:
        pair.up()
        pair.backup("full")
        with small_disk(tmp_path / "small") as disk:
            with filled(disk):
                words = ("restore", "orders", "--target", str(disk / "out"))
                problem, because, next_step = pair.fails(7, *words)
                assert str(disk) in problem
                assert "are free" in because
                assert "make room" in next_step
                assert os.listdir(disk) == ["ballast"]
            pair.ok(*words)
            assert sums_of(disk / "out" / "app.db")
