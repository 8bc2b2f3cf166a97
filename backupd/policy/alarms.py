"""The table [alarms] of backupd.toml: who is told what is wrong, when, and which dead man's switch is pinged."""

from __future__ import annotations

from datetime import time
from typing import Annotated

from pydantic import AfterValidator, Field

from backupd.policy.secret import Secret
from backupd.policy.sections import Section
from backupd.policy.units import Seconds
from backupd.policy.zones import Timezone


def parse_quiet_hours(words: str) -> tuple[time, time]:
    """``22:00-07:00`` as two times of day. Raises ValueError: it is not that."""
    begin, dash, end = words.partition("-")
    try:
        hours = time.fromisoformat(begin.strip()), time.fromisoformat(end.strip())
    except ValueError:
        hours = None
    if not dash or hours is None or hours[0] == hours[1] or any(one.tzinfo for one in hours):
        raise ValueError(f"{words!r} are no quiet hours; write them like 22:00-07:00")
    return hours


def _quiet(words: str) -> str:
    parse_quiet_hours(words)
    return words


class PingOptions(Section):
    """The dead man's switch: a service elsewhere that alarms when it hears nothing (healthchecks and the like)."""

    url: Secret | None = Field(
        default=None, description="Where the URL lies that hears the heartbeat of this service; none without it."
    )
    every_seconds: Seconds = Field(
        default=300.0,
        ge=1,
        le=86400,
        description="How often it is pinged while no critical alarm stands (duration).",
    )
    databases: dict[str, Secret] = Field(
        default_factory=dict,
        description="For a database, where the URL lies that hears each of its backups: /start, the URL itself, /fail.",
    )
    timeout_seconds: Seconds = Field(default=10.0, gt=0, le=300, description="How long one ping may take (duration).")


class AlarmOptions(Section):
    """Who is told what is wrong, and when."""

    targets: list[Secret] = Field(
        default_factory=list,
        description="Where the URLs lie to which alarms are sent, in Apprise's forms: mailtos://, slack://, jsons://.",
    )
    after_seconds: Seconds = Field(
        default=60.0, ge=0, le=86400, description="A warning is told when it has lasted so long (duration)."
    )
    critical_after_seconds: Seconds = Field(
        default=0.0, ge=0, le=86400, description="What is critical is told when it has lasted so long (duration)."
    )
    remind: Seconds = Field(
        default=86400.0, ge=0, le=31 * 86400, description="What lasts is told again after this; 0: never (duration)."
    )
    quiet: Annotated[str, AfterValidator(_quiet)] | None = Field(
        default=None, description="When warnings wait, like 22:00-07:00; what is critical never waits."
    )
    timezone: Timezone = Field(default="UTC", description="Whose wall clock the quiet hours mean, like Europe/Berlin.")
    ping: PingOptions = Field(default_factory=PingOptions, description="The dead man's switch.")
