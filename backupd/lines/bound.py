"""Facts that every line of this process carries: the run that it does, the database that it works on."""

from __future__ import annotations

_bound: dict[str, str] = {}


def bind(**facts: str) -> None:
    """From now on each line of this process carries these; in every thread, for a run has several."""
    global _bound
    _bound = _bound | facts  # a new one: another thread may be reading the old one


def unbind(*names: str) -> None:
    """Carry these no longer."""
    global _bound
    _bound = {name: value for name, value in _bound.items() if name not in names}


def bound() -> dict[str, str]:
    """What is carried now."""
    return dict(_bound)
