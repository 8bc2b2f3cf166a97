"""A directory tree that is written and read as a volume: the restore's side of a cluster's files.

Directories and files are made when it is opened, each with its size, so that
what is not written yet reads as zeros; zeros between files are never written.
Pages of zeros stay holes in a file that was made here.
"""

from __future__ import annotations

import errno
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from backupd.direct_write import DirectWriter, start_writing_out
from backupd.disk_room import allocated_bytes
from backupd.durable import sync_directory
from backupd.engines.postgres.cluster import PAGE_BYTES
from backupd.engines.postgres.data_files import real_path
from backupd.engines.postgres.descriptors import Descriptors
from backupd.engines.postgres.owner import Owner
from backupd.engines.postgres.sync_filesystem import FilesystemSync
from backupd.engines.postgres.volume_layout import VolumeLayout
from backupd.engines.postgres.volume_table import TABLESPACES, Entry, Kind, VolumeTable
from backupd.pages import filled_runs
from backupd.steps import step

_WRITE_OUT_FROM_BYTES = 1 << 20  # smaller files are written by make_durable


class VolumeFiles:
    """See ``ports.PageFile``: the files of ``table`` below ``root``.

    Args:
        root: the data directory that is built, or for ``open(None)`` the live one.
        table: what ``cluster.files`` of the backup says.
        tablespaces: where each tablespace (by its number) goes; links to there are made in ``pg_tblspc``.
            One that is not named is inside of ``root``, or behind the link that is there.
        owner: whose the files become, when we are root.
    """

    def __init__(
        self,
        root: Path,
        table: VolumeTable,
        *,
        tablespaces: Mapping[int, Path] | None = None,
        owner: Owner | None = None,
    ) -> None:
        self._root = root
        self._table = table
        self._layout = VolumeLayout(table.entries, table.page_count)
        self._links = {f"{TABLESPACES}/{oid}": place for oid, place in (tablespaces or {}).items()}
        self._roots: dict[str, Path] = {"": root} | self._links
        self._owner = owner
        group = owner.group_access if owner else any(it.path == "." and it.mode & 0o050 for it in table.entries)
        self._group_bits = 0o050 if group else 0
        self._flags = os.O_RDONLY
        self._size_bytes = 0
        self._was_empty = True
        self._made: set[str] = set()  # files that were empty or not there: their zeros are there already
        self._alike: set[str] = set()  # names that a filesystem may take for one, and the files that they are
        self._inodes: set[tuple[int, int]] = set()
        self._descriptors = Descriptors(self._open_file)
        self._writer = DirectWriter()
        self._direct = Descriptors(lambda path: self._writer.open(real_path(path, self._roots)))
        self._sync: FilesystemSync | None = None

    @property
    def size_bytes(self) -> int:
        """See ``ports.PageFile``."""
        return self._size_bytes

    @property
    def allocated_bytes(self) -> int:
        """See ``ports.PageFile``: of the files that the table names."""
        files = (it.path for it in self._table.entries if it.kind != Kind.DIRECTORY)
        return sum(allocated_bytes(real_path(path, self._roots)) for path in files)

    @property
    def was_empty(self) -> bool:
        """See ``ports.PageFile``: whether no file of the table had any byte."""
        return self._was_empty

    def open(self, size_bytes: int | None) -> None:
        """See ``ports.PageFile``.

        Raises:
            OSError: a file or directory cannot be made, or something else is in its place.
            ValueError: the table's volume has another size.
        """
        if size_bytes is None:
            self._was_empty = not (self._root / "PG_VERSION").exists()
            self._size_bytes = 0 if self._was_empty else self._table.size_bytes
            return
        if size_bytes != self._table.size_bytes:
            raise ValueError(f"the volume has {size_bytes} bytes, and its table says {self._table.size_bytes}")
        try:
            self._make_all()
        except OSError:
            self.close()
            raise
        self._size_bytes = size_bytes

    def _make_all(self) -> None:
        self._flags = os.O_RDWR
        self._made.clear()
        self._inodes.clear()
        folded = Counter(_folded(entry.path) for entry in self._table.entries)
        self._alike = {path for path, count in folded.items() if count > 1}
        step("pg.pages.make-files")
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for entry in self._table.entries:
            if entry.kind == Kind.DIRECTORY:
                self._make_directory(entry)
        self._sync = FilesystemSync(self._roots.values())
        for entry in self._table.entries:
            if entry.kind != Kind.DIRECTORY:
                self._make_file(entry)
        self._was_empty = len(self._made) == sum(1 for it in self._table.entries if it.kind != Kind.DIRECTORY)

    def read(self, offset: int, length: int) -> bytes:
        """See ``ports.PageFile``; a file that is not there, or is shorter, reads as zeros: those pages match or not.

        What cannot be read is no zeros, which the backup may have there: the answer ends before it.
        """
        length = min(length, self._size_bytes - offset)
        if length <= 0:
            return b""
        data = bytearray(length)
        view = memoryview(data)
        for piece in self._layout.pieces(offset, length):
            try:
                with self._descriptors.use(piece.entry.path) as descriptor:
                    _read_at(descriptor, view[piece.start : piece.start + piece.length], piece.offset)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError:
                return bytes(view[: piece.start])
        return bytes(data)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """See ``ports.PageFile``; what lies between files is not written."""
        view = memoryview(data)
        for piece in self._layout.pieces(offset, len(view)):
            part = view[piece.start : piece.start + piece.length]
            path = piece.entry.path
            for first, last in filled_runs(part, PAGE_BYTES) if path in self._made else ((0, len(part)),):
                done = first + self._write_directly(path, part[first:last], piece.offset + first)
                if done < last:
                    with self._descriptors.use(path) as descriptor:
                        _write_at(descriptor, part[done:last], piece.offset + done)

    def _write_directly(self, path: str, part: memoryview, offset: int) -> int:
        """How much of it was written past the page cache."""
        if not self._writer.fits(len(part), offset):
            return 0
        with self._direct.use(path) as descriptor:
            return self._writer.write(descriptor, part, offset)

    def start_writing_out(self, offset: int, length: int) -> None:
        """See ``ports.PageFile``."""
        for piece in self._layout.pieces(offset, length):
            if piece.entry.size_bytes >= _WRITE_OUT_FROM_BYTES:
                with suppress(OSError), self._descriptors.use(piece.entry.path) as descriptor:
                    start_writing_out(descriptor, piece.offset, piece.length)

    def make_durable(self) -> None:
        """See ``ports.PageFile``: every file and every name, below tablespaces too."""
        step("pg.pages.durable")
        if self._sync is None or not self._sync.run():
            for entry in self._table.entries:
                if entry.kind == Kind.DIRECTORY:
                    sync_directory(real_path(entry.path, self._roots))
                else:
                    with self._descriptors.use(entry.path) as descriptor:
                        os.fsync(descriptor)
        for root in self._roots.values():
            sync_directory(root.parent)

    def close(self) -> None:
        """See ``ports.PageFile``."""
        self._descriptors.close()
        self._direct.close()
        if self._sync is not None:
            self._sync.close()
            self._sync = None

    def describe(self) -> Path:
        """See ``ports.PageFile``."""
        return self._root

    def strays(self) -> Iterator[Path]:
        """What is below the root and its tablespaces and not named by the table; links are not followed."""
        named = {entry.path for entry in self._table.entries}
        for prefix, root in self._roots.items():
            for top, directories, files in os.walk(root):
                below = os.path.relpath(top, root)
                here = "/".join(part for part in (prefix, "" if below == "." else below) if part)
                for name in (*files, *directories):
                    if f"{here}/{name}".lstrip("/") not in named:
                        yield Path(top) / name
                directories[:] = [name for name in directories if f"{here}/{name}".lstrip("/") in named]

    def _make_directory(self, entry: Entry) -> None:
        link = self._links.get(entry.path)
        if link is not None:
            self._make_link(self._root / entry.path, link)
        place = real_path(entry.path, self._roots) if link is None else link
        place.mkdir(mode=0o700, parents=link is not None, exist_ok=True)
        if place.is_symlink() and entry.path not in self._roots and entry.path != ".":
            raise NotADirectoryError(errno.ENOTDIR, "a link is where a directory must be", str(place))
        self._give(place, None)
        place.chmod(0o700 | entry.mode & self._group_bits)

    def _make_link(self, link: Path, place: Path) -> None:
        if link.is_symlink() and Path(os.readlink(link)) == place.absolute():
            return
        with suppress(FileNotFoundError):
            link.unlink()
        link.symlink_to(place.absolute())
        self._give(link, None)

    def _make_file(self, entry: Entry) -> None:
        path = real_path(entry.path, self._roots)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            facts = os.fstat(descriptor)
            self._refuse_second_name(entry, facts, path)
            if not facts.st_size:
                self._made.add(entry.path)
            if facts.st_size != entry.size_bytes:
                os.ftruncate(descriptor, entry.size_bytes)
            self._give(path, descriptor)
            os.fchmod(descriptor, 0o600 | entry.mode & (0o100 | self._group_bits))
        finally:
            os.close(descriptor)

    def _refuse_second_name(self, entry: Entry, facts: os.stat_result, path: Path) -> None:
        """Where a filesystem does not tell two names apart, the second file would be written over the first."""
        if not self._alike or _folded(entry.path) not in self._alike:
            return
        if (facts.st_dev, facts.st_ino) in self._inodes:
            raise FileExistsError(errno.EEXIST, "this filesystem does not tell its name from another one's", str(path))
        self._inodes.add((facts.st_dev, facts.st_ino))

    def _give(self, path: Path, descriptor: int | None) -> None:
        if self._owner is not None and os.geteuid() == 0:
            if descriptor is not None:
                os.fchown(descriptor, self._owner.uid, self._owner.gid)
            else:
                os.chown(path, self._owner.uid, self._owner.gid, follow_symlinks=False)

    def _open_file(self, path: str) -> int:
        return os.open(real_path(path, self._roots), self._flags | os.O_CLOEXEC | os.O_NOFOLLOW)


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _read_at(descriptor: int, view: memoryview, offset: int) -> None:
    filled = 0
    while filled < len(view):
        count = os.preadv(descriptor, [view[filled:]], offset + filled)
        if count == 0:
            return
        filled += count


def _write_at(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(descriptor, view, offset)
        offset += written
        view = view[written:]
