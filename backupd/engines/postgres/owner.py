"""Whose a cluster's files are: directories and files are made for that owner, never for the world."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupd.durable import replace_file, sync_directory
from backupd.errors import NotHealthy
from backupd.steps import step

_GROUP_BITS = 0o050


@dataclass(frozen=True, slots=True)
class Owner:
    """The operating system's user that a cluster belongs to; ``group_access`` lets its group read (initdb -g)."""

    uid: int
    gid: int
    group_access: bool = False

    @classmethod
    def of(cls, path: Path) -> Owner:
        """The owner of an existing directory. Raises OSError."""
        found = path.stat()
        return cls(found.st_uid, found.st_gid, bool(found.st_mode & _GROUP_BITS))

    @classmethod
    def named(cls, name: str) -> Owner | None:
        """The user of that name; None when this host has none."""
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            return None
        return cls(entry.pw_uid, entry.pw_gid)

    @property
    def name(self) -> str:
        """The user's name, or its number where it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    @property
    def home(self) -> str:
        """The user's home, where programs of PostgreSQL look for a .pgpass."""
        try:
            return pwd.getpwuid(self.uid).pw_dir
        except KeyError:
            return "/"

    @property
    def directory_mode(self) -> int:
        """0700, or 0750 for a cluster with group access."""
        return 0o750 if self.group_access else 0o700

    @property
    def file_mode(self) -> int:
        """0600, or 0640 for a cluster with group access."""
        return 0o640 if self.group_access else 0o600

    def groups(self) -> list[int]:
        """All groups of the user, as a login would have them."""
        try:
            return os.getgrouplist(pwd.getpwuid(self.uid).pw_name, self.gid)
        except KeyError:
            return [self.gid]

    def group_name(self) -> str:
        """The group's name, or its number where it has none."""
        try:
            return grp.getgrgid(self.gid).gr_name
        except KeyError:
            return str(self.gid)

    def run_as(self) -> dict[str, Any]:
        """Arguments for ``subprocess`` that make a child run as this user; empty when we are that user.

        Raises:
            NotHealthy: we are another user and not root.
        """
        if os.geteuid() == self.uid:
            return {}
        if os.geteuid() != 0:
            raise NotHealthy(
                f"a PostgreSQL server of the user {self.name} cannot be started or stopped",
                because=f"backupd runs as {Owner(os.geteuid(), os.getegid()).name}",
                next_step=f"run it as root or as {self.name}: sudo -u {self.name} backupctl …",
            )
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups()}

    def give(self, path: Path) -> None:
        """Make ``path`` (no symbolic link is followed) this owner's. Raises OSError."""
        found = path.lstat()
        if (found.st_uid, found.st_gid) != (self.uid, self.gid) and os.geteuid() == 0:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def make_directory(self, path: Path) -> None:
        """Make a directory and all that is missing above it, each for this owner; it may be there. Raises OSError."""
        for missing in [place for place in (*reversed(path.parents), path) if not place.exists()]:
            missing.mkdir(mode=0o700, exist_ok=True)
            self.give(missing)
            missing.chmod(self.directory_mode)

    def write_file(self, path: Path, data: bytes) -> None:
        """Replace a small file at once and durably (written beside it, renamed). Raises OSError."""
        replace_file(path, data, prepare=self._take)

    def _take(self, fd: int) -> None:
        if os.geteuid() == 0:
            os.fchown(fd, self.uid, self.gid)
        os.fchmod(fd, self.file_mode)

    def give_tree(self, top: Path) -> None:
        """Make all below ``top`` this owner's, with no bit for the world; links are not followed. Raises OSError."""
        self.give(top)
        for entry in _walk(top):
            step("pg.restore.give")
            self.give(Path(entry.path))
            if entry.is_symlink():
                continue
            wanted = self.directory_mode if entry.is_dir() else self.file_mode
            if entry.stat().st_mode & 0o777 != wanted:
                os.chmod(entry.path, wanted)
        top.chmod(self.directory_mode)


def _walk(top: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(top) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))


def sync_tree(top: Path) -> None:
    """Make every file and name below ``top`` durable; links are not followed. Raises OSError."""
    for entry in _walk(top):
        if entry.is_symlink():
            continue
        if entry.is_dir(follow_symlinks=False):
            sync_directory(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            fd = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    sync_directory(top)
