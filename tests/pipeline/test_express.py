"""An express full: only changed pages are stored, wherever their files lie in the volume; every state comes back."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backupd import steps
from backupd.archive.database import DatabaseArchive
from backupd.errors import DamageFound, InjectedFault
from backupd.model.records import BackupType, StoredFile
from backupd.pipeline.express import STORED, MostPagesDiffer, PageBase, runs_of
from backupd.pipeline.fetch import fetch_file
from backupd.pipeline.fetch_plan import plan_fetch
from backupd.pipeline.page_map import load_express_map
from backupd.pipeline.store import StoreResult, store_file
from backupd.ports import Extent
from tests.archive_builders import PAGE_BYTES, FileSource, open_archive
from tests.fakes_store import MemoryStore


@dataclass
class Volume(FileSource):
    """A file of pages that belong to named files, as PostgreSQL's volume is."""

    files: Sequence[tuple[str, int]] = field(default=())

    def extents(self) -> Sequence[Extent]:
        found, first = [], 0
        for name, count in self.files:
            found.append(Extent(name, first, count))
            first += count
        return found


@dataclass
class Line:
    """A full and the expresses after it, as they are stored, and what each must be."""

    archive: DatabaseArchive
    root: Path
    results: list[StoreResult] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)

    def store(self, pages: dict[str, list[int]]) -> bool:
        """Store the next state; False when it is not worth an express."""
        path = self.root / f"volume-{len(self.results)}"
        path.write_bytes(b"".join(page(number) for name in sorted(pages) for number in pages[name]))
        source = Volume(path, files=[(name, len(pages[name])) for name in sorted(pages)])
        before = self.results[-1] if self.results else None
        base = PageBase(before.page_map, before.extents) if before else None
        try:
            result = store_file(source, self.archive.begin(BackupType.FULL, parent=None), base=base, level=1)
        except MostPagesDiffer:
            return False
        assert result.file is not None
        self.results.append(result)
        self.contents.append(path.read_bytes())
        return True

    @property
    def files(self) -> list[StoredFile]:
        return [result.file for result in self.results if result.file is not None]

    def fetch(self, number: int, stage: Path, live: Path | None = None) -> int:
        """Bring a state back and compare it; how many pages were fetched, which the plan knew."""
        *bases, wanted = self.files[: number + 1]
        store = self.archive.store
        plan = plan_fetch(wanted, store, stage, live, bases=bases)
        done = fetch_file(wanted, store, stage, live, bases=bases)
        assert stage.read_bytes() == self.contents[number]
        assert done.fetched_pages + done.reused_pages == wanted.page_count
        if wanted.express is not None:
            assert plan.fetch_pages >= done.fetched_pages  # an empty stage has the pages of zeros already
            assert plan.fetch_bytes > 0 or done.read_bytes == 0
        return done.fetched_pages


def page(number: int) -> bytes:
    """A page that compresses; number 0 is a page of zeros."""
    if not number:
        return bytes(PAGE_BYTES)
    return (random.Random(number).randbytes(64) + bytes(64)) * (PAGE_BYTES // 128)


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(open_archive(MemoryStore()), tmp_path)


NAMES = st.sampled_from(["1", "2", "3_fsm", "4", "5"])
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("write"), NAMES, st.integers(0, 60)),
        st.tuples(st.just("grow"), NAMES, st.integers(1, 30)),
        st.tuples(st.just("shrink"), NAMES, st.integers(1, 40)),
        st.tuples(st.just("remove"), NAMES, st.just(0)),
        st.tuples(st.just("zero"), NAMES, st.integers(0, 60)),
    ),
    max_size=6,
)


def changed(pages: dict[str, list[int]], changes: Sequence[tuple[str, str, int]], fresh: random.Random) -> None:
    for what, name, number in changes:
        held = pages.get(name, [])
        if what == "grow":
            pages[name] = held + [fresh.randrange(1, 1 << 30) for _ in range(number)]
        elif what == "shrink":
            pages[name] = held[:-number]
        elif what == "remove":
            pages.pop(name, None)
        elif number < len(held):
            held[number] = fresh.randrange(1, 1 << 30) if what == "write" else 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(CHANGES, min_size=1, max_size=4), seed=st.integers(0, 1000))
def test_every_state_comes_back(
    tmp_path_factory: pytest.TempPathFactory, history: list[list[tuple[str, str, int]]], seed: int
) -> None:
    root = tmp_path_factory.mktemp("line")
    line = Line(open_archive(MemoryStore()), root)
    fresh = random.Random(seed)
    pages = {name: [fresh.randrange(1, 1 << 30) for _ in range(50)] for name in ("1", "2", "4")}
    assert line.store(pages)
    for changes in history:
        changed(pages, changes, fresh)
        line.store(pages)
    for number in range(len(line.results)):
        line.fetch(number, root / f"stage-{number}")
    newest = len(line.results) - 1
    # Another state as the live file, and one that was interrupted: pages that are there are not fetched.
    live = root / "volume-0"
    line.fetch(newest, root / "delta", live)
    stage = root / "resumed"
    stage.write_bytes(line.contents[0])
    line.fetch(newest, stage)
    assert line.fetch(newest, stage) == 0
    assert live.read_bytes() == line.contents[0], "the live file is only read"


@given(st.lists(st.integers(-1, 40), max_size=80))
def test_runs_say_what_they_are_made_of(base_pages: list[int]) -> None:
    said = np.full(len(base_pages), STORED)
    for first, base, count in runs_of(np.array(base_pages, dtype=np.int64)).astype(int):
        said[first : first + count] = np.arange(base, base + count)
    assert said.tolist() == base_pages


def test_only_what_changed_is_stored(line: Line) -> None:
    pages = {"1": list(range(1, 301)), "2": list(range(301, 401))}
    line.store(pages)
    pages["1"][7], pages["1"][299] = 9001, 9002
    pages["1"].append(9003)  # and every page of "2" lies one further on
    line.store(pages)
    wanted = line.files[1]
    assert wanted.express is not None
    assert (wanted.express.stored_pages, wanted.express.runs) == (3, 3)
    assert wanted.express.spans == ((7, 300),)
    assert sum(segment.stored_bytes for segment in wanted.segments) < line.results[0].stored_bytes / 20
    found = load_express_map(line.archive.store, wanted)
    assert found.numbers.tolist() == [7, 299, 300]
    line.fetch(1, line.root / "stage")


def test_nothing_changed(line: Line) -> None:
    pages = {"1": list(range(1, 101))}
    line.store(pages)
    assert line.store(pages)
    assert line.files[1].segments == ()
    line.fetch(1, line.root / "stage")


@pytest.mark.parametrize(("changed_pages", "worth"), [(60, True), (61, False), (100, False)])
def test_over_sixty_of_a_hundred_is_not_worth_it(line: Line, changed_pages: int, worth: bool) -> None:
    line.store({"1": list(range(1, 101))})
    assert line.store({"1": [*range(1001, 1001 + changed_pages), *range(changed_pages + 1, 101)]}) is worth


def test_many_segments(line: Line) -> None:
    pages = {"1": list(range(1, 1001))}
    line.store(pages)
    pages["1"][::2] = range(5001, 5501)
    line.store(pages)
    wanted = line.files[1]
    assert wanted.express is not None
    assert len(wanted.segments) > 10
    assert wanted.express.spans[0][0] == 0
    assert wanted.express.spans[-1][1] == 998
    assert [segment.first_page for segment in wanted.segments][:2] == [0, wanted.segments[0].page_count]
    line.fetch(1, line.root / "stage")


def test_a_bad_page_that_did_not_change_is_found_too(line: Line) -> None:
    pages = {"1": list(range(1, 101))}
    line.store(pages)
    path = line.root / "bad"
    path.write_bytes(b"".join(page(number) for number in pages["1"]))
    expected = line.results[0].page_map.copy()
    expected[40] += 1
    source = Volume(path, expected=expected, files=[("1", 100)])
    base = PageBase(line.results[0].page_map, line.results[0].extents)
    result = store_file(source, line.archive.begin(BackupType.FULL, parent=None), base=base)
    assert (result.file, result.bad_pages, result.checked_pages) == (None, (40,), 100)


def test_without_its_base_it_says_so(line: Line) -> None:
    pages = {"1": list(range(1, 101))}
    line.store(pages)
    pages["1"][3] = 7777
    line.store(pages)
    pages["1"].append(7778)
    line.store(pages)
    full, first, second = line.files
    store, stage = line.archive.store, line.root / "stage"
    for bases in ([], [full], [first]):
        with pytest.raises(DamageFound):  # at the latest by the BLAKE3 of the whole
            fetch_file(second, store, stage, bases=bases)
    fetch_file(second, store, stage, bases=[full, first])


def test_a_wrong_run_is_damage_and_not_a_wrong_file(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever could change the map would still be caught by the BLAKE3 of the whole file."""
    pages = {"1": list(range(1, 101))}
    line.store(pages)
    pages["1"][3] = 7777
    pages["1"][9] = 0
    line.store(pages)
    full, wanted = line.files
    assert wanted.express is not None
    homes = load_express_map(line.archive.store, wanted)
    homes.base_pages[5] = 6
    monkeypatch.setattr("backupd.pipeline.page_map.load_express_map", lambda *_: homes)
    with pytest.raises(DamageFound, match="BLAKE3"):
        fetch_file(wanted, line.archive.store, line.root / "stage", bases=[full])


def test_failing_at_every_step_it_goes_on_where_it_was(line: Line) -> None:
    pages = {"1": list(range(1, 501))}
    line.store(pages)
    pages["1"][::5] = range(5001, 5101)
    line.store(pages)
    fetched = []
    for number in range(1, 100):
        steps.arm("fail", number, "fetch.")
        try:
            fetched.append(line.fetch(1, line.root / "stage"))
        except InjectedFault:
            continue
        finally:
            steps.disarm()
        break
    assert number > 10
    assert fetched[0] < 500
