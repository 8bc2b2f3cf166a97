"""Random points of a history that is known: a restore brings back exactly the prefix, or is refused with the reason.

The history goes over a restore to the active (SQLite: over two; it has no failover by command yet) and, on
PostgreSQL, a failover.  ``POINT_IN_TIME_TARGETS`` and ``POINT_IN_TIME_PG_TARGETS`` say how many points the slow tests
take; each target of PostgreSQL is a recovery by a server, so there are fewer of them.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backupd.bootstrap import open_house
from backupd.cli.exact_points import exact_wish
from backupd.cli.when import parse_when
from backupd.decide.restore_path import RestoreWish, recovery_windows
from backupd.errors import NotFound, UsageProblem
from backupd.runs.commits import find_commits
from backupd.runs.context import RunContext
from backupd.runs.restore import run_restore
from backupd.runs.restore_plan import RestorePlan, plan_restore
from tests.pg_pairs import bin_directory
from tests.soak.house import say
from tests.stories.home import Home, home
from tests.stories.known_ledger import Known, KnownLedger, Rows, Wished, targets
from tests.stories.pg_home import PgHome, pg_home

SEED = 20261122
TARGETS = int(os.environ.get("POINT_IN_TIME_TARGETS", "500"))
PG_TARGETS = int(os.environ.get("POINT_IN_TIME_PG_TARGETS", "24"))


def wish_of(context: RunContext, wished: Wished) -> RestoreWish:
    """As ``backupctl restore`` reads it."""
    if wished.option == "--at":
        return RestoreWish.at_time(parse_when(wished.value, datetime.now(UTC) + timedelta(minutes=5)).at)
    if wished.option == "--to":
        return RestoreWish.to_position(context.writer.parse_position(wished.value))
    by_number = wished.option == "--before-xid"
    found = exact_wish(context, None if by_number else wished.value, int(wished.value) if by_number else None, None)
    assert found is not None
    return found[0]


def all_are_right(
    open_context: Callable[[], RunContext], wanted: Iterator[Wished], target: Path, rows_of: Callable[[Path], Rows]
) -> dict[str, int]:
    """Restore to each target; answers with how many were restored and how many refused."""
    counts = {"restored": 0, "refused": 0}
    for wished in wanted:
        plan, because = planned(open_context(), wished, target)
        if plan is None:
            assert because
            assert not wished.right, f"{wished} was refused: {because}"
            counts["refused"] += 1
            continue
        assert wished.right, f"{wished} was not refused: {plan.notes}"
        run_restore(open_context(), plan)
        found = rows_of(target)
        assert found in wished.right, f"{wished} brought back {len(found)} rows, up to {found[-1:]}"
        counts["restored"] += 1
        shutil.rmtree(target)
    return counts


def planned(context: RunContext, wished: Wished, target: Path) -> tuple[RestorePlan | None, str]:
    """The plan, or why there is none."""
    try:
        return plan_restore(context, wish_of(context, wished), str(target)), ""
    except (NotFound, UsageProblem) as refused:
        return None, refused.because


# --- SQLite -----------------------------------------------------------------


class SqliteWorld:
    """An installation whose application notes each of its commits."""

    def __init__(self, made: Home, dice: random.Random) -> None:
        self.home, self.dice = made, dice
        self.ledger = KnownLedger()
        self.rows: Rows = ()
        self.waiting: list[tuple[Rows, datetime]] = []
        self.number = 0

    def commits(self, count: int) -> None:
        """Some one after the other, some with a pause; the log is cut where the service likes."""
        with self.home.connected() as database:
            for _ in range(count):
                self.number += 1
                begun = datetime.now(UTC)
                if self.rows and self.dice.random() < 0.2:
                    gone = self.dice.choice(self.rows)
                    database.execute("DELETE FROM told WHERE n = ?", (gone,))
                    self.rows = tuple(one for one in self.rows if one != gone)
                else:
                    database.execute("INSERT INTO told VALUES (?, randomblob(2000))", (self.number,))
                    self.rows = (*self.rows, self.number)
                self.waiting.append((self.rows, begun))
                time.sleep(self.dice.choice([0.0, 0.0, 0.01, 0.35]))

    def backup(self, kind: str = "incremental") -> None:
        """Take one, and learn from the archived log where each commit is that was made since."""
        self.home.backup(kind)
        if kind != "incremental":
            return
        context = self.context()
        first, last = self.waiting[0][1], datetime.now(UTC)
        found = find_commits(context, last, first - timedelta(seconds=1), last, count_max=10**6)
        known = {(one.history, one.first) for one in self.ledger.entries}  # a quick host makes several in that second
        new = [one for one in found.commits if (one.position.history, one.position.offset) not in known]
        mine = [one for one in new if any(each.table == "told" for each in one.changes)]
        assert len(mine) == len(self.waiting), [one.changes for one in found.commits]
        after = [one.position.offset for one in mine[1:]]
        for (rows, begun), one, following in zip(
            self.waiting, mine, [*after, mine[-1].position.offset + 1], strict=True
        ):
            assert one.at is not None
            # Between the two the capture saw it: a restore to a moment from then on has it, to one before may not.
            assert begun <= one.at <= last, (begun, one.at, last)
            place = one.position
            self.ledger.entries.append(
                Known(self.ledger.branch, place.history, rows, begun, one.at, place.offset, following - 1, str(place))
            )
        self.waiting = []

    def restore_to(self, known: Known) -> None:
        """An accident, and the way back: a new branch."""
        self.home.ok("restore", "orders", "--to", f"{known.history}/{known.first}", "--yes")
        self.home.wait_healthy()
        self.rows = known.rows
        self.ledger.branch += 1
        self.ledger.roots[self.ledger.branch] = known.rows

    def context(self) -> RunContext:
        return open_house(self.home.config).context("orders")


@contextlib.contextmanager
def sqlite_world(root: Path, dice: random.Random, rounds: int, commits: int) -> Iterator[SqliteWorld]:
    """Chains of increments, with a restore to the active between them."""
    with home(root, rows=50) as made:
        made.up()
        with made.connected() as database:
            database.execute("CREATE TABLE told(n INTEGER PRIMARY KEY, body BLOB)")
        world = SqliteWorld(made, dice)
        for number in range(rounds):
            if number:
                chosen = dice.choice([one for one in world.ledger.entries if one.branch == world.ledger.branch])
                world.restore_to(chosen)
            world.home.backup("full")
            for _ in range(2):
                world.commits(commits)
                world.backup()
        yield world


def sqlite_rows(target: Path) -> Rows:
    path = target / "app.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return tuple(row[0] for row in database.execute("SELECT n FROM told ORDER BY n"))


def check_sqlite(root: Path, *, rounds: int, commits: int, count: int) -> dict[str, int]:
    dice = random.Random(SEED)
    with sqlite_world(root, dice, rounds, commits) as world, contextlib.closing(open_house(world.home.config)) as house:
        windows = recovery_windows(house.context("orders").archive().list().backups)
        wanted = targets(world.ledger, windows, count, dice, position=lambda history, at: f"{history}/{at}")
        return all_are_right(lambda: house.context("orders"), wanted, root / "out", sqlite_rows)


@pytest.mark.slow
def test_a_few_random_points_are_exact_or_refused(tmp_path: Path) -> None:
    counts = check_sqlite(tmp_path / "home", rounds=2, commits=5, count=16)
    assert counts["restored"] >= 8, counts


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_random_point_over_two_restores_is_exact_or_refused(tmp_path: Path) -> None:
    counts = check_sqlite(tmp_path / "home", rounds=3, commits=30, count=TARGETS)
    say(f"point in time, sqlite: {counts}")
    assert counts["restored"] > 3 * counts["refused"] > 0, counts


# --- PostgreSQL ---------------------------------------------------------------


class PgWorld:
    """The same around a pair of servers."""

    def __init__(self, made: PgHome, dice: random.Random) -> None:
        self.home, self.dice = made, dice
        self.ledger = KnownLedger()
        self.rows: Rows = ()
        self.number = 0

    def now(self) -> tuple[datetime, str, int]:
        """The active's clock, its timeline, and where its log ends."""
        at, timeline, place = self.home.pair.active.psql(
            "SELECT to_json(clock_timestamp())#>>'{}', "
            "('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int, "
            "(pg_current_wal_insert_lsn() - '0/0')::bigint"
        ).split("|")
        return datetime.fromisoformat(at), timeline, int(place)

    def commits(self, count: int) -> None:
        active, noted = self.home.pair.active, []
        for _ in range(count):
            self.number += 1
            begun, _, _ = self.now()
            if self.rows and self.dice.random() < 0.2:
                gone = self.dice.choice(self.rows)
                said = active.psql(f"BEGIN; DELETE FROM told WHERE n = {gone}; SELECT pg_current_xact_id(); COMMIT")
                self.rows = tuple(one for one in self.rows if one != gone)
            else:
                work = f"INSERT INTO told VALUES ({self.number}, repeat('x', 500))"
                said = active.psql(f"BEGIN; {work}; SELECT pg_current_xact_id(); COMMIT")
                self.rows = (*self.rows, self.number)
            done, timeline, place = self.now()
            noted.append((self.rows, begun, done, timeline, place, said.split()[-1]))
            if self.dice.random() < 0.3:
                active.psql("SELECT pg_switch_wal()")
        _, _, end = self.now()
        for number, (rows, begun, done, timeline, place, xid) in enumerate(noted, start=1):
            # The next commit's record begins somewhere after the place that was noted; after the last one is none.
            last = end if number == len(noted) else place
            self.ledger.entries.append(Known(self.ledger.branch, timeline, rows, begun, done, place, last, xid))

    def fail_over(self) -> None:
        """The standby takes over, and the old active follows it with its own files."""
        pair = self.home.pair
        pair.wait_caught_up()
        old = pair.active
        new = pair.fail_over()
        new.psql(
            f"SELECT pg_create_physical_replication_slot('{old.slot}', true) "
            f"WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{old.slot}')"
        )
        old.start()
        pair.wait_streaming()

    def restore_to(self, known: Known) -> None:
        """An accident, and the way back: a new branch."""
        self.home.ok("restore", "orders", "--to", lsn_of(known.history, known.first), "--yes", seconds_max=600)
        self.home.pair.wait_streaming()
        self.rows = known.rows
        self.ledger.branch += 1
        self.ledger.roots[self.ledger.branch] = known.rows


def lsn_of(history: str, offset: int) -> str:
    return f"{history}:{offset >> 32:X}/{offset & 0xFFFFFFFF:X}"


def pg_rows(made: PgHome, target: Path) -> Rows:
    with made.opened(target) as server:
        return tuple(int(one) for one in server.psql("SELECT n FROM told ORDER BY n").split())


def pg_world(made: PgHome, dice: random.Random, commits: int) -> PgWorld:
    """A chain over a failover, a restore of the active to a point before it, and a chain after that."""
    made.pair.active.psql("CREATE TABLE told(n int PRIMARY KEY, body text)")
    world = PgWorld(made, dice)
    made.backup("full")
    world.commits(commits)
    made.backup("incremental")
    world.fail_over()
    world.commits(commits)
    made.backup("incremental")
    world.restore_to(dice.choice(world.ledger.entries[: 2 * commits]))
    made.backup("full")
    world.commits(commits)
    made.backup("incremental")
    return world


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.timeout(7200)
def test_random_points_of_servers_over_a_failover_and_a_restore_are_exact_or_refused() -> None:
    bin_directory()
    dice = random.Random(SEED)
    with pg_home(scale=1, segment_mib=1) as made, contextlib.closing(open_house(made.config)) as house:
        world = pg_world(made, dice, commits=12)
        windows = recovery_windows(house.context("orders").archive().list().backups)
        wanted = targets(world.ledger, windows, PG_TARGETS, dice, position=lsn_of)
        counts = all_are_right(
            lambda: house.context("orders"), wanted, made.root / "out" / "data", lambda target: pg_rows(made, target)
        )
    say(f"point in time, postgres: {counts}")
    assert counts["restored"] > counts["refused"], counts
