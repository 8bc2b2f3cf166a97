"""How much of an archive one verify reads: the table of a policy, and the same words on the command line."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, PlainValidator, WithJsonSchema

from backupd.model.rules import VerifyRules
from backupd.policy.sections import Section
from backupd.policy.units import Seconds, read_size

_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def read_budget(value: str | int) -> tuple[int | None, float | None]:
    """Bytes from ``"10GiB"`` or a number, or a share from 0 to 1 from ``"10%"``; the other one is None.

    Raises:
        ValueError: the text is neither, or nothing could be read with it.
    """
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value.strip())):
        share = float(match[1]) / 100
        if not 0 < share <= 1:
            raise ValueError(f"{value!r} is not a share of an archive; write it like 10%, up to 100%")
        return None, share
    try:
        size_bytes = int(value) if isinstance(value, int) or value.strip().isdecimal() else int(read_size(value))
    except ValueError:
        raise ValueError(f"{value!r} is not a budget; write it like 10GiB or 10%") from None
    if size_bytes <= 0:
        raise ValueError(f"{value!r} is no budget: nothing could be read with it")
    return size_bytes, None


def read_rules(budget: str | int | None, seconds_max: float | None, reverify_days: int | None) -> VerifyRules:
    """The rules of one verify. Raises ValueError."""
    bytes_max, share_max = (None, None) if budget is None else read_budget(budget)
    return VerifyRules(bytes_max, share_max, seconds_max, reverify_days)


def _budget(value: Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("it is not a budget; write it like 10GiB or 10%")
    read_budget(value)
    return value


Budget = Annotated[
    str | int,
    PlainValidator(_budget),
    WithJsonSchema({"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string"}]}),
]


class VerifyOptions(Section):
    """How much of the archive one verify reads; with none of these it reads all, every time."""

    budget: Budget | None = Field(
        default=None,
        description="How much one verify reads: a size like 10GiB, or a share of what is stored like 10%;"
        " what was read longest ago comes first.",
    )
    budget_seconds_max: Seconds | None = Field(
        default=None, gt=0, le=30 * 86400, description="How long one verify goes on reading (duration)."
    )
    reverify_days: int | None = Field(
        default=None, ge=1, le=36500, description="What was read and sound in the last so many days is left out (days)."
    )
