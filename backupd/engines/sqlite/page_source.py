"""The pages of a frozen snapshot, and what each of them must be by the log that made it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backupd.engines.file_reader import FileReader
from backupd.errors import DamageFound, NotHealthy
from backupd.pages import Hashes, lock_page_number, mix, xor_of
from backupd.ports import Extent

MAP_HEADER_BYTES = 64
MAP_TRAILER_BYTES = 32
_CHECK_PAGES = 1 << 18


class SqlitePageSource(FileReader):
    """The database file of a snapshot, with the map that replay kept from the log alone.

    The map's hashes come from the frames as the active wrote them, so a page
    that does not match was changed on the passive's disk: a fact, not a guess.

    Args:
        path: the snapshot's file.
        map_path: a copy of the page map taken while replay was frozen; mapped, not read whole.
        checksum: the rolling checksum that the log gave for this position.

    Raises (constructor):
        NotHealthy: a file is not there.
        DamageFound: the map is not the one of this position, or the file has another size.
    """

    def __init__(self, path: Path, map_path: Path, *, page_bytes: int, page_count: int, checksum: int) -> None:
        self.name = path.name
        super().__init__(path)
        self.page_bytes = page_bytes
        self.page_count = page_count
        self.size_bytes = page_bytes * page_count
        try:
            actual_bytes = os.stat(path).st_size
            map_bytes = os.stat(map_path).st_size
        except OSError as error:
            raise NotHealthy(
                f"cannot read the snapshot {path}",
                because=error.strerror or str(error),
                next_step="run the backup again",
            ) from None
        if actual_bytes != self.size_bytes or map_bytes != MAP_HEADER_BYTES + 8 * page_count + MAP_TRAILER_BYTES:
            raise DamageFound(
                f"the passive's file is not what replay left ({path.name})",
                because=f"it has {actual_bytes} bytes and the log says {self.size_bytes}",
                next_step="backupctl copy seed DATABASE, then a full backup",
            )
        self._expected = np.memmap(map_path, dtype="<u8", mode="r", offset=MAP_HEADER_BYTES, shape=(page_count,))
        if self._checksum() != checksum:
            raise DamageFound(
                f"the page map of {path.name} is damaged",
                because="its rolling checksum is not the one of the log",
                next_step="backupctl copy seed DATABASE, then a full backup",
            )

    def _checksum(self) -> int:
        lock = lock_page_number(self.page_bytes)
        total = 0
        for first in range(0, self.page_count, _CHECK_PAGES):
            part = mix(np.asarray(self._expected[first : first + _CHECK_PAGES], dtype=np.uint64), first + 1)
            if first < lock <= first + len(part):
                part[lock - first - 1] = 0
            total ^= xor_of(part)
        return total

    def extents(self) -> Sequence[Extent]:
        """See ``ports.PageSource``: the pages of an SQLite file have their numbers for ever."""
        return (Extent("pages", 0, self.page_count),)

    def words(self, pages: Sequence[int]) -> str:
        """See ``ports.PageSource``; SQLite counts pages from 1."""
        return f"page {', '.join(str(page + 1) for page in pages)} of {self.name}"

    def bad_pages(self, first_page: int, pages: memoryview, hashes: Hashes) -> Sequence[int]:  # noqa: ARG002
        """See ``ports.PageSource``; the lock page is nobody's."""
        differs = np.asarray(self._expected[first_page : first_page + len(hashes)]) != hashes
        lock = lock_page_number(self.page_bytes) - 1
        if first_page <= lock < first_page + len(hashes):
            differs[lock - first_page] = False
        found: list[int] = (np.flatnonzero(differs) + first_page).tolist()
        return found
