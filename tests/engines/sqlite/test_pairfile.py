"""A pair remembers itself once, whoever asks first."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from backupd.engines.sqlite.pairfile import PairState, load_pair, open_pair


def test_all_who_open_a_new_pair_at_the_same_time_see_one_and_the_same(tmp_path: Path) -> None:
    count = 4
    with ThreadPoolExecutor(count) as threads:
        for number in range(25):
            path = tmp_path / str(number) / "pair.json"
            together = threading.Barrier(count)

            def ask(path: Path = path, together: threading.Barrier = together) -> PairState:
                together.wait(60)
                return open_pair(path, ("a", "b"), "b")

            seen = {each.result().identity for each in [threads.submit(ask) for _ in range(count)]}
            kept = load_pair(path)
            assert kept is not None
            assert seen == {kept.identity}
            assert (kept.active, kept.passive) == ("b", "a")


def test_a_pair_of_other_copies_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "pair.json"
    first = open_pair(path, ("a", "b"), "a")
    assert open_pair(path, ("b", "a"), "b") == first
    assert open_pair(path, ("a", "c"), "a").identity != first.identity
