"""What a fetch would take, before it does: reads the page map and the files that are there, writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backupd.model.records import StoredFile
from backupd.pipeline.cipher import KeyFinder
from backupd.pipeline.fetch import WHOLE_SEGMENT_SHARE, load_map
from backupd.pipeline.layout import Layout
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
    keys: KeyFinder | None = None,
) -> FetchPlan:
    """What ``fetch_file`` would reuse and read now; writes nothing, reads only the page map from the archive."""
    page_map = load_map(store, stored, keys)
    segments = Layout.of(stored).stored_segments(stored)
    with Local(stage_place, stored) as stage, Local(live_place, stored) as live:
        local_pages = 0
        fetch_bytes = 0
        for segment, blocks in segments:
            wanted = 0
            for block in blocks:
                here = stage.matching(block, page_map) | live.matching(block, page_map)
                wanted += not here.all()
                local_pages += block.page_count if here.all() else 0
            share = wanted / len(blocks)
            fetch_bytes += int(segment.stored_bytes * (1.0 if share >= WHOLE_SEGMENT_SHARE else share))
    return FetchPlan(local_pages, stored.page_count - local_pages, fetch_bytes)
