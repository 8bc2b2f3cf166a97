"""The main job on a real PostgreSQL pair, through the real command line: back up, truncate, restore to a moment."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.demo.postgres_binaries import Person
from tests.loop_mounts import loop_mount
from tests.pg_pairs import all_versions
from tests.stories.pg_home import PgHome, pg_home

Place = tuple[str, Path | None]
pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


def story(home: PgHome, provider: str) -> None:
    """Full, incremental, differential and copy under load; a restore to a moment has exactly its commits."""
    active = home.pair.active
    home.write_policy(backup=f'provider = "{provider}"')
    with home.load("-c", 2, "-T", 3600, "-R", 200):
        full = home.backup("full")
        time.sleep(1)
        home.backup("incremental")
    moment, rows = home.now(), home.rows()
    time.sleep(0.1)
    active.pgbench("-c", 1, "-t", 50)
    assert home.rows() == rows + 50
    home.backup("differential")
    copy = home.backup("copy")
    assert full["provider"] == copy["provider"] == provider
    assert min(full["checked_pages"], copy["checked_pages"]) > 1000
    target = home.root / "restored" / "data"
    home.pair.a.person.own(target.parent)
    answer = home.ok("restore", "orders", "--at", moment.isoformat(), "--target", str(target), "--yes")
    home.check_restored(target)
    with home.opened(target) as restored:
        assert int(restored.psql("SELECT count(*) FROM pgbench_history")) == rows, answer.told()
        assert len(set(restored.pgbench_sums())) == 1
        home.check_opened(restored)
    shutil.rmtree(target.parent)
    home.ok("restore", "orders", "--backup", copy["id"], "--target", str(target), "--yes")
    with home.opened(target) as restored:
        assert int(restored.psql("SELECT count(*) FROM pgbench_history")) == rows + 50
    shutil.rmtree(target.parent)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A provider's name, and a home for the standby on a filesystem that it works on."""
    kind = request.param
    if kind == "live":
        yield "live", None
        return
    made = Path(tempfile.mkdtemp(prefix="pgl-", dir="/tmp"))  # below pytest's own directory only root may go
    made.chmod(0o755)
    with loop_mount(made, {"reflink": "xfs"}.get(kind, kind), size_bytes=1 << 30) as mounted:
        mounted.chmod(0o755)
        home = mounted / "home"
        home.mkdir()
        if kind == "btrfs":
            subprocess.run(["btrfs", "subvolume", "create", str(home / "data")], check=True, capture_output=True)
        Person().own(home)
        if (home / "data").exists():
            Person().own(home / "data")
        yield kind, home
    shutil.rmtree(made)


def test_the_story_on_any_filesystem() -> None:
    with pg_home() as home:
        story(home, "live")


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.parametrize("major", all_versions())
@pytest.mark.parametrize("place", ["btrfs", "reflink", "live"], indirect=True)
def test_the_story_on_every_version_and_provider(major: int, place: Place) -> None:
    provider, where = place
    with pg_home(major, home=where) as home:
        story(home, provider)
