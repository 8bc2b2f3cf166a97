"""How lines are written, and how a process hands that on to those that it starts: by the environment."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from enum import StrEnum

FORM_VARIABLE, LEVEL_VARIABLE = "BACKUPD_LOG", "BACKUPD_LOG_LEVEL"
LEVELS = ("debug", "info", "warning", "error")


class LineForm(StrEnum):
    """For whom a line is written."""

    HUMAN = "human"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class LineSettings:
    """The form of lines, and the least level that backupd's own loggers write."""

    form: LineForm = LineForm.HUMAN
    level: str = "info"


def from_environment(environ: Mapping[str, str]) -> LineSettings:
    """What the process that started this one has handed on; the defaults where it said nothing that is known."""
    form, level = environ.get(FORM_VARIABLE, ""), environ.get(LEVEL_VARIABLE, "")
    return LineSettings(
        LineForm(form) if form in set(LineForm) else LineForm.HUMAN, level if level in LEVELS else "info"
    )


def hand_on(settings: LineSettings, environ: MutableMapping[str, str]) -> None:
    """Let processes that are started with ``environ`` write as this one does."""
    environ[FORM_VARIABLE], environ[LEVEL_VARIABLE] = str(settings.form), settings.level
