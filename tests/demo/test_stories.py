"""The stories as a person plays them: the command ends well, says what it has proven, and leaves nothing behind."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.pg_pairs import bin_directory

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 800
pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(SECONDS_MAX + 30)]


@dataclass
class Player:
    """Somebody who types ``backupctl`` with a scratch directory of their own."""

    directory: Path
    python: str = sys.executable
    paths: tuple[str, ...] = (str(ROOT),)
    uid: int | None = None

    def start(self, *words: str) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BACKUPD_", "PG"))}
        more = {"PYTHONPATH": os.pathsep.join(self.paths), "TMPDIR": str(self.scratch), "HOME": str(self.directory)}
        return subprocess.Popen(
            [self.python, "-B", "-m", "backupd.cli.main", *words],
            env={**kept, **more},
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=self.uid,
            group=self.uid,
            extra_groups=None if self.uid is None else [],
        )

    def ok(self, *words: str) -> str:
        process = self.start(*words)
        told, complained = process.communicate(timeout=SECONDS_MAX)
        assert (process.returncode, complained) == (0, ""), told + complained
        return told

    @property
    def scratch(self) -> Path:
        return self.directory / "t"

    def left(self) -> list[str]:
        """Files in the scratch directory, and processes that work below this directory."""
        found = [str(path) for path in self.scratch.iterdir()]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_text(errors="replace")
                if f"{self.directory}/" in command or os.readlink(process / "cwd").startswith(f"{self.directory}/"):
                    found.append(command)
            except OSError:
                continue
        return found


@pytest.fixture
def player() -> Iterator[Player]:
    directory = Path(tempfile.mkdtemp(prefix="pgd-", dir="/tmp"))  # below pytest's own directory only root may go
    directory.chmod(0o755)
    player = Player(directory)
    player.scratch.mkdir()
    player.scratch.chmod(0o755)
    yield player
    shutil.rmtree(directory)


@pytest.fixture
def plain(player: Player) -> Player:
    """The same as a user who is not root, with a copy of the program and a Python that this user may read."""
    if os.geteuid() != 0:
        return player
    nobody = pwd.getpwnam("nobody")
    library = player.directory / "lib"
    shutil.copytree(ROOT / "backupd", library / "backupd", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (player.directory, *player.directory.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_uid)
    player.uid = nobody.pw_uid
    player.paths = (str(library), *(path for path in sys.path if path.endswith("site-packages")))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        player.python = python
        try:
            process = player.start("--help")
        except OSError:
            continue
        process.communicate()
        if process.returncode == 0:
            return player
    pytest.skip("no Python here that a plain user may run with these packages")


def check_story(told: str) -> None:
    assert told.isascii()
    for number in range(1, 9):
        assert f"\n{number}. " in told
    for claim in ("to the row", "the passive was seeded from the archive", "PROVEN IN THIS RUN", "the whole story"):
        assert claim in told
    assert "PostgreSQL 1" in told
    assert "because: block " in told


def test_postgres_leaves_nothing_behind(player: Player) -> None:
    bin_directory()
    told = player.ok("demo", "--engine", "postgres")
    check_story(told)
    if os.geteuid() == 0:
        assert "both servers run as root" not in told
    assert player.left() == []


def test_postgres_as_a_plain_user_is_kept_where_that_was_wished(plain: Player) -> None:
    bin_directory()
    kept = plain.directory / "kept"
    told = plain.ok("demo", "--engine", "postgres", "--keep", str(kept))
    check_story(told)
    assert f"both servers run as {pwd.getpwuid(kept.stat().st_uid).pw_name}" in told
    assert plain.left() == []
    assert {path.name for path in kept.iterdir()} == {"archive", "etc", "pair"}
    listed = plain.ok("list", "--config", str(kept / "etc" / "backupd.toml"))
    assert listed.count("complete") >= 5
    again = plain.start("demo", "--engine", "postgres", "--keep", str(kept))
    assert "not empty" in again.communicate(timeout=60)[1]
    assert again.returncode == 4


@pytest.mark.parametrize("chapter", ["1.", "2."])
def test_an_interrupted_story_leaves_nothing_behind(player: Player, chapter: str) -> None:
    bin_directory()
    process = player.start("demo", "--engine", "postgres")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(chapter):
            break
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    complained = process.communicate(timeout=120)[1]
    assert process.returncode == 130, complained
    assert [line.partition(":")[0] for line in complained.splitlines()] == ["error", "because", "next"]
    deadline = time.monotonic() + 10  # a process of the story that died with it goes at its own pace
    while player.left() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert player.left() == []


def test_sqlite_leaves_nothing_behind(player: Player) -> None:
    told = player.ok("demo")
    assert "PROVEN IN THIS RUN" in told
    assert "the archive is whole" in told
    assert player.left() == []
