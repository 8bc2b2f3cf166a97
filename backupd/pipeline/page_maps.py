"""The page maps of the last fulls, kept beside the journal: what an express full is compared with.

They are a cache, for a host that encrypts cannot read those of the archive: without
them, or with a damaged one, the next express is a plain full.  One file a backup:
a line of JSON that describes it, then the hashes, 8 bytes each, little endian.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backupd.digests import blake3_hasher
from backupd.errors import NotHealthy
from backupd.pages import Hashes
from backupd.pipeline.express import PageBase
from backupd.ports import Extent
from backupd.steps import step

_FORMAT = 1
_SUFFIX = ".map"
# The last one, and two more for the case that it is found damaged.
_KEPT = 3


@dataclass(frozen=True, slots=True)
class PageMaps:
    """Those of one database, in ``directory``, by the backup's id and the file's path."""

    directory: Path

    def known(self) -> frozenset[str]:
        """Ids of the backups whose maps are here."""
        with suppress(OSError):
            return frozenset(path.stem for path in self.directory.iterdir() if path.suffix == _SUFFIX)
        return frozenset()

    def save(self, label: str, maps: Mapping[str, PageBase]) -> None:
        """Keep the maps of a backup that was stored just now; the oldest ones go. Raises NotHealthy."""
        hasher = blake3_hasher()
        for base in maps.values():
            hasher.update(_bytes(base.page_map))
        head = {
            "format": _FORMAT,
            "label": label,
            "blake3": hasher.hexdigest(),
            "files": [
                {
                    "path": path,
                    "pages": len(base.page_map),
                    "extents": [[it.name, it.first_page, it.page_count] for it in base.extents],
                }
                for path, base in maps.items()
            ],
        }
        temporary = self.directory / f".{label}.tmp"
        step("pipeline.page_maps")
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in self.directory.glob(".*.tmp"):
                left.unlink()
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(json.dumps(head).encode() + b"\n")
                for base in maps.values():
                    file.write(_bytes(base.page_map))
            # No fsync: what a power cut tears is not what its BLAKE3 says.
            temporary.replace(self._path(label))
            for old in sorted(self.known())[:-_KEPT]:
                self.forget(old)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise NotHealthy(
                f"cannot write {self._path(label)}",
                because=error.strerror or str(error),
                next_step=f"make room and allow writing in {self.directory}",
            ) from error

    def load(self, label: str) -> dict[str, PageBase]:
        """The maps of a backup by the files' paths; empty when they are not here or damaged."""
        with suppress(OSError, ValueError, KeyError, TypeError), self._path(label).open("rb") as file:
            head = json.loads(file.readline())
            if (head["format"], head["label"]) != (_FORMAT, label):
                return {}
            found: dict[str, PageBase] = {}
            hasher = blake3_hasher()
            for each in head["files"]:
                page_map = np.fromfile(file, dtype="<u8", count=each["pages"])
                hasher.update(_bytes(page_map))
                extents = tuple(Extent(name, first, count) for name, first, count in each["extents"])
                found[each["path"]] = PageBase(page_map.astype(np.uint64, copy=False), extents)
            if hasher.hexdigest() == head["blake3"] and not file.read(1):
                return found
        return {}

    def forget(self, label: str) -> None:
        """Remove the maps of a backup that did not come to be."""
        with suppress(OSError):
            self._path(label).unlink(missing_ok=True)

    def _path(self, label: str) -> Path:
        return self.directory / f"{label}{_SUFFIX}"


def _bytes(page_map: Hashes) -> memoryview:
    return np.ascontiguousarray(page_map, dtype="<u8").data.cast("B")
