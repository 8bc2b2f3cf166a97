"""Runs of filled pages: together they are all that is not zero, and no more than whole pages of it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backupd.pages import filled_runs

PAGE = 64
PAGES = st.sampled_from([bytes(PAGE), b"\1" + bytes(PAGE - 1), bytes(PAGE - 1) + b"\1", b"\7" * PAGE])


@given(pages=st.lists(PAGES, max_size=40), rest=st.binary(max_size=PAGE - 1))
def test_runs_are_the_pages_that_are_not_all_zeros(pages: list[bytes], rest: bytes) -> None:
    data = b"".join(pages) + rest
    wanted = {number for number, page in enumerate(pages) if any(page)} | ({len(pages)} if rest else set())
    runs = list(filled_runs(memoryview(data), PAGE))
    found = [number for first, last in runs for number in range(first // PAGE, -(-last // PAGE))]
    assert found == sorted(wanted)
    assert all(first < last <= len(data) for first, last in runs)
    assert all(one[1] < other[0] for one, other in pairwise(runs))
