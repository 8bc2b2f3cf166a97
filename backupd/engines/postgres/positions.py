"""Positions as database administrators write them: 0/3000028, or 2:0/3000028 for another timeline than today's."""

from __future__ import annotations

import re
from collections.abc import Callable

from backupd.engines.postgres.wal_names import lsn_text, parse_lsn
from backupd.errors import ConfigInvalid
from backupd.model.position import Position

_WRITTEN = re.compile(r"(?:(?P<timeline>[1-9][0-9]*)\s*[:@]\s*)?(?P<lsn>[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})")


def parse_position(text: str, current: Callable[[], str]) -> Position:
    """The position that is meant.

    Args:
        text: an LSN, or a timeline, a colon and an LSN.
        current: asked for today's timeline when none is named.

    Raises:
        ConfigInvalid: it is neither.
    """
    written = _WRITTEN.fullmatch(text.strip())
    if written is None:
        raise ConfigInvalid(
            f"{text!r} is not a position",
            because="a position is an LSN like 0/3000028, or a timeline and an LSN like 2:0/3000028",
            next_step="backupctl list shows the positions of all backups",
        )
    return Position(written["timeline"] or current(), parse_lsn(written["lsn"]))


def position_text(position: Position) -> str:
    """The reverse: ``2:0/3000028``."""
    return f"{position.history}:{lsn_text(position.offset)}"
