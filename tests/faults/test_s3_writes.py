"""Kills a run with a write on its way to the bucket, at its first write, its second, ... until it passes.

The steps of the program stop short of the wire; here the writes are numbered where the server gets them, those of the
probe too.  The client dies when the server's side has read the request, which then arrives at once, or only
when the dead run was recovered: a network may keep a request so long.
"""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from backupd.runs.recover import run_recover
from tests.dying import forked, was_killed
from tests.faults.promises import before, judge
from tests.faults.s3_proxy import Request, S3Proxy, nothing, proxied
from tests.faults.step_stories import STORIES
from tests.faults.tries import Tries
from tests.s3_buckets import BOTH, Bucket
from tests.s3_memory import MemoryS3
from tests.s3_servers import S3Server, keys_of_nobody

WRITES_MAX = 200
WRITES = ("PUT", "DELETE", "POST")
AT_ONCE, LATE = "at once", "after the recovery"
_SECONDS_MAX = 30.0


class KillsAt:
    """What a proxy chooses by: kills the client when its ``number``-th write was read, and holds that one.

    ``in_bulk``: whether many objects may be deleted by one request; some servers know no such request.
    """

    def __init__(self, number: int, *, in_bulk: bool) -> None:
        self._number = number
        self._in_bulk = in_bulk
        self._client: queue.Queue[int] = queue.Queue()
        self._writes = 0
        self.killed: Request | None = None

    def __call__(self, request: Request) -> str:
        if request.method not in WRITES:
            return ""
        if request.method == "POST" and not self._in_bulk:
            return "unknown"
        self._writes += 1
        if self._writes == self._number:
            self.killed = request
            os.kill(self._client.get(timeout=_SECONDS_MAX), signal.SIGKILL)
            return "held"
        return ""

    def client_is(self, process: int) -> None:
        """Said once it was forked; a write may be there before."""
        self._client.put(process)


@pytest.fixture
def proxy() -> Iterator[S3Proxy]:
    """Before a server that compares sums; a run makes thousands of requests here, and moto is slow."""
    with keys_of_nobody(), proxied(MemoryS3()) as found:
        yield found


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("name", "arrives", "in_bulk"),
    [
        ("full", AT_ONCE, True),
        ("full", LATE, True),
        ("incremental", LATE, True),
        ("prune", LATE, True),
        ("prune", AT_ONCE, False),
        ("copy to the second archive", LATE, True),
    ],
)
def test_dying_with_a_write_on_its_way(name: str, arrives: str, in_bulk: bool, proxy: S3Proxy, tmp_path: Path) -> None:
    story = STORIES[name]
    tries = Tries.of(story, tmp_path, Bucket.made(S3Server(proxy.url), ("second",) if "copy" in name else BOTH))
    was = before(tries.again("before"))
    for number in range(1, WRITES_MAX):
        world = tries.again(f"die-{number}")
        proxy.gate.clear()
        kills = proxy.choose = KillsAt(number, in_bulk=in_bulk)
        child = forked(partial(story.act, world))
        kills.client_is(child)
        died = was_killed(child)
        assert died == (kills.killed is not None)
        proxy.choose = nothing
        world.clock.sleep(60)
        if arrives == LATE:
            run_recover(world.context())
            assert proxy.under_way >= died
        proxy.gate.set()
        wait_for_nothing_under_way(proxy)
        judge(world, was, f"dying with write {number} on its way ({kills.killed}), which arrives {arrives}")
        if not died:
            assert number > 8, "hardly any write was counted"
            return
    pytest.fail("the run never passed")


def wait_for_nothing_under_way(proxy: S3Proxy) -> None:
    end = time.monotonic() + _SECONDS_MAX
    while proxy.under_way:
        assert time.monotonic() < end, "a request never ended"
        time.sleep(0.002)
