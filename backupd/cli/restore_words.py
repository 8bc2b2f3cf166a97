"""A restore's plan and its outcome, for a person to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from backupd.cli import human, output
from backupd.cli.output import Cell

if TYPE_CHECKING:
    from backupd.decide.near_points import GoodPoint


def print_plan(database: str, plan: Any, notes: Sequence[str]) -> None:
    """What would be done, from what to where, and what would be lost by it."""
    where = "the active copy" if plan.role == "active" else "a directory"
    output.print_line((Cell(f"restore of {database}", output.STRONG), f" to {where}, {plan.path}"))
    fetched = f"{human.size(plan.fetch_bytes)} to fetch"
    if plan.local_pages:
        fetched += f", {plan.local_pages:,} of {plan.local_pages + plan.fetch_pages:,} pages are here already"
    output.print_facts(
        (
            ("base", str(plan.base)),
            ("log", f"{human.count(plan.logs_count, 'file')}, {human.size(plan.log_bytes)}"),
            ("up to", f"{human.clock_time(plan.at)}, " * bool(plan.at) + f"position {plan.end}"),
            ("good before", _point(plan.near.before)),
            ("good after", _point(plan.near.after)),
            ("bytes", f"{fetched}; {human.size(plan.total_bytes)} in all, {human.size(plan.free_bytes)} free there"),
            *((("time", _expected(plan.expected_seconds)),) if plan.expected_seconds is not None else ()),
            ("target", str(plan.present)),
        ),
        indent=2,
    )
    output.print_sentences([*notes, *plan.notes])
    if plan.lost:
        output.print_line(Cell("  will be lost", output.BAD))
        output.print_sentences(plan.lost, indent=4, bullet="!", style=output.BAD)
    if plan.blockers:
        output.print_line(Cell("  stands in the way", output.BAD))
        output.print_sentences(plan.blockers, indent=4, bullet="!")
    output.print_line(Cell("  steps", output.DIM))
    for number, step in enumerate(plan.steps, start=1):
        output.print_sentences([step], indent=4, bullet=f"{number}.")


def _expected(seconds: float) -> str:
    return f"about {human.duration(seconds)}, by the drills that passed"


def _point(point: GoodPoint | None) -> str:
    """Where else one could go; an empty fact is not printed."""
    if point is None:
        return ""
    known = "verified" if point.verified else "complete"
    return f"{human.clock_time(point.at)}, the end of {point.backup} ({known})"


def print_outcome(database: str, outcome: Any) -> None:
    """What was done."""
    output.print_line()
    took = human.duration(outcome.usable_seconds)
    more = "" if outcome.plan.role == "directory" else f"; with its passive {human.duration(outcome.seconds)}"
    output.print_line((Cell(f"{database} is restored", output.GOOD), f" in {took}{more}"))
    output.print_facts(
        (
            ("position", str(outcome.position)),
            ("read", f"{human.size(outcome.read_bytes)}; {human.count(outcome.logs_applied, 'log file')} replayed"),
            ("pages", f"{outcome.fetched_pages:,} fetched, {outcome.reused_pages:,} were here already"),
            ("passive", str(outcome.passive_state or "")),
        ),
        indent=2,
    )
    output.print_sentences(outcome.notes)
