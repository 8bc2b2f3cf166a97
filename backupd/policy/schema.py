"""The shape of a policy file and of the service config, and the rules that hold between their fields."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from backupd.model.rules import Calendar, RetentionRules, ScheduleRules, SourceRule, SourceRules, parse_calendar
from backupd.policy.sections import (
    ArchiveOptions,
    BackupOptions,
    CheckOptions,
    CopyPlace,
    FreezeOptions,
    Name,
    PrepareOptions,
    RestoreOptions,
    RetentionOptions,
    ScheduleOptions,
    Section,
    SourceOptions,
    SqliteOptions,
    StampOptions,
    TruncationOptions,
)


class Policy(Section):
    """One database: its two copies, its archive, and the rules."""

    database: Name = Field(description="The database's name, of a-z, 0-9 and '-'.")
    engine: Literal["sqlite"] = Field(description="What kind of database it is; sqlite.")
    archive: str = Field(description="Where backups rest: file:///absolute/directory.")
    copies: dict[Name, CopyPlace] = Field(description="Exactly two copies, by name.")
    sqlite: SqliteOptions = Field(default_factory=SqliteOptions)
    schedule: ScheduleOptions = Field(default_factory=ScheduleOptions)
    source: SourceOptions = Field(default_factory=SourceOptions)
    freeze: FreezeOptions = Field(default_factory=FreezeOptions)
    prepare: PrepareOptions = Field(default_factory=PrepareOptions)
    stamp: StampOptions = Field(default_factory=StampOptions)
    backup: BackupOptions = Field(default_factory=BackupOptions)
    check: CheckOptions = Field(default_factory=CheckOptions)
    archive_options: ArchiveOptions = Field(default_factory=ArchiveOptions)
    retention: RetentionOptions = Field(default_factory=RetentionOptions)
    truncation: TruncationOptions = Field(default_factory=TruncationOptions)
    restore: RestoreOptions = Field(default_factory=RestoreOptions)

    @field_validator("engine", mode="before")
    @classmethod
    def _engine_is_built(cls, value: Any) -> Any:
        if value == "postgres":
            raise ValueError("the engine postgres is not built yet; sqlite is")
        return value

    @field_validator("archive")
    @classmethod
    def _archive_is_a_place(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme == "s3":
            raise ValueError("archives in S3 are not built yet; use file:///absolute/directory")
        if parts.scheme != "file" or parts.netloc or not parts.path.startswith("/"):
            raise ValueError(f"{value!r} is not an archive; write it like file:///backups")
        return value

    @field_validator("copies")
    @classmethod
    def _two_different_copies(cls, copies: dict[str, CopyPlace]) -> dict[str, CopyPlace]:
        if len(copies) != 2:
            raise ValueError(f"a database has exactly two copies; here are {len(copies)}")
        first, second = copies.values()
        if first.path == second.path:
            raise ValueError(f"both copies are the same file, {first.path}")
        return copies

    @field_validator("retention")
    @classmethod
    def _retention_wants_something(cls, retention: RetentionOptions) -> RetentionOptions:
        if not any(retention.model_dump().values()):
            raise ValueError("it keeps nothing, so prune would remove everything; set keep_days or keep_fulls_min")
        return retention

    @model_validator(mode="after")
    def _first_active_is_a_copy(self) -> Policy:
        first = self.sqlite.first_active
        if first is not None and first not in self.copies:
            raise ValueError(f"sqlite.first_active is {first!r}, but the copies are {' and '.join(self.copies)}")
        return self

    @property
    def archive_path(self) -> str:
        """The directory of the archive."""
        return urlsplit(self.archive).path

    def retention_rules(self) -> RetentionRules:
        """The retention as the deciding function wants it."""
        return RetentionRules(**self.retention.model_dump(), timezone=self.schedule.timezone)

    def schedule_rules(self) -> ScheduleRules:
        """The schedule as the deciding function wants it."""
        schedule = self.schedule

        def words(text: str | None) -> Calendar | None:
            return None if text is None else parse_calendar(text)

        return ScheduleRules(
            timezone=schedule.timezone,
            full=words(schedule.full),
            incremental=words(schedule.incremental),
            differential=words(schedule.differential),
            jitter_seconds_max=schedule.jitter_seconds_max,
        )

    def source_rules(self) -> SourceRules:
        """The source rule as the deciding function wants it."""
        source = self.source
        return SourceRules(
            SourceRule(source.rule), lag_logs_max=source.lag_logs_max, wait_seconds_max=source.wait_seconds_max
        )


class ServiceOptions(Section):
    """The service on this node."""

    state_dir: str = Field(default="state", description="Where this node keeps its state; relative to this file.")
    policies_dir: str = Field(default="policies", description="Where the policy files are; relative to this file.")
    node: str | None = Field(default=None, description="This node's name; empty: the host's name.")


class ServiceFile(Section):
    """The service config, backupd.toml."""

    service: ServiceOptions = Field(default_factory=ServiceOptions)


def policy_json_schema() -> dict[str, Any]:
    """The JSON Schema of a policy file, for editors and for check-jsonschema."""
    schema = Policy.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "backupd policy", **schema}
