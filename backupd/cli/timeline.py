"""backupctl timeline: what could be restored when, and which commits there were near a moment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import house, human, keys, origin, output, progress
from backupd.cli.keys import KeyOption, PassphraseFileOption
from backupd.cli.options import ArchiveOption, ConfigOption, JsonOption, Which
from backupd.cli.origin import BinDirectoryOption, EndpointOption, MaybeDatabaseArgument, NameOption
from backupd.cli.output import Cell
from backupd.errors import UsageProblem

if TYPE_CHECKING:
    from backupd.ports import FoundCommit, TableChange
    from backupd.runs.commits import CommitsFound
    from backupd.runs.timeline import TimelineFound

EXAMPLES = (
    "backupctl timeline orders",
    "backupctl timeline orders --from yesterday --to '2 h ago' --json",
    "backupctl timeline orders --commits --near '2026-11-22 14:05' --window 10m --table items",
    "backupctl timeline orders --points                  # also restore points that no backup noted, postgres",
    "backupctl timeline --from s3://bucket/orders        # an archive, where no policy and no config is left",
)

_MOMENTS_MAX = 40
_PLACE = re.compile(r"[a-z0-9]+://|~|\.{0,2}/|\.{1,2}$")  # no time looks like one of these
_STYLES = {
    "drop": output.BAD, "truncate": output.BAD, "delete": output.WARN, "schema": output.WARN, "point": output.GOOD,
}  # fmt: skip
FromWords = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="TIME|ARCHIVE",
        help="From when: ISO 8601, '2 h ago'; or only an archive, without policy: s3://bucket/prefix, /dir, ./dir.",
        show_default=False,
    ),
]


def timeline(
    *,
    database: MaybeDatabaseArgument = None,
    origins: FromWords = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Up to when.")] = None,
    commits: Annotated[
        bool, typer.Option("--commits", help="The commits near a moment, with what each changed and how to undo it.")
    ] = False,
    near: Annotated[
        str | None, typer.Option("--near", metavar="TIME", help="With --commits: the moment that matters.")
    ] = None,
    window: Annotated[
        str, typer.Option("--window", metavar="DURATION", help="With --near: so long before and after it.")
    ] = "10m",
    table: Annotated[
        str, typer.Option("--table", metavar="NAME", help="With --commits: only those that changed this table.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="With --commits: at most so many.")] = 100,
    points: Annotated[
        bool,
        typer.Option("--points", help="Also read the log for named restore points that no backup noted (postgres)."),
    ] = False,
    archive: ArchiveOption = Which.FIRST,
    name: NameOption = None,
    endpoint_url: EndpointOption = None,
    bin_directory: BinDirectoryOption = None,
    as_json: JsonOption = False,
    key: KeyOption = None,
    passphrase_file: PassphraseFileOption = None,
    config: ConfigOption = None,
) -> int:
    """Show what could be restored when: windows, gaps, backups, failovers, drills; and the commits near a moment."""
    if near is not None and not commits:
        raise _usage("--near is of --commits", "it names the moment whose commits are shown", "add --commits")
    if table and not commits:
        raise _usage("--table is of --commits", "it chooses among the commits", "add --commits")
    since, place = _told_apart(origins or ())
    begin, end, moment = _span(since, until, near, window, commits=commits)
    named = origin.named(database, name, place)
    words = origin.Words(place, named, endpoint_url, bin_directory)
    with origin.opened(words, config, keys.sources(key, passphrase_file)) as opened:
        one = origin.only_one(opened, named) if place else str(named)
        with progress.shown() as report:
            context = house.one(opened, one, report, archive=archive)
            if commits and begin is not None and end is not None:
                from backupd.runs.commits import find_commits

                found = find_commits(context, moment, begin, end, table=table, count_max=limit)
                found = replace(found, commands=[origin.restore_words(said, words) for said in found.commands])
            else:
                from backupd.runs.timeline import read_timeline

                line = read_timeline(context, begin, end, points=points, say=lambda it: origin.restore_words(it, words))
        if as_json:
            output.print_json(found.to_json() if commits else line.to_json())
        elif commits:
            _print_commits(found)
        else:
            _print_timeline(line)
    return 0


def _told_apart(values: Sequence[str]) -> tuple[str | None, str | None]:
    """What ``--from`` says: a time, a place, or one of each. Raises UsageProblem."""
    places = [one for one in values if _PLACE.match(one) or Path(one).is_dir()]
    times = [one for one in values if one not in places]
    if len(places) > 1 or len(times) > 1:
        both = " and ".join(places if len(places) > 1 else times)
        raise _usage("--from is said twice", f"{both} contradict each other", "leave one of them out")
    return (times[0] if times else None), (places[0] if places else None)


def _usage(problem: str, because: str, next_step: str) -> UsageProblem:
    return UsageProblem(problem, because=because, next_step=next_step)


def _span(
    since: str | None, until: str | None, near: str | None, window: str, *, commits: bool
) -> tuple[datetime | None, datetime | None, datetime]:
    """From when, up to when, and the moment that matters. Raises UsageProblem."""
    from backupd.cli.when import parse_when

    now = datetime.now(UTC)
    begin = parse_when(since, now).at if since is not None else None
    end = parse_when(until, now).at if until is not None else None
    if near is not None:
        at, around = parse_when(near, now).at, _duration(window)
        return begin or at - around, end or at + around, at
    if commits and begin is None:
        raise _usage(
            "--commits needs a moment",
            "all commits of a database are too many to be read",
            "say --near TIME, or --from TIME --to TIME",
        )
    if commits:
        end = end or now
    if begin is not None and end is not None and begin > end:
        raise _usage("--from is later than --to", f"{begin.isoformat()} and {end.isoformat()}", "exchange them")
    return begin, end, end or now


def _duration(text: str) -> timedelta:
    from backupd.policy.units import read_duration

    try:
        return timedelta(seconds=float(read_duration(text)))
    except (ValueError, TypeError, OverflowError) as error:
        raise _usage(
            f"--window {text} cannot be used", str(error) or "it is no duration", "write it as 10m, 90s or 2h"
        ) from None


# --- the line -----------------------------------------------------------------


def _print_timeline(found: TimelineFound) -> None:
    line = found.line
    if line is None:
        output.print_line("nothing was backed up yet")
        output.print_sentences(found.notes)
        return
    from backupd.cli.timeline_bar import print_bar

    what = (Cell(found.database, output.STRONG), "  what could be restored when")
    output.print_line(what)
    print_bar(line)
    windows = output.Table(("RESTORABLE FROM (LOCAL)", "TO", "LENGTH", "HISTORY"))
    for one in found.windows:
        length = human.duration((one.to_time - one.from_time).total_seconds())
        windows.add(human.short_time(one.from_time), human.short_time(one.to_time), length, one.history)
    output.print_line()
    output.print_table(windows)
    gaps = output.Table(("GAP FROM (LOCAL)", "TO", "WHY"), last_wraps=True)
    for gap in line.gaps:
        gaps.add(human.short_time(gap.from_time), human.short_time(gap.to_time), Cell(gap.because, output.WARN))
    output.print_line()
    output.print_table(gaps)
    moments = output.Table(("AT (LOCAL)", "WHAT"), last_wraps=True)
    for moment in line.moments[-_MOMENTS_MAX:]:
        moments.add(human.short_time(moment.at), Cell(moment.says, "" if moment.sound else output.BAD))
    output.print_line()
    output.print_table(moments)
    older = len(line.moments) - _MOMENTS_MAX
    notes = list(found.notes)
    if older > 0:
        notes.append(f"{older} older moments are not shown; name a time with --from and --to, or ask for --json")
    output.print_sentences(notes)


# --- commits --------------------------------------------------------------------


def _print_commits(found: CommitsFound) -> None:
    span = f"{human.clock_time(found.since)} to {human.clock_time(found.until)}"
    output.print_line((Cell(found.database, output.STRONG), f"  commits from {span}"))
    output.print_line()
    for commit, command in zip(found.commits, found.commands, strict=True):
        _print_commit(commit, command)
    notes = list(found.notes)
    if not found.commits:
        output.print_line("there is no commit that fits")
    if len(found.commits) < found.total:
        notes.insert(
            0, f"{len(found.commits)} of {found.total} are shown, the worst and the nearest; see --limit, --table"
        )
    output.print_sentences(notes)


def _print_commit(commit: FoundCommit, command: str) -> None:
    at = commit.at.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f") if commit.at else "time not known"
    sentences = "; ".join(_words(commit))
    who = f" (transaction {commit.xid})" if commit.xid else ""
    style = _STYLES.get(commit.deed.value, "")
    output.print_line((at, "  ", Cell(commit.deed.value, style), who))
    output.print_sentences([sentences or "no table"], indent=3, bullet="")
    output.print_line(("    ", Cell(command, output.DIM)))


def _words(commit: FoundCommit) -> Iterator[str]:
    if commit.name:
        yield commit.says
        return
    yield from (_change(one) for one in _worst_first(commit.changes))
    if commit.says:
        yield commit.says


def _worst_first(changes: Sequence[TableChange]) -> list[TableChange]:
    return sorted(changes, key=lambda one: (one.rows is None, one.rows if one.rows is not None else 0, one.table))


def _change(one: TableChange) -> str:
    if one.table == "unknown":
        return f"{human.count(one.pages, 'page')} of no known table"
    rows = f" {one.rows:+,} {'row' if abs(one.rows) == 1 else 'rows'}" if one.rows else ""
    return f"{'' if one.certain else 'perhaps '}{one.table}{rows or (' changed' if one.rows == 0 else '')}"
