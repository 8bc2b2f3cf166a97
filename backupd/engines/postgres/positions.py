"""Positions as database administrators write them: 0/3000028, or 2:0/3000028 for another timeline than today's."""

from __future__ import annotations

import re
from collections.abc import Callable

from backupd.engines.postgres.wal_names import lsn_text, parse_lsn
from backupd.errors import ConfigInvalid
from backupd.model.position import Position

_WRITTEN = re.compile(r"(?:(?P<timeline>[1-9][0-9]*)\s*[:@]\s*)?(?P<lsn>[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})")
# As records and JSON have them: a timeline, and the LSN as a decimal number.
_COUNTED = re.compile(r"(?P<timeline>[1-9][0-9]{0,9})/(?P<offset>[0-9]{8,20})")
_LSN_DIGITS_MAX = 8


def parse_position(text: str, current: Callable[[], str]) -> Position:
    """The position that is meant.

    Args:
        text: an LSN; a timeline, a colon and an LSN; or as JSON has it, a timeline and a number of more digits than
            an LSN has.
        current: asked for today's timeline when none is named.

    Raises:
        ConfigInvalid: it is none of these, or could be two.
    """
    counted = _COUNTED.fullmatch(text.strip())
    if counted is not None:
        place = Position(counted["timeline"], int(counted["offset"]))
        if len(counted["offset"]) > _LSN_DIGITS_MAX:
            return place
        raise ConfigInvalid(
            f"{text!r} can be read in two ways",
            because=f"it is an LSN, or as in JSON the byte {place.offset} of timeline {place.history}",
            next_step=f"say {current()}:{text.strip()} for the LSN, or {position_text(place)} for the other",
        )
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
