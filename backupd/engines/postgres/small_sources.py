"""The two small files beside a volume: the control file, read after all else, and the table of the files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from backupd.engines.postgres.cluster import CONTROL, PAGE_BYTES, TABLE
from backupd.engines.postgres.data_files import CONTROL_PATH, unreadable
from backupd.errors import DamageFound
from backupd.pages import Hashes
from backupd.ports import Extent

# Where ControlFileData may end in its checksum: 14 to 18 have it between bytes 280 and 300.
_CHECKSUM_FROM, _CHECKSUM_TO = 200, 512
_POLYNOMIAL = 0x82F63B78  # CRC-32C, reflected
_TRIES_MAX = 50
_TRY_SECONDS = 0.01


class ControlSource:
    """``global/pg_control`` as a stored file of one page; see ``ports.PageSource``.

    It is read when the source is made, once: make it when everything else was
    read, for the recovery takes from it how far the log must be replayed.

    Args:
        data_directory: the snapshot of it, or the live one.
        moving: the server may write it while it is read; then it is read again until its checksum is right.

    Raises (constructor):
        NotHealthy: it cannot be read.
        DamageFound: it has not one page.
    """

    name = CONTROL
    size_bytes = page_bytes = block_bytes = PAGE_BYTES
    page_count = 1

    def __init__(self, data_directory: Path, *, moving: bool, pause: Callable[[float], None] = time.sleep) -> None:
        path = data_directory / CONTROL_PATH
        self._data = _read(path)
        self._sound = control_is_sound(self._data)
        tries = 0
        while moving and not self._sound and tries < _TRIES_MAX:
            pause(_TRY_SECONDS)
            self._data = _read(path)
            self._sound = control_is_sound(self._data)
            tries += 1

    def read_into(self, view: memoryview, offset: int) -> None:
        """See ``ports.PageSource``."""
        view[:] = self._data[offset : offset + len(view)]

    def bad_pages(self, first_page: int, pages: memoryview, hashes: Hashes) -> Sequence[int]:  # noqa: ARG002
        """Page 0 when the control file's own checksum is wrong."""
        return [] if control_is_sound(bytes(pages)) else [0]

    def extents(self) -> Sequence[Extent]:
        """See ``ports.PageSource``: one page, which is always another."""
        return ()

    def words(self, pages: Sequence[int]) -> str:  # noqa: ARG002
        """See ``ports.PageSource``."""
        return f"{CONTROL_PATH} (its checksum is wrong)"

    def forget(self, offset: int, length: int) -> None:
        """See ``ports.PageSource``; one page is not worth it."""

    def close(self) -> None:
        """See ``ports.PageSource``; nothing is open."""


class TableSource:
    """The table as a stored file, from memory; see ``ports.PageSource``.

    Args:
        data: whole pages, as ``volume_table.encode`` makes them.
    """

    name = TABLE
    page_bytes = PAGE_BYTES
    block_bytes = 1 << 20

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size_bytes = len(data)
        self.page_count = len(data) // PAGE_BYTES

    def read_into(self, view: memoryview, offset: int) -> None:
        """See ``ports.PageSource``."""
        view[:] = self._data[offset : offset + len(view)]

    def bad_pages(self, first_page: int, pages: memoryview, hashes: Hashes) -> Sequence[int]:  # noqa: ARG002
        """None: it was made a moment ago."""
        return []

    def extents(self) -> Sequence[Extent]:
        """See ``ports.PageSource``: it is small, and its text moves with every file."""
        return ()

    def words(self, pages: Sequence[int]) -> str:
        """See ``ports.PageSource``."""
        return f"page {', '.join(map(str, pages))} of {TABLE}"

    def forget(self, offset: int, length: int) -> None:
        """See ``ports.PageSource``; it is in no file."""

    def close(self) -> None:
        """See ``ports.PageSource``; nothing is open."""


def control_is_sound(data: bytes) -> bool:
    """Whether the checksum in ``pg_control`` is right, wherever its version has it.

    The checksum follows the fields that it covers, and only zeros follow it.
    """
    table = _crc_table()
    crc = 0xFFFFFFFF
    end = len(data.rstrip(b"\0"))
    for place, byte in enumerate(data[:_CHECKSUM_TO]):
        found = place >= _CHECKSUM_FROM and place % 4 == 0 and place < end <= place + 4
        if found and int.from_bytes(data[place : place + 4], "little") == crc ^ 0xFFFFFFFF:
            return True
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return False


def _crc_table() -> list[int]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = (number >> 1) ^ (_POLYNOMIAL if number & 1 else 0)
        table.append(number)
    return table


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error.strerror or os.strerror(error.errno or 0)) from error
    if len(data) != PAGE_BYTES:
        raise DamageFound(
            f"{path} is not a control file",
            because=f"it has {len(data)} bytes instead of {PAGE_BYTES}",
            next_step="seed the passive again: backupctl copy seed DATABASE",
        )
    return data
