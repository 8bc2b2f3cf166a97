"""An archive in a local directory: each object a file, created once by a hard link, 0600."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from backupd.archive.local_files import (
    failed,
    fsync,
    open_plain,
    remove_if_empty,
    sync_filesystem,
    taken,
    unreachable,
    write_new,
)
from backupd.archive.names import is_object_name
from backupd.errors import ArchiveUnreachable, ObjectExists, ObjectMissing
from backupd.ports import StoredObject, StoreFeature
from backupd.process import lives_by_mark, mark_of_process
from backupd.steps import step

_PIECE_BYTES = 1 << 20
_TMP = "tmp"
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


class LocalStore:
    """The ``ObjectStore`` on a directory.

    An object is written to ``tmp/``, then linked to its name, which fails when
    the name is taken.  It is durable after ``sync``.  ``tmp/`` may hold what dead
    processes left; ``sweep_tmp`` removes it.
    """

    features = frozenset({StoreFeature.CREATE_ONCE, StoreFeature.CHEAP_LIST})

    def __init__(self, root: Path) -> None:
        self._root = root
        self._unsynced: set[Path] = set()
        self._swept = False
        if not root.is_dir():
            raise unreachable(
                f"the archive {root} is not there",
                "there is no such directory" if not root.exists() else "it is not a directory",
                f"mount it, or make it for a new archive: mkdir -m 700 {root}",
            )

    @classmethod
    def prepare(cls, root: Path) -> LocalStore:
        """Make the directory (its parent must exist) and prove that it creates once.

        Raises:
            ArchiveUnreachable: no parent, no permission, or the filesystem overwrites.
        """
        try:
            with suppress(FileExistsError):
                root.mkdir(mode=0o700)
        except OSError as problem:
            raise failed(f"cannot make the archive {root}", problem, root.parent) from problem
        store = cls(root)
        store._probe()
        return store

    def _probe(self) -> None:
        """Prove that a taken name stays taken. Raises ArchiveUnreachable."""
        stem = self._root / _TMP / f"{mark_of_process()}-{secrets.token_hex(8)}"
        first, second, final = (stem.with_name(f"{stem.name}-{end}") for end in ("first", "second", "final"))
        try:
            self._make_directory(stem.parent)
            try:
                write_new(first, [b"first"])
                write_new(second, [b"second"])
                self._link(first, final, final.name)
                with suppress(ObjectExists):
                    self._link(second, final, final.name)
                kept = final.read_bytes() == b"first"
            finally:
                for path in (first, second, final):
                    path.unlink(missing_ok=True)
        except OSError as problem:
            raise failed(f"cannot write to the archive {self._root}", problem, self._root) from problem
        if not kept:
            raise unreachable(
                f"the archive {self._root} cannot be used",
                "its filesystem lets a second writer overwrite an object",
                "use a filesystem with hard links or O_EXCL, for example ext4, xfs or btrfs",
            )

    def describe(self) -> str:
        """The directory."""
        return str(self._root)

    def create(
        self, name: str, pieces: Iterable[bytes | memoryview], *, retain_until: datetime | None = None
    ) -> StoredObject:
        """Write an object whole, or not at all (see ``ObjectStore.create``); a directory cannot retain it."""
        del retain_until
        final = self._path(name)
        temporary = self._root / _TMP / f"{mark_of_process()}-{secrets.token_hex(8)}"
        step("store.create")
        try:
            self._make_directory(temporary.parent)
            if not self._swept:
                self._swept = True
                self.sweep_tmp()
            if final.exists():
                raise taken(name)
            try:
                size, sha256 = write_new(temporary, pieces)
                step("store.link")
                self._link_in(temporary, final, name)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as problem:
            raise failed(f"cannot write {name} to the archive {self._root}", problem, self._root) from problem
        self._unsynced |= {final, final.parent}
        return StoredObject(name, size, sha256)

    def read(self, name: str) -> Iterator[bytes]:
        """The object's bytes in pieces of 1 MiB."""
        try:
            with open_plain(self._path(name), name, buffering=0) as file:
                while piece := file.read(_PIECE_BYTES):
                    yield piece
        except OSError as problem:
            raise self._unread(name, problem) from problem

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``; fewer only at the end."""
        try:
            with open_plain(self._path(name), name) as file:
                file.seek(offset)
                return file.read(length)
        except OSError as problem:
            raise self._unread(name, problem) from problem

    def stat(self, name: str) -> StoredObject:
        """Its size."""
        try:
            return StoredObject(name, self._path(name).stat().st_size)
        except OSError as problem:
            raise self._unread(name, problem) from problem

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects whose name begins with ``prefix``, sorted by name."""
        start = self._root / prefix.rpartition("/")[0]
        try:
            found = sorted((name, size) for name, size in self._walk(start) if name.startswith(prefix))
        except OSError as problem:
            raise failed(f"cannot list the archive {self._root}", problem, self._root) from problem
        for name, size in found:
            yield StoredObject(name, size)

    def list_folders(self, prefix: str) -> Iterator[str]:
        """The directories below ``prefix``; an empty one is none."""
        start = self._root / prefix.rstrip("/")
        try:
            entries = sorted(entry.path for entry in os.scandir(start) if entry.is_dir(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            entries = []
            if not self._root.is_dir():
                raise failed(
                    f"cannot list the archive {self._root}", FileNotFoundError(errno.ENOENT, "it is gone"), self._root
                ) from None
        except OSError as problem:
            raise failed(f"cannot list the archive {self._root}", problem, self._root) from problem
        for path in map(Path, entries):
            if path != self._root / _TMP and next(self._walk(path), None):
                yield f"{path.relative_to(self._root).as_posix()}/"

    def delete(self, name: str) -> None:
        """Remove an object; it may be gone already. Directories that became empty go too."""
        path = self._path(name)
        step("store.delete")
        try:
            path.unlink(missing_ok=True)
            self._unsynced.discard(path)
            self._unsynced.add(path.parent)
            for parent in path.parents:
                if parent in (self._root, self._root / _TMP) or not remove_if_empty(parent):
                    break
        except OSError as problem:
            raise failed(f"cannot delete {name} from the archive {self._root}", problem, self._root) from problem

    def forget_cached(self, name: str) -> None:
        """Write the object out and drop it from the page cache, so that the next read comes from the disk."""
        try:
            descriptor = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)
        except OSError as problem:
            raise self._unread(name, problem) from problem

    def sync(self) -> None:
        """After this, everything created so far survives a power cut: syncfs, or fsync of all that was created."""
        step("store.sync")
        created, self._unsynced = self._unsynced, set()
        try:
            if not sync_filesystem(self._root):
                directories = {
                    parent for path in created for parent in path.parents if parent.is_relative_to(self._root)
                }
                for path in [*created, *directories]:
                    fsync(path)
        except OSError as problem:
            self._unsynced |= created
            raise failed(f"cannot write the archive {self._root} out to disk", problem, self._root) from problem

    def sweep_tmp(self) -> int:
        """Remove what processes of this host that are gone left in ``tmp/``; answers with the count."""
        swept = 0
        with suppress(FileNotFoundError):
            for path in (self._root / _TMP).iterdir():
                if lives_by_mark(path.name) is False:
                    with suppress(OSError):
                        path.unlink()
                        swept += 1
        return swept

    def _path(self, name: str) -> Path:
        if not is_object_name(name):
            raise ValueError(f"not an object's name: {name!r}")
        return self._root / name

    def _walk(self, start: Path) -> Iterator[tuple[str, int]]:
        try:
            entries = list(os.scandir(start))
        except (FileNotFoundError, NotADirectoryError):
            if not self._root.is_dir():
                raise
            return
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                if path != self._root / _TMP:
                    yield from self._walk(path)
            else:
                with suppress(FileNotFoundError):
                    yield path.relative_to(self._root).as_posix(), entry.stat().st_size

    def _make_directory(self, path: Path) -> None:
        missing = [each for each in (path, *path.parents) if each.is_relative_to(self._root) and not each.exists()]
        if self._root in missing:
            raise FileNotFoundError(errno.ENOENT, "the directory is gone", str(self._root))
        for each in reversed(missing):
            with suppress(FileExistsError):
                each.mkdir(mode=0o700)
            self._unsynced.add(each.parent)

    def _link_in(self, temporary: Path, final: Path, name: str) -> None:
        for attempt in range(3):
            self._make_directory(final.parent)
            try:
                self._link(temporary, final, name)
                return
            except FileNotFoundError:
                # A delete beside us has just removed the directory, which was empty.
                if attempt == 2:
                    raise

    def _link(self, temporary: Path, final: Path, name: str) -> None:
        try:
            os.link(temporary, final)
        except FileExistsError:
            raise taken(name) from None
        except OSError as problem:
            if problem.errno not in _NO_HARD_LINKS:
                raise
            # No hard links here (some network and FAT filesystems): claim the name, then move onto the claim.
            try:
                os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            except FileExistsError:
                raise taken(name) from None
            temporary.replace(final)

    def _unread(self, name: str, problem: OSError) -> ArchiveUnreachable | ObjectMissing:
        if isinstance(problem, (FileNotFoundError, NotADirectoryError)) and self._root.is_dir():
            return ObjectMissing(
                f"the archive {self._root} has no object {name}",
                because="it was deleted, or never written",
                next_step="see what else is missing: backupctl verify --level presence",
                object=name,
            )
        return failed(f"cannot read {name} from the archive {self._root}", problem, self._root)
