"""Cuts our connections to either server, in each state of a run and in the middle of its acts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backupd.demo.postgres_server import PgServer
from tests.faults.pg_house import BrokenHome, broken_home
from tests.faults.pg_places import parametrized
from tests.faults.pg_processes import three_lines
from tests.faults.test_postgres_runs import FULL

pytestmark = pytest.mark.real
QUICK = {(FULL, "2@pipeline.segment")}


@pytest.fixture(scope="module", params=["paused", pytest.param("live", marks=pytest.mark.slow)])
def shared(request: pytest.FixtureRequest) -> Iterator[BrokenHome]:
    with broken_home(request.param) as home:
        home.forked_ok(*FULL)
        yield home


@pytest.mark.slow
@pytest.mark.parametrize("copy", ["active", "passive"])
@pytest.mark.parametrize(("words", "step"), parametrized(QUICK))
def test_a_cut_connection(shared: BrokenHome, words: tuple[str, ...], step: str, copy: str) -> None:
    if shared.provider == "live" and step.partition("@")[2].startswith(("pg.guard", "pg.freeze")):
        pytest.skip("no freeze in a live run")
    shared.write()
    server: PgServer = getattr(shared.home.pair, copy)
    with shared.stopped(step, *words) as run:
        server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'backupd'")
        if copy == "passive" and words is FULL:
            shared.replays(f"cut at {step}")  # the guardian needs no run for that
        run.go_on()
        answer = run.ended()
    if answer.status != 0:
        three_lines(answer, 7)
    shared.judge(f"{copy} cut off at {step}", restore=False)
