"""Time zones by their names, as this system knows them; a wrong one is told the nearest right one."""

from __future__ import annotations

import difflib
from typing import Annotated
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator


def _timezone(value: str) -> str:
    try:
        if value != "UTC":
            ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        meant = _zone_meant(value)
        raise ValueError(f"{value!r} is not a time zone that this system knows; {meant}") from None
    return value


def _zone_meant(value: str) -> str:
    """The nearest right name; by its last part too, for that is what people remember."""
    known = {zone.lower(): zone for zone in sorted(available_timezones())}
    cities = {zone.rpartition("/")[2].lower(): zone for zone in sorted(known.values()) if "/" in zone}
    for names in (known, cities):
        if near := difflib.get_close_matches(value.lower().replace(" ", "_"), names, n=1, cutoff=0.75):
            return f"did you mean {names[near[0]]}?"
    return "write it like Europe/Berlin"


Timezone = Annotated[str, AfterValidator(_timezone)]
