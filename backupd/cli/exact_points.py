"""The exact points of a restore: just before a commit or a transaction, and at a named restore point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from backupd.errors import ConfigInvalid, UsageProblem

if TYPE_CHECKING:
    from backupd.decide.restore_path import RestoreWish
    from backupd.runs.context import RunContext

BeforePositionOption = Annotated[
    str | None,
    typer.Option(
        "--before-position",
        metavar="POSITION",
        help="Just before the commit there; positions of commits: backupctl timeline DATABASE --commits --near TIME.",
    ),
]
BeforeXidOption = Annotated[
    int | None,
    typer.Option("--before-xid", metavar="XID", min=1, help="Just before this transaction's commit (postgres)."),
]
ToNameOption = Annotated[
    str | None, typer.Option("--to-name", metavar="NAME", help="At the newest restore point of that name (postgres).")
]


_OPTIONS = ("--at", "--to", "--backup", "--before-position", "--before-xid", "--to-name")


def refuse_several(*given: object) -> None:
    """At most one of the options (in the order of their help) may name the point. Raises UsageProblem."""
    named = [name for name, value in zip(_OPTIONS, given, strict=True) if value is not None]
    if len(named) > 1:
        raise UsageProblem(
            f"{' and '.join(named)} do not go together",
            because="each of them names the point to restore to",
            next_step=f"give only {named[0]}, or none for the latest point",
        )


def exact_wish(
    context: RunContext, before_position: str | None, before_xid: int | None, to_name: str | None
) -> tuple[RestoreWish, str] | None:
    """The wish of whichever is given, and a note on how it was found; None when none is.

    Raises:
        UsageProblem: what was given is not of this engine, or no position.
        NotFound: the archived log does not hold it.
    """
    from backupd.decide.restore_path import RestoreWish

    if before_position is not None:
        finder = context.commit_finder()
        try:
            position = context.writer.parse_position(before_position.strip())
        except ConfigInvalid as error:
            raise UsageProblem(
                f"--before-position {before_position} cannot be used",
                because=error.because,
                next_step=f"backupctl timeline {context.database} --commits --near TIME shows the positions of commits",
            ) from error
        return RestoreWish.to_position(finder.before(position)), f"just before the commit at {position}"
    if before_xid is not None:
        from backupd.runs.find_commit import find_xid

        found, finder = find_xid(context, before_xid), context.commit_finder()
        at = f" of {found.at.isoformat()}" if found.at else ""
        note = f"just before the commit{at} of transaction {before_xid}, at {finder.text(found.position)}"
        return RestoreWish.to_position(finder.before(found.position)), note
    if to_name is not None:
        from backupd.runs.find_commit import find_point

        point = find_point(context, to_name)
        text = context.commit_finder().text(point.position)
        return RestoreWish.to_position(point.after), f"at the restore point {to_name!r}, which is at {text}"
    return None
