"""When restores are rehearsed, where, and what is asked of the restored state: the table [drill] of a policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainValidator, WithJsonSchema, model_validator

from backupd.policy.problems import ProblemsAt
from backupd.policy.sections import AbsolutePath, CalendarWords, Name, Section
from backupd.policy.units import Seconds


def _question(value: str) -> str:
    if not value.strip():
        raise ValueError("it is empty; write one statement that answers one value, like SELECT count(*) > 0 FROM users")
    return value


def _answer(value: Any) -> bool | int | float | str:
    if not isinstance(value, bool | int | float | str) or value != value:  # noqa: PLR0124 - nan equals nothing
        raise ValueError('it is no answer; write a number, true or false, or a text in quotes, like "paid"')
    return value


Answer = Annotated[
    bool | int | float | str,
    PlainValidator(_answer),
    WithJsonSchema({"type": ["boolean", "number", "string"]}),
]


class DrillCheck(Section):
    """A question to the restored state, and its answer."""

    name: Name = Field(description="What it is called in verdicts and alarms, of a-z, 0-9 and '-'.")
    sql: Annotated[str, AfterValidator(_question)] = Field(
        description="One statement that only reads and answers one row with one value."
    )
    expect: Answer = Field(
        description="That value: a number, a text, or true or false (SQLite's 1 and 0 are those, too)."
    )
    dbname: str | None = Field(
        default=None,
        min_length=1,
        description="postgres: the database that is asked; else that of postgres.stamp_database.",
    )


class DrillOptions(Section):
    """Restores for practice: the newest state is restored into a scratch directory, opened, asked, and thrown away."""

    schedule: CalendarWords = Field(
        default="sun 05:00",
        description="When a drill is due, in the words of [schedule] and in its timezone.",
    )
    directory: AbsolutePath | None = Field(
        default=None,
        description="Where scratch directories are made; else below the state directory. It needs room for the whole"
        " database, and its server's user must be let in there (postgres).",
    )
    check_seconds_max: Seconds = Field(
        default=60.0, gt=0, le=86400, description="How long each of the checks may take (duration)."
    )
    checks: list[DrillCheck] = Field(
        default_factory=list, description="Questions of your own to the restored state: tables [[drill.checks]]."
    )

    @model_validator(mode="after")
    def _names_are_told_apart(self) -> DrillOptions:
        seen: set[str] = set()
        twice: list[tuple[Sequence[str], str]] = []
        for number, check in enumerate(self.checks):
            if check.name in seen:
                twice.append((("checks", str(number), "name"), f"there are two checks {check.name!r}"))
            seen.add(check.name)
        if twice:
            raise ProblemsAt(twice)
        return self
