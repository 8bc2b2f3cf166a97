"""The story, chapter by chapter; every claim is checked, and a claim that fails ends the demo with its reason."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backupd.demo import tell
from backupd.demo.commands import expect, place_for
from backupd.demo.stage import Stage

Backup = dict[str, Any]


@dataclass(slots=True)
class Facts:
    """What the chapters measure for the closing table."""

    began: float = field(default_factory=time.monotonic)
    backups: list[Backup] = field(default_factory=list)
    schema: list[tuple[Any, ...]] = field(default_factory=list)
    held_before_bytes: int = 0
    held_after_bytes: int = 0
    right_moment: datetime | None = None
    right_rows: tuple[Any, ...] = ()
    restore_seconds: float = 0.0
    rows: list[tuple[str, str]] = field(default_factory=list)


def run_demo(*, keep: Path | None) -> int:
    """Play the whole story in ``keep`` or in a scratch folder that is removed at the end; answers with 0.

    Raises:
        Refused: ``keep`` exists and is not empty, or cannot be made.
        DemoFailed: something that was to be proven is not so.
    """
    with place_for(keep) as home:
        stage = Stage(home)
        try:
            _play(stage)
        finally:
            stage.strike()
    if keep is not None:
        tell.say(f"everything was left in {home}; export BACKUPD_CONFIG={stage.config} and look around")
    return 0


def _play(stage: Stage) -> None:
    facts = Facts()
    tell.title("backupd: the whole mission on a real SQLite database, in use by a program that knows nothing of it")
    _replicate(stage, facts)
    _full(stage, facts)
    _increments(stage, facts)
    _accident(stage, facts)
    _restore(stage, facts)
    _proof(stage, facts)
    _damage(stage, facts)
    facts.rows.append(("the whole story", f"{time.monotonic() - facts.began:.1f} s, nothing else was needed"))
    tell.closing(facts.rows)


def _replicate(stage: Stage, facts: Facts) -> None:
    tell.chapter(1, "A shop sells; backupd is pointed at its file and replicates it to a passive copy")
    stage.open_shop()
    facts.schema = stage.sql(stage.active, "SELECT type, name, sql FROM sqlite_schema ORDER BY name")
    tell.say(f"the shop has {stage.active.stat().st_size >> 20} MiB of orders and sells several hundred times a second")
    copies = ("--copy", f"a={stage.active}", "--copy", f"b={stage.passive}", "--active", "a")
    init = ("init", str(stage.config.parent), "--database", "shop", "--engine", "sqlite", *copies)
    stage.ctl(*init, "--archive", f"file://{stage.archive}")
    # The story takes its own backups: one of the schedule, at two in the night, would stand in its way.
    stage.config.write_text(
        stage.config.read_text(encoding="utf-8") + 'schedule = false\nlisten = ""\n', encoding="utf-8"
    )
    stage.open_service()
    tell.say("the passive is seeded and replays every commit of the shop")


def _backup(stage: Stage, facts: Facts, kind: str) -> Backup:
    backup = stage.ask("backup", "shop", "--type", kind)
    facts.backups.append(backup)
    expect(backup["state"] == "complete", f"the {backup['type']} is {backup['state']}", "it should be complete")
    return backup


def _full(stage: Stage, facts: Facts) -> None:
    tell.chapter(2, "The first backup: asked for an increment, raised to a full, taken from a frozen passive")
    stage.let_it_sell(300)
    backup = _backup(stage, facts, "incremental")
    expect(backup["type"] == "full", "the first backup is no full", "there was nothing that it could build on")
    tell.say(
        f"{backup['type']} {backup['id']}: replay stood still for {backup['frozen_seconds']:.2f} s, "
        f"{backup['checked_pages']:,} of {backup['checked_pages']:,} pages are what the log says they must be",
        f"{tell.mib(backup['read_bytes'])} read, {tell.mib(backup['stored_bytes'])} stored and read back",
    )


def _held(stage: Stage) -> int:
    return sum(int(copy["held_log_bytes"]) for copy in stage.status()["copies"])


def _increments(stage: Stage, facts: Facts) -> None:
    tell.chapter(3, "Increments take log only; what the archive has proven leaves both copies")
    stage.let_it_sell(500)
    facts.held_before_bytes = _held(stage)
    first = _backup(stage, facts, "incremental")
    expect(first["type"] == "incremental", "the second backup is no increment", "a full was there to build on")
    facts.held_after_bytes = _held(stage)
    before = first["truncation"]["before"]
    tell.say(
        f"incremental {first['id']}: {tell.mib(first['read_bytes'])} of log, no page of the database",
        f"truncation: log before {before} is gone from both copies, "
        f"held log {tell.mib(facts.held_before_bytes)} -> {tell.mib(facts.held_after_bytes)}",
    )
    stage.let_it_sell(500)
    second = _backup(stage, facts, "incremental")
    tell.say(f"incremental {second['id']}: log {second['log_start']} to {second['log_end']}")


def _accident(stage: Stage, facts: Facts) -> None:
    tell.chapter(4, "The accident: a statement without its WHERE, replayed faithfully by the passive")
    stage.let_it_sell(200)
    stage.close_shop()  # a still moment, so that the right answer is known to the row
    facts.right_rows = stage.sql(stage.active, "SELECT count(*), sum(cents), max(id) FROM orders")[0]
    time.sleep(0.3)
    facts.right_moment = datetime.now(UTC)
    time.sleep(0.3)
    stage.open_shop()
    stage.let_it_sell(100)
    stage.sql(stage.active, "UPDATE orders SET cents = 0")
    stage.sql(stage.active, "DELETE FROM orders WHERE id % 3 = 0")
    tell.say(
        f"at {facts.right_moment:%H:%M:%S} there were {facts.right_rows[0]:,} orders "
        f"worth {facts.right_rows[1] / 100:,.2f}",
        "then: UPDATE orders SET cents = 0; DELETE FROM orders WHERE id % 3 = 0",
    )
    backup = _backup(stage, facts, "incremental")
    tell.say(
        f"the passive has the damage too: a replica is no backup; {backup['id']} holds the log on both sides of it"
    )


def _restore(stage: Stage, facts: Facts) -> None:
    tell.chapter(5, "Back to the moment before it, on the active")
    moment = (facts.right_moment or datetime.now(UTC)).isoformat()
    tell.quote(stage.three_lines("restore", "shop", "--at", moment, "--target", "b", "--yes", status=4))
    tell.quote(stage.three_lines("restore", "shop", "--at", moment, "--yes", status=4))
    stage.close_shop()
    began = time.monotonic()
    restored = stage.ask("restore", "shop", "--at", moment, "--yes")
    facts.restore_seconds = time.monotonic() - began
    tell.say(
        f"restored in {facts.restore_seconds:.1f} s to {restored.get('position', 'the moment')}: "
        "pages beside the live file, log up to the moment, checked, and put in place by one rename"
    )
    found = stage.sql(stage.active, "SELECT count(*), sum(cents), max(id) FROM orders")[0]
    expect(
        found == facts.right_rows, "the restored orders are not the right ones", f"{found} is not {facts.right_rows}"
    )
    stage.wait_healthy()
    tell.say(f"{found[0]:,} orders worth {found[1] / 100:,.2f}: to the row; the passive was seeded from it again")
    facts.rows.append(
        ("restore to a moment, on the active", f"{facts.restore_seconds:.1f} s, {found[0]:,} rows, exact")
    )


def _proof(stage: Stage, facts: Facts) -> None:
    tell.chapter(6, "The shop sells on; a new full begins the next chain; then everything is held against itself")
    stage.open_shop()
    stage.let_it_sell(300)
    backup = _backup(stage, facts, "incremental")
    expect(backup["type"] == "full", "a full was due after the restore", "a restore begins a new history")
    stage.close_shop()
    _backup(stage, facts, "copy")  # closes the log and lets the passive catch up with the shop's last sale
    same = stage.digest(stage.active) == stage.digest(stage.passive)
    expect(same, "active and passive differ", "their files should be equal byte by byte at the same position")
    sound = stage.sql(stage.active, "PRAGMA integrity_check") == [("ok",)]
    expect(sound, "the active is not sound", "PRAGMA integrity_check")
    schema = stage.sql(stage.active, "SELECT type, name, sql FROM sqlite_schema ORDER BY name")
    expect(schema == facts.schema, "the schema was changed", "backupd adds nothing to a user's database")
    tell.say("active and passive are equal byte by byte; integrity_check says ok; nothing was added to the schema")
    full = facts.backups[0]
    frozen = max(one["frozen_seconds"] or 0.0 for one in facts.backups)
    spent = datetime.fromisoformat(full["finished_at"]) - datetime.fromisoformat(full["started_at"])
    facts.rows[:0] = [
        ("the shop never noticed", f"{stage.sales():,} sales; the longest took {stage.longest_seconds * 1000:,.0f} ms"),
        ("replica equal to the active", "byte by byte, SHA-256 of both files"),
        ("nothing in the user's database", f"{len(schema)} objects in the schema, before and after"),
        ("replay frozen only for a moment", f"{frozen:.2f} s at most; a crash or {20} s would end it"),
        (
            "every page checked",
            f"{full['checked_pages']:,} in the first full, stored and read back in {spent.total_seconds():.1f} s",
        ),
        (
            "increments take log only",
            f"{len([b for b in facts.backups if b['type'] == 'incremental'])} increments, 0 pages",
        ),
        (
            "log truncated on both copies",
            f"{tell.mib(facts.held_before_bytes)} held before, {tell.mib(facts.held_after_bytes)} after",
        ),
    ]


def _damage(stage: Stage, facts: Facts) -> None:
    tell.chapter(7, "One flipped bit in the archive is found and named")
    verified = stage.ask("verify", "--level", "data")["databases"][0]
    tell.say("as it stands the archive is sound: every byte was read and checked")
    segment = max((p for p in stage.archive.rglob("data/*/*") if p.is_file()), key=lambda p: p.stat().st_size)
    whole = segment.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    mode = segment.stat().st_mode
    os.chmod(segment, 0o600)
    segment.write_bytes(flipped)
    found = stage.ctl("verify", "--level", "data", status=6)
    named = [line.strip() for line in found.splitlines() if segment.name in line and line.strip().startswith("-")]
    expect(bool(named), "the damaged object was not named", f"no line of verify names {segment.name}")
    tell.say(*(line.removeprefix("- ") for line in named[:3]))
    segment.write_bytes(whole)
    os.chmod(segment, mode)
    stage.ctl("verify", "--level", "data", quiet=True)
    facts.rows.append(("damage is found and named", f"1 bit of {segment.stat().st_size:,} bytes; exit status 6"))
    facts.rows.append(("the archive is whole", f"{tell.mib(verified['read_bytes'])} read back and checked"))
