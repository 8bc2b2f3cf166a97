"""A position of PostgreSQL in a sentence, as PostgreSQL writes it."""

from __future__ import annotations

import re

# A timeline and an LSN as a number: so positions of PostgreSQL stand in records and in JSON. The first segment
# of a cluster begins at 16 MiB, and a history of SQLite has 16 digits, so nothing else in a sentence looks like this
# but an LSN of digits alone in a text that was shown already: it has " @ " before it.
_TIMELINE_AND_LSN = re.compile(r"(?<![\w/.:@-])(?<!@ )(\d{1,10})/(\d{8,20})(?![\w/])")


def with_lsns(text: str) -> str:
    """``ends at 1/50331648`` is ``ends at 1 @ 0/3000000``: a PostgreSQL position as PostgreSQL writes it."""
    if "/" not in text:
        return text
    return _TIMELINE_AND_LSN.sub(lambda found: f"{found[1]} @ {_lsn(int(found[2]))}", text)


def _lsn(offset: int) -> str:
    return f"{offset >> 32:X}/{offset & 0xFFFFFFFF:X}"
