"""Promotes the passive in each state of a run: it ends as a change of roles, and the next goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from backupd.demo.postgres_server import PgServer
from tests.faults.pg_house import BrokenHome, broken_home
from tests.faults.pg_places import parametrized
from tests.faults.pg_processes import three_lines
from tests.faults.test_postgres_runs import FULL, INCREMENTAL

pytestmark = pytest.mark.real
QUICK = {(FULL, "3@journal.move"), (INCREMENTAL, "2@journal.move")}


@pytest.fixture(scope="module", params=["paused", pytest.param("live", marks=pytest.mark.slow)])
def shared(request: pytest.FixtureRequest) -> Iterator[BrokenHome]:
    with broken_home(request.param) as home:
        home.forked_ok(*FULL)
        yield home


def _fail_over(home: BrokenHome) -> PgServer:
    """The old active is stopped first, as a careful person does; it stays down."""
    old = home.home.pair.active
    home.home.pair.fail_over()
    return old


def _promote(home: BrokenHome) -> PgServer:
    """The old active runs on for a while: for that time there are two."""
    old, new = home.home.pair.active, home.home.pair.passive
    new.psql("SELECT pg_promote()")
    return old


@pytest.mark.parametrize("promote", [_fail_over, pytest.param(_promote, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("words", "step"), parametrized(QUICK))
def test_a_promotion_ends_the_run_as_a_role_change(
    shared: BrokenHome, words: tuple[str, ...], step: str, promote: Callable[[BrokenHome], PgServer]
) -> None:
    if shared.provider == "live" and step.partition("@")[2].startswith(("pg.guard", "pg.freeze")):
        pytest.skip("no freeze in a live run")
    shared.write()
    pair = shared.home.pair
    with shared.stopped(step, *words) as run:
        new, old = pair.passive, promote(shared)
        run.go_on()
        answer = run.ended()
    if answer.status == 0:
        # It was committed already, and its log waits.
        assert "truncation  deferred" in answer.out, answer.told()
    else:
        problem, because, _ = three_lines(answer, 7)
        assert problem == "the roles changed during the run", answer.told()
        assert because
    assert shared.connections(new.name) == 0
    shared.archive_is_whole(step)
    # Without any edit: the old active becomes the standby, and the next run reads it.
    old.stop()
    pair.seed(old, new)
    shared.replays(f"promoted at {step}")
    after = shared.goes_on(f"promoted at {step}", restore=False)
    assert after["source_copy"] == old.name
