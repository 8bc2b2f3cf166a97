"""The bytes of one object on their way to a bucket: in memory as far as segments go, in a file beyond that."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from typing import IO, Self

from backupd.errors import Refused

# A segment is about 64 MiB of plain pages; only the page maps of very large files are larger.
_MEMORY_BYTES_MAX = 96 << 20
_OBJECT_BYTES_MAX = 5 << 30  # of one PUT; multipart uploads are not created once by every server


class Body:
    """Takes pieces, then gives the whole with its sums. Close it."""

    def __init__(self) -> None:
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, piece: bytes | memoryview) -> None:
        """Append.

        Raises:
            Refused: it is more than one PUT can carry.
            OSError: the temporary directory is full.
        """
        self._sha256.update(piece)
        self._md5.update(piece)
        self.size_bytes += len(piece)
        if self.size_bytes > _OBJECT_BYTES_MAX:
            raise Refused(
                "an object of more than 5 GiB cannot be stored in S3",
                because="a single PUT carries at most 5 GiB, and parts cannot be created once everywhere",
                next_step="keep this database's archive in a directory: archive = file:///...",
            )
        if self._file is None and self.size_bytes > _MEMORY_BYTES_MAX:
            self._file = tempfile.TemporaryFile(prefix="backupd-")  # noqa: SIM115 - closed with the body
            self._file.write(self._memory)
            self._memory = bytearray()
        if self._file is None:
            self._memory += piece
        else:
            self._file.write(piece)

    @property
    def sha256(self) -> str:
        """Hex."""
        return self._sha256.hexdigest()

    def headers(self) -> dict[str, str]:
        """Both sums, as a server checks them: some know only the older one."""
        return {
            "ChecksumSHA256": base64.b64encode(self._sha256.digest()).decode(),
            "ContentMD5": base64.b64encode(self._md5.digest()).decode(),
        }

    def whole(self) -> bytearray | IO[bytes]:
        """All of it, from the beginning; may be asked for again."""
        if self._file is None:
            return self._memory
        self._file.seek(0)
        return self._file
