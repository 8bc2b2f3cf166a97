"""The story on PostgreSQL, chapter by chapter; a claim that is not so ends the demo with its reason."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from backupd.demo import tell
from backupd.demo.commands import expect, place_for
from backupd.demo.postgres_needs import require_postgres
from backupd.demo.postgres_shop import Orders
from backupd.demo.postgres_stage import PostgresStage

Backup = dict[str, Any]

_STILL = timedelta(seconds=0.3)  # nothing is committed so near to the moment that is restored
_TABLE = "orders_of_last_year"


@dataclass(slots=True)
class Facts:
    """What the chapters measure for the closing table."""

    began: float = field(default_factory=time.monotonic)
    backups: list[Backup] = field(default_factory=list)
    right_moment: datetime = field(default_factory=lambda: datetime.now(UTC))
    right_orders: Orders = field(default_factory=lambda: Orders(0, 0, ""))
    rows: list[tuple[str, str]] = field(default_factory=list)


def run_postgres_demo(*, keep: Path | None) -> int:
    """Play the whole story on a pair of its own in ``keep``, or where nothing is left at the end; answers with 0.

    Raises:
        Refused: ``keep`` exists and is not empty, or cannot be made.
        NotHealthy: the driver or PostgreSQL is missing, or a server does not start.
        DemoFailed: something that was to be proven is not so.
    """
    require_postgres()
    # As root the servers are another user, who has to come through to their directories.
    with place_for(keep, mode=0o711 if os.geteuid() == 0 else 0o700) as home:
        facts = Facts()
        tell.title("backupd: the whole mission on a real PostgreSQL primary and its streaming standby")
        tell.say("two servers are made and a shop is filled")
        stage = PostgresStage(home)
        try:
            _play(stage, facts)
        finally:
            stage.strike()
        if keep is not None:
            tell.say(
                f"everything was left in {home}; export BACKUPD_CONFIG={stage.config} and look around",
                f"the servers are stopped; start each as user {stage.owner}: "
                f"{stage.pair.a.bin_directory}/pg_ctl start -D {home}/pair/a/data",
            )
    return 0


def _play(stage: PostgresStage, facts: Facts) -> None:
    _pair(stage)
    _full(stage, facts)
    _increment(stage, facts)
    _accident(stage, facts)
    _restore(stage, facts)
    _new_chain(stage, facts)
    _damage(stage, facts)
    _proof(stage, facts)
    facts.rows.append(("the whole story", f"{time.monotonic() - facts.began:.1f} s, nothing else was needed"))
    tell.closing(facts.rows)


def _pair(stage: PostgresStage) -> None:
    tell.chapter(1, "A shop sells on a primary, a standby follows it; backupd is pointed at both")
    stage.shop.build()
    stage.shop.open()
    tell.say(
        f"PostgreSQL {stage.version}; both servers run as {stage.owner}; "
        f"the shop has {stage.shop.orders().count:,} orders and takes more all the time"
    )
    stage.point_at()
    tell.say("no word about roles: who is active is asked of the servers, at every run")
    found = {str(one["name"]): one for one in stage.ask("check", "shop")["databases"][0]["findings"]}
    expect(all(one["ok"] for one in found.values()), "the pair is not fit for a backup", "see backupctl check")
    tell.say(*(f"{name}: {found[name]['because']}" for name in ("replication", "snapshot")))
    stage.wait_state(stage.pair.passive.name, "healthy")
    status = stage.ctl("status", "shop")
    tell.quote(status, 4)
    tell.say(*(f"the alarm: {line.strip(' !')}" for line in status.splitlines() if line.startswith("    ! ")))


def _backup(stage: PostgresStage, facts: Facts, kind: str) -> Backup:
    backup = stage.ask("backup", "shop", "--type", kind)
    facts.backups.append(backup)
    expect(backup["state"] == "complete", f"the {backup['type']} is {backup['state']}", "it should be complete")
    expect(backup["type"] == kind, f"the {kind} became a {backup['type']}", "; ".join(backup.get("notes") or ()))
    return backup


def _full(stage: PostgresStage, facts: Facts) -> None:
    tell.chapter(2, "A full from the standby, while the shop sells")
    stage.shop.let_it_sell(300)
    full = _backup(stage, facts, "full")
    expect(full["source_role"] == "passive", "the full read the active", "the passive is healthy")
    tell.say(
        f"full {full['id']} from copy {full['source_copy']}, the passive: {full['checked_pages']:,} pages checked, "
        f"{tell.mib(full['read_bytes'])} read, {tell.mib(full['stored_bytes'])} stored and proven",
        how_it_was_read(str(full["provider"]), full["frozen_seconds"]),
    )


def how_it_was_read(provider: str, frozen_seconds: float | None) -> str:
    """What became of replay during a full; honest about a filesystem that has no snapshots."""
    if frozen_seconds:
        return (
            f"replay stood still for {frozen_seconds:.2f} s ({provider}): in a copy that stands still "
            "a bad page is bad for certain"
        )
    return (
        f"replay ran on ({provider}): this filesystem has no snapshots, so pages are judged by their LSN, and one that "
        "is just being written is read again; on btrfs or XFS replay would stand still for a moment, "
        "and a bad page be bad for certain"
    )


def _increment(stage: PostgresStage, facts: Facts) -> None:
    tell.chapter(3, "An incremental takes log only; what the archive has proven leaves both servers")
    stage.shop.raise_prices()
    stage.shop.let_it_sell(200)
    before = stage.wal_bytes()
    increment = _backup(stage, facts, "incremental")
    state = increment["truncation"]["state"]
    expect(state == "truncated", f"the log was {state}", str(increment["truncation"].get("blocked_by")))
    after = stage.wal_shrinks_below(before)
    shrunk = all(after[name] < before[name] for name in before)
    expect(shrunk, "pg_wal has not become smaller", f"{before} bytes before, {after} after")
    tell.say(
        f"incremental {increment['id']}: {tell.mib(increment['read_bytes'])} of log, no page of the database",
        f"pg_wal on both copies, before and after: {wal_words(before, after)} "
        "(wal_recycle is off here, so what is let go is removed and not kept for later use)",
    )
    facts.rows += [
        ("increments take log only", f"{tell.mib(increment['read_bytes'])} of WAL, 0 pages"),
        ("log truncated on both copies", "pg_wal of " + wal_words(before, after)),
    ]


def wal_words(before: dict[str, int], after: dict[str, int]) -> str:
    """``a 128.0 MiB -> 48.0 MiB, b ...``."""
    return ", ".join(f"{name} {tell.mib(before[name])} -> {tell.mib(after[name])}" for name in before)


def _accident(stage: PostgresStage, facts: Facts) -> None:
    tell.chapter(4, "The accident: a DELETE without its WHERE, replayed faithfully by the standby")
    stage.shop.close()  # a still moment, so that the right answer is known to the row
    facts.right_orders = stage.shop.orders()
    time.sleep(_STILL.total_seconds())
    facts.right_moment = stage.now()
    time.sleep(_STILL.total_seconds())
    stage.shop.open()
    stage.shop.let_it_sell(100)
    stage.shop.close()
    stage.shop.lose_everything()
    stage.pair.wait_caught_up()
    tell.say(f"at {facts.right_moment:%H:%M:%S} there were {facts.right_orders.words}", "then: DELETE FROM orders")
    left = [stage.shop.orders(server).count for server in stage.pair.servers]
    expect(left == [0, 0], "the accident did not happen", f"{left} orders are left")
    backup = _backup(stage, facts, "incremental")
    tell.say(f"both servers have 0 orders: a replica is no backup; {backup['id']} holds the log on both sides of it")


def _restore(stage: PostgresStage, facts: Facts) -> None:
    tell.chapter(5, "Back to the moment before it, on the active; the standby is made anew")
    moment, passive = facts.right_moment.isoformat(), stage.pair.passive.name
    tell.quote(stage.three_lines("restore", "shop", "--at", moment, "--target", passive, "--yes", status=4))
    plan = stage.ask("restore", "shop", "--at", moment, "--dry-run")
    tell.say(*(f"will be lost: {sentence}" for sentence in plan["lost"]))
    restored = stage.ask("restore", "shop", "--at", moment, "--yes")
    found = stage.shop.orders()
    expect(
        found == facts.right_orders,
        "the restored orders are not the right ones",
        f"there are {found.words}, and it should be {facts.right_orders.words}",
    )
    tell.say(
        f"restored in {restored['seconds']:.1f} s to {restored['position']}: pages beside the live files, recovery to "
        "the moment there, checked, and put in place by renames",
        f"{found.words}: to the row",
    )
    expect(restored["passive_state"] == "healthy", "the standby was not made anew", "; ".join(restored["notes"]))
    stage.pair.wait_caught_up()
    expect(stage.shop.orders(stage.pair.passive) == found, "the standby has other orders", "it was made anew")
    tell.say(*(note for note in restored["notes"] if "passive" in note))
    timing = f"{restored['seconds']:.1f} s with the standby, {found.count:,} rows, exact"
    facts.rows.append(("restore to a moment, on the active", timing))


def _new_chain(stage: PostgresStage, facts: Facts) -> None:
    tell.chapter(6, "The shop sells on; a new full begins the next chain")
    stage.shop.open()
    stage.shop.let_it_sell(300)
    full = _backup(stage, facts, "full")
    tell.say(
        f"full {full['id']}: {full['checked_pages']:,} pages checked, log {full['log_start']} to {full['log_end']}"
    )


def _damage(stage: PostgresStage, facts: Facts) -> None:
    tell.chapter(7, "A disk changes one byte below the standby: the next full finds it, and nothing bad is stored")
    flipped = stage.flip_a_byte(_TABLE)
    tell.say(f"byte {flipped.offset:,} of {flipped.name} on copy {stage.pair.passive.name}: {_TABLE} is not in use")
    three = stage.three_lines("backup", "shop", "--type", "full", status=6)
    tell.quote(three)
    named = flipped.name in three and f"block {flipped.block} " in three
    expect(named, "the damaged page was not named", f"no word of block {flipped.block} of {flipped.name}")
    passive = stage.pair.passive.name
    stage.wait_state(passive, "suspect")
    tell.say(f"copy {passive} is suspect now: no backup is taken from it, no log is let go, until it is made anew")
    seeded = stage.ask("copy", "seed", "shop")
    stage.wait_state(passive, "healthy")
    expect(flipped.is_back(), "the byte is not what it was", f"{flipped.name} was made anew")
    tell.say(seeded["done"][0], "the byte is what it was")
    facts.rows.append(
        ("one flipped byte is found and named", f"block {flipped.block} of {flipped.name}; exit status 6")
    )


def _proof(stage: PostgresStage, facts: Facts) -> None:
    tell.chapter(8, "Everything is held against itself")
    _backup(stage, facts, "incremental")
    verified = stage.ask("verify", "shop", "--level", "data")["databases"][0]
    stage.shop.close()
    stage.pair.wait_caught_up()
    active, passive = stage.pair.active, stage.pair.passive
    same = stage.shop.digests(active) == stage.shop.digests(passive)
    expect(same, "active and passive differ", "every row of every table should be equal")
    pages = {server.name: stage.check_sums_at_rest(server) for server in (active, passive)}
    full = facts.backups[0]
    tell.say(
        "active and passive answer with the same rows, table by table",
        "pg_checksums has read both at rest: "
        + ", ".join(f"{count:,} pages of {name}" for name, count in pages.items())
        + ", none bad",
    )
    frozen = max(one["frozen_seconds"] or 0.0 for one in facts.backups)
    took = datetime.fromisoformat(full["finished_at"]) - datetime.fromisoformat(full["started_at"])
    facts.rows[:0] = [
        ("the shop never noticed a backup", noticed(stage.shop.sales, stage.shop.longest_seconds)),
        (
            "every page checked",
            f"{full['checked_pages']:,} in the first full, read, stored and proven in {took.total_seconds():.1f} s",
        ),
        ("replay", f"frozen {frozen:.2f} s at most" if frozen else f"never stopped ({full['provider']}: no snapshots)"),
    ]
    facts.rows += [
        ("both copies are equal and sound", f"every row; {sum(pages.values()):,} pages by pg_checksums"),
        ("the archive is whole", f"{tell.mib(verified['read_bytes'])} read back and checked"),
    ]


def noticed(sales: int, longest_seconds: float) -> str:
    """How many sales there were, and what the slowest customer waited."""
    return f"{sales:,} sales; the longest took {longest_seconds * 1000:,.0f} ms"
