"""The page map of a stored file out of the archive, and where the pages of an express file are."""

from __future__ import annotations

from collections.abc import Sequence

from backupd.errors import DamageFound
from backupd.model.records import StoredFile
from backupd.pages import Hashes
from backupd.pipeline.cipher import KeyFinder
from backupd.pipeline.container import damage
from backupd.pipeline.express import ExpressMap, Homes, find_homes, parse_express_map
from backupd.pipeline.segment_reader import hashed_pieces
from backupd.pipeline.stream import read_map
from backupd.ports import ObjectStore


def load_map(store: ObjectStore, stored: StoredFile, keys: KeyFinder | None = None) -> Hashes:
    """The hash of each stored page of a file. Raises DamageFound, ObjectMissing, KeyMissing."""
    if stored.express is not None:
        return load_express_map(store, stored, keys).hashes
    return _words(store, stored, stored.page_count, keys)


def load_express_map(store: ObjectStore, stored: StoredFile, keys: KeyFinder | None = None) -> ExpressMap:
    """The map of an express file. Raises DamageFound, ObjectMissing, KeyMissing."""
    if stored.express is None:
        raise ValueError(f"{stored.path} is no express file")
    words = _words(store, stored, stored.express.stored_pages + 3 * stored.express.runs, keys)
    return parse_express_map(stored, words)


def load_homes(store: ObjectStore, files: Sequence[StoredFile], keys: KeyFinder | None = None) -> Homes:
    """Where each page of the last of ``files`` is stored; the first is a full's, each other builds on the one before.

    Raises:
        DamageFound, ObjectMissing, KeyMissing: as they say.
    """
    full, *rest = files
    if full.express is not None:
        raise damage(full.map.name, "the backup that it builds on is not there", file=full.path)
    return find_homes(files, load_map(store, full, keys), [load_express_map(store, file, keys) for file in rest])


def _words(store: ObjectStore, stored: StoredFile, count: int, keys: KeyFinder | None) -> Hashes:
    name = stored.map.name
    try:
        return read_map(name, hashed_pieces(store, name, stored.map.sha256), count, keys)
    except DamageFound as problem:
        raise damage(name, problem.because, file=stored.path) from problem
