"""What a fetch would take, before it does: reads page maps and the files that are there, writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backupd.model.records import StoredFile
from backupd.pages import Hashes
from backupd.pipeline.cipher import KeyFinder
from backupd.pipeline.layout import Layout
from backupd.pipeline.page_map import load_homes, load_map
from backupd.pipeline.segment_reader import is_read_whole
from backupd.pipeline.stage import Local
from backupd.ports import ObjectStore, PageFile


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """What a fetch would do: pages that are here already, pages and stored bytes (about) to be read."""

    local_pages: int
    fetch_pages: int
    fetch_bytes: int


def plan_fetch(
    stored: StoredFile,
    store: ObjectStore,
    stage_place: Path | PageFile,
    live_place: Path | PageFile | None = None,
    *,
    bases: Sequence[StoredFile] = (),
    keys: KeyFinder | None = None,
) -> FetchPlan:
    """What ``fetch_file`` would reuse and read now; writes nothing, reads only page maps from the archive."""
    if stored.express is None:
        here = _here(stored, load_map(store, stored, keys), stage_place, live_place)
        # A super-block that is not here as a whole is fetched as a whole.
        layout = Layout.of(stored)
        for block in map(layout.block, range(layout.block_count)):
            here[block.range] = here[block.range].all()
        fetch_bytes = _bytes_of(stored, np.flatnonzero(~here))
    else:
        homes = load_homes(store, (*bases, stored), keys)
        here = _here(stored, homes.page_map, stage_place, live_place)
        fetch_bytes = 0
        for holder, file in enumerate((*bases, stored)):
            fetch_bytes += _bytes_of(file, homes.indexes[~here & (homes.holders == holder)].astype(np.int64))
    local_pages = int(here.sum())
    return FetchPlan(local_pages, stored.page_count - local_pages, fetch_bytes)


def whole_fetch(stored: StoredFile, bases: Sequence[StoredFile] = ()) -> FetchPlan:
    """The plan when nothing is here, by the record alone: no map is read, however large it may say that it is."""
    everything = sum(segment.stored_bytes for file in (*bases, stored) for segment in file.segments)
    return FetchPlan(0, stored.page_count, everything)


def _here(
    stored: StoredFile, page_map: Hashes, stage_place: Path | PageFile, live_place: Path | PageFile | None
) -> NDArray[np.bool_]:
    """Which pages are in the stage or in the live file."""
    layout = Layout.of_whole(stored)
    here = np.zeros(stored.page_count, dtype=np.bool_)
    with Local(stage_place, stored) as stage, Local(live_place, stored) as live:
        for block in map(layout.block, range(layout.block_count)):
            here[block.range] = stage.matching(block, page_map) | live.matching(block, page_map)
    return here


def _bytes_of(stored: StoredFile, indexes: NDArray[np.int64]) -> int:
    """About how many stored bytes are read to have those of the stored pages."""
    layout = Layout.of(stored)
    wanted = set(np.unique(indexes // layout.pages_per_block).tolist())
    total = 0
    for segment, blocks in layout.stored_segments(stored):
        here = [block.number for block in blocks if block.number in wanted]
        share = 1.0 if here and is_read_whole(blocks, here) else len(here) / len(blocks)
        total += int(segment.stored_bytes * share)
    return total
