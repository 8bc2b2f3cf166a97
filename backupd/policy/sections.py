"""The tables of a policy file: every field with its unit, its default and what it is for."""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from backupd.model.calendar import parse_calendar, parse_window
from backupd.policy.units import Bytes, Seconds
from backupd.policy.zones import Timezone

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def _name(value: str) -> str:
    if NAME.fullmatch(value) is None:
        raise ValueError(f"{value!r} is not a name; names are of a-z, 0-9 and '-', at most 63, no '-' at the ends")
    return value


def _calendar_words(value: str) -> str:
    parse_calendar(value)
    return value


def _window_words(value: str) -> str:
    parse_window(value)
    return value


def _absolute_path(value: str) -> str:
    if not value.startswith("/") or "\0" in value:
        raise ValueError(f"{value!r} is not an absolute path; write it from the root on, like /srv/orders/app.db")
    return posixpath.normpath(value)


Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": f"^{NAME.pattern}$"})]
CalendarWords = Annotated[str, AfterValidator(_calendar_words)]
WindowWords = Annotated[str, AfterValidator(_window_words)]
AbsolutePath = Annotated[str, AfterValidator(_absolute_path)]


class Section(BaseModel):
    """A table of the file: no unknown keys, no change after reading, no guessing of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SqliteOptions(Section):
    """The replication core of the SQLite engine."""

    first_active: str | None = Field(
        default=None,
        description="Which copy is the active when the pair is set up; roles are discovered afterwards.",
    )
    log_file_bytes_max: Bytes = Field(
        default=4 * 2**20, ge=64 * 2**10, le=2**30, description="A log file is closed when it is this big (size)."
    )
    log_file_seconds_max: Seconds = Field(
        default=2.0, gt=0, le=3600, description="A log file with changes is closed after this long (duration)."
    )
    seal_wal_bytes: Bytes = Field(
        default=8 * 2**20,
        ge=64 * 2**10,
        le=2**34,
        description="The active's WAL is sealed and checkpointed when it is this big (size).",
    )


class ScheduleOptions(Section):
    """When runs begin: 'sun 02:00', 'mon..sat 02:00', 'daily 02:00,14:00', 'every 4 h', or cron's '0 2 * * sun'.

    Several with ';' between them: 'sun 01:00; wed 13:00'. What was missed runs once at the next chance.
    """

    timezone: Timezone = Field(
        default="UTC", description="Whose wall clock the calendar words mean, like Europe/Berlin."
    )
    full: CalendarWords | None = Field(default=None, description="When a full is due; none without it.")
    express: CalendarWords | None = Field(
        default=None, description="When an express full is due, which stores only what changed; a full due then wins."
    )
    incremental: CalendarWords | None = Field(
        default=None, description="When an incremental is due; a full due then wins."
    )
    differential: CalendarWords | None = Field(
        default=None, description="When a differential is due; a full due then wins."
    )
    prune: CalendarWords | None = Field(
        default=None, description="When backups that the retention does not want are removed; never without it."
    )
    verify: CalendarWords | None = Field(
        default=None, description="When the archive is read and checked, by the budget of [verify]; never without it."
    )
    jitter_seconds_max: int = Field(
        default=0,
        ge=0,
        le=43200,
        description="Spread this database's start over so many seconds, always alike (seconds).",
    )
    blackout: list[WindowWords] = Field(
        default_factory=list,
        description="No run begins in these windows, like 'mon..fri 08:00-18:00'; what is due waits for the end.",
    )
    retry_seconds: Seconds = Field(
        default=600.0, gt=0, le=86400, description="A run that failed is tried again after this (duration)."
    )
    retries_max: int = Field(
        default=3, ge=0, le=100, description="How often it is tried again before an alarm says so (count)."
    )


class SourceOptions(Section):
    """Which copy a backup is taken from."""

    rule: Literal["passive-only", "prefer-passive"] = Field(
        default="passive-only",
        description="passive-only: the active is never read. prefer-passive (postgres): a full or copy is read from the"
        " active when the passive is away or unfit after wait_seconds_max; the active pays for that one, and a host"
        " that is cut off from a standby that was promoted would read the old active.",
    )
    lag_logs_max: int | None = Field(
        default=None,
        ge=0,
        description="sqlite: how many log files the passive may be behind (count); empty: any number.",
    )
    lag_bytes_max: Bytes = Field(
        default=2**30, ge=0, description="postgres: how much WAL the passive may still have to replay (size)."
    )
    lag_seconds_max: Seconds = Field(
        default=3600.0, ge=0, le=30 * 86400, description="postgres: how old the passive's state may be (duration)."
    )
    wait_seconds_max: Seconds = Field(
        default=300.0, ge=0, le=86400, description="How long a run waits for the passive to become fit (duration)."
    )


class FreezeOptions(Section):
    """How long replay may stand still for a snapshot."""

    seconds_max: Seconds = Field(
        default=20.0, gt=0, le=300, description="A freeze ends by itself after this (duration)."
    )
    paused_seconds_max: Seconds = Field(
        default=900.0,
        gt=0,
        le=86400,
        description='postgres with provider = "paused": how long replay may stand still (duration).',
    )
    attempts_max: int = Field(
        default=2,
        ge=1,
        le=10,
        description="How often a run tries, each time at once, when a freeze did not hold (count).",
    )


class PrepareOptions(Section):
    """What happens before a freeze."""

    timeout_seconds: Seconds = Field(
        default=120.0,
        gt=0,
        le=86400,
        description="How long the passive may take to replay what the active closed (duration).",
    )
    checkpoint: bool = Field(default=True, description="Whether the active is checkpointed before a full.")


class StampOptions(Section):
    """How the stamp of a backup travels."""

    timeout_seconds: Seconds = Field(
        default=30.0, gt=0, le=3600, description="How long a run waits to see its stamp on the passive (duration)."
    )


class BackupOptions(Section):
    """How a backup is taken."""

    raise_to_full: bool = Field(
        default=True, description="Whether an increment with nothing to build on becomes a full; if not, it is refused."
    )
    provider: Literal["auto", "btrfs", "reflink", "copy", "live", "paused", "exec"] = Field(
        default="auto",
        description="What takes the snapshot; auto: the best that the filesystem can do. "
        "sqlite: auto, btrfs, reflink, copy. postgres: auto, btrfs, reflink, live, paused, exec.",
    )


class CheckOptions(Section):
    """What is checked beyond the page map, which always is."""

    integrity: Literal["none", "quick", "full"] = Field(
        default="none", description="sqlite: the engine's own check of the snapshot (quick_check, integrity_check)."
    )


class ArchiveOptions(Section):
    """How bytes are stored."""

    # Measured on a cluster of 3.7 GB: level 3 took 1.7 times the processor time of level 1, for the same size.
    compression_level: int = Field(default=1, ge=1, le=19, description="The zstd level (1 fast to 19 small).")
    threads: int = Field(default=2, ge=1, le=64, description="How many threads compress (count).")


class RetentionOptions(Section):
    """How long backups stay; a backup stays when any of these wants it, and so does all that it builds on.

    ``keep_days`` is the window of points in time.  A full that only a weekly, monthly or yearly rule wants is kept
    bare: its increments go, and of the log only what its own pages need stays.
    """

    keep_days: int | None = Field(
        default=None,
        ge=1,
        le=36500,
        description="Every point in time of the last so many days stays restorable (days).",
    )
    keep_within: Seconds | None = Field(
        default=None,
        gt=0,
        le=36500 * 86400,
        description="Every backup whose last point is not older than this stays, with what it builds on (duration).",
    )
    keep_fulls_min: int = Field(
        default=0, ge=0, description="So many of the newest fulls stay with all that builds on them."
    )
    keep_daily: int = Field(
        default=0,
        ge=0,
        description="The newest backup of each of so many days stays, with what it builds on (count of days that have"
        " one).",
    )
    keep_weekly_fulls: int = Field(
        default=0, ge=0, description="The newest full of each of so many weeks stays, bare (count)."
    )
    keep_monthly_fulls: int = Field(
        default=0, ge=0, description="The newest full of each of so many months stays, bare (count)."
    )
    keep_yearly_fulls: int = Field(
        default=0, ge=0, description="The newest full of each of so many years stays, bare (count)."
    )


class RestoreOptions(Section):
    """What is run around a restore to the active."""

    stop_command: list[str] = Field(
        default_factory=list,
        description="A program and its arguments that make the application let go of the database "
        "(postgres: that stop the server; empty: pg_ctl).",
    )
    start_command: list[str] = Field(
        default_factory=list,
        description="A program and its arguments that start the application again (postgres: the server).",
    )
    check: Literal["quick", "full"] = Field(
        default="quick",
        description="postgres: what a restored cluster is looked at with before it is put in place; quick: "
        "it recovers and every database opens, full: pg_amcheck looks at every table and index too.",
    )
    command_seconds_max: Seconds = Field(
        default=60.0, gt=0, le=3600, description="How long each of the two may take (duration)."
    )
