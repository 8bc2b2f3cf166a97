"""The shape of a policy file and of the service config, and the rules that hold between their fields."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from backupd.model.calendar import parse_calendar, parse_window
from backupd.model.rules import RetentionRules, ScheduleRules, SourceRule, SourceRules, Task, VerifyRules
from backupd.policy.drill import DrillOptions
from backupd.policy.encryption import EncryptionOptions
from backupd.policy.places import CopyPlace, check_copies
from backupd.policy.postgres import ONLY_OF, PROVIDERS, PostgresOptions, SnapshotCommand
from backupd.policy.problems import ProblemsAt
from backupd.policy.s3 import S3Options, split_s3
from backupd.policy.second_archive import SecondArchive, places_problem
from backupd.policy.sections import (
    ArchiveOptions,
    BackupOptions,
    CheckOptions,
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
)
from backupd.policy.truncation import TruncationOptions
from backupd.policy.verify import VerifyOptions, read_rules

_SOURCE_RULES = {"sqlite": ("passive-only",), "postgres": ("passive-only", "prefer-passive")}

# What the engine decides about other keys, for an editor that knows the JSON Schema; the validators say it in words.
_BY_ENGINE: dict[str, Any] = {
    "allOf": [
        {
            "if": {"properties": {"engine": {"const": engine}}, "required": ["engine"]},
            "then": {
                "properties": {
                    "copies": {"additionalProperties": {"required": list(needed), "properties": not_its_own}},
                    other: False,
                    "backup": {"properties": {"provider": {"enum": list(PROVIDERS[engine])}}},
                    "source": {"properties": {"rule": {"enum": list(_SOURCE_RULES[engine])}}},
                }
            },
        }
        for engine, needed, other, not_its_own in (
            ("sqlite", ("path",), "postgres", {"conninfo": False, "data_directory": False}),
            ("postgres", ("conninfo", "data_directory"), "sqlite", {"path": False}),
        )
    ]
}


class Policy(Section):
    """One database: its two copies, its archive, and the rules."""

    model_config = ConfigDict(json_schema_extra=_BY_ENGINE)

    database: Name = Field(description="The database's name, of a-z, 0-9 and '-'.")
    engine: Literal["sqlite", "postgres"] = Field(description="What kind of database it is; sqlite or postgres.")
    archive: str = Field(description="Where backups rest: file:///absolute/directory or s3://bucket/prefix.")
    copies: dict[Name, CopyPlace] = Field(description="Exactly two copies, by name: tables like [copies.a].")
    include: list[str] = Field(
        default_factory=list,
        description="Files of defaults, relative to this one and outside the policies' own folder, like"
        " ../defaults/common.toml; what this file says wins, then the last of the list.",
    )
    s3: S3Options = Field(default_factory=S3Options)
    sqlite: SqliteOptions = Field(default_factory=SqliteOptions)
    postgres: PostgresOptions = Field(default_factory=PostgresOptions)
    schedule: ScheduleOptions = Field(default_factory=ScheduleOptions)
    source: SourceOptions = Field(default_factory=SourceOptions)
    freeze: FreezeOptions = Field(default_factory=FreezeOptions)
    prepare: PrepareOptions = Field(default_factory=PrepareOptions)
    stamp: StampOptions = Field(default_factory=StampOptions)
    backup: BackupOptions = Field(default_factory=BackupOptions)
    snapshot_command: SnapshotCommand | None = Field(
        default=None, description='The administrator\'s own snapshot, for provider = "exec" (postgres).'
    )
    check: CheckOptions = Field(default_factory=CheckOptions)
    archive_options: ArchiveOptions = Field(default_factory=ArchiveOptions)
    encryption: EncryptionOptions | None = Field(
        default=None, description="To whom backups are encrypted; an archive in S3 must say, if only mode = 'none'."
    )
    retention: RetentionOptions = Field(default_factory=RetentionOptions)
    second_archive: SecondArchive | None = Field(
        default=None, description="A second place that every backup is copied to; none without this table."
    )
    truncation: TruncationOptions = Field(default_factory=TruncationOptions)
    restore: RestoreOptions = Field(default_factory=RestoreOptions)
    verify: VerifyOptions = Field(default_factory=VerifyOptions)
    drill: DrillOptions | None = Field(
        default=None, description="Restores for practice, weekly where nothing else is said; none without this table."
    )

    @field_validator("archive")
    @classmethod
    def _archive_is_a_place(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme == "s3":
            split_s3(value)
            return value
        if "@" in value.partition("://")[2]:
            raise ValueError("it may hold a secret; an archive is written like file:///backups or s3://bucket/prefix")
        if parts.scheme != "file" or parts.netloc or not parts.path.startswith("/"):
            raise ValueError(f"{value!r} is not an archive; write it like file:///backups or s3://bucket/prefix")
        return value

    @field_validator("second_archive")
    @classmethod
    def _second_archive_is_another_place(
        cls, second: SecondArchive | None, info: ValidationInfo
    ) -> SecondArchive | None:
        if second is None:
            return None
        try:
            cls._archive_is_a_place(second.url)
        except ValueError as problem:
            raise ProblemsAt([(("url",), str(problem))]) from problem
        same = places_problem(info.data["archive"], second.url) if "archive" in info.data else ""
        if same:
            raise ProblemsAt([(("url",), same)])
        return second

    @model_validator(mode="after")
    def _s3_is_of_a_bucket(self) -> Policy:
        if "s3" in self.model_fields_set and not any(place.startswith("s3:") for place in self.archives()):
            raise ProblemsAt([(("s3",), "this table is of archives in S3, and this database's archive is a directory")])
        return self

    def archives(self) -> tuple[str, ...]:
        """The places of its archive and, if there is one, of its second."""
        return (self.archive,) if self.second_archive is None else (self.archive, self.second_archive.url)

    @field_validator("copies")
    @classmethod
    def _two_different_copies(cls, copies: dict[str, CopyPlace], info: ValidationInfo) -> dict[str, CopyPlace]:
        if "engine" in info.data:
            check_copies(info.data["engine"], copies)
        return copies

    @field_validator("sqlite", "postgres")
    @classmethod
    def _table_of_this_engine(cls, table: Section, info: ValidationInfo) -> Section:
        engine = info.data.get("engine", info.field_name)
        if engine != info.field_name:
            raise ValueError(f"this table is of the engine {info.field_name}; this database's engine is {engine}")
        return table

    @field_validator("source", "freeze", "restore")
    @classmethod
    def _keys_of_this_engine(cls, table: Section, info: ValidationInfo) -> Section:
        engine = info.data.get("engine")
        wrong = [
            ((key,), f"only the engine {owner} has it; {instead}")
            for key, (owner, instead) in ONLY_OF[info.field_name or ""].items()
            if engine is not None and key in table.model_fields_set and owner != engine
        ]
        if wrong:
            raise ProblemsAt(wrong)
        return table

    @field_validator("backup")
    @classmethod
    def _provider_of_this_engine(cls, backup: BackupOptions, info: ValidationInfo) -> BackupOptions:
        engine = info.data.get("engine")
        if engine is not None and backup.provider not in PROVIDERS[engine]:
            can = ", ".join(PROVIDERS[engine])
            raise ProblemsAt([(("provider",), f"the engine {engine} has no {backup.provider!r}; it has {can}")])
        return backup

    @field_validator("source")
    @classmethod
    def _source_of_this_engine(cls, source: SourceOptions, info: ValidationInfo) -> SourceOptions:
        engine = info.data.get("engine")
        if engine is not None and source.rule not in _SOURCE_RULES[engine]:
            raise ProblemsAt([(("rule",), f"the engine {engine} has no {source.rule!r}: it never reads the active")])
        return source

    @field_validator("check")
    @classmethod
    def _check_of_this_engine(cls, check: CheckOptions, info: ValidationInfo) -> CheckOptions:
        if info.data.get("engine") == "postgres" and check.integrity != "none":
            sentence = (
                "only the engine sqlite has it; postgres checks every page of a backup in any case, "
                "and restore.check says how a restored cluster is looked at"
            )
            raise ProblemsAt([(("integrity",), sentence)])
        return check

    @field_validator("drill")
    @classmethod
    def _drill_of_this_engine(cls, drill: DrillOptions | None, info: ValidationInfo) -> DrillOptions | None:
        wrong = [
            (("checks", str(number), "dbname"), "only the engine postgres has it; an SQLite file is one database")
            for number, check in enumerate(drill.checks if drill else ())
            if check.dbname is not None and info.data.get("engine") == "sqlite"
        ]
        if wrong:
            raise ProblemsAt(wrong)
        return drill

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
            sentence = f"there is no copy {first!r}; the copies are {' and '.join(self.copies)}"
            raise ProblemsAt([(("sqlite", "first_active"), sentence)])
        return self

    @model_validator(mode="after")
    def _command_and_provider(self) -> Policy:
        if (self.backup.provider == "exec") != (self.snapshot_command is not None):
            if self.snapshot_command is None:
                raise ProblemsAt([(("backup", "provider"), "it is 'exec', and there is no table [snapshot_command]")])
            sentence = f"it is never run: backup.provider is {self.backup.provider!r}, not 'exec'"
            raise ProblemsAt([(("snapshot_command",), sentence)])
        return self

    @model_validator(mode="after")
    def _a_bucket_says_who_may_read(self) -> Policy:
        if self.encryption is None and any(place.startswith("s3:") for place in self.archives()):
            place = ("archive",) if self.archive.startswith("s3:") else ("second_archive", "url")
            sentence = (
                "an archive in S3 must say how it is encrypted: add a table [encryption] with mode = 'age' and "
                "recipients, 'passphrase', or plainly 'none'"
            )
            raise ProblemsAt([(place, sentence)])
        return self

    @property
    def archive_path(self) -> str:
        """The directory of the archive."""
        return urlsplit(self.archive).path

    def retention_rules(self) -> RetentionRules:
        """The retention as the deciding function wants it."""
        wanted = self.retention.model_dump()
        seconds = wanted.pop("keep_within")
        within = None if seconds is None else timedelta(seconds=seconds)
        return RetentionRules(**wanted, keep_within=within, timezone=self.schedule.timezone)

    def schedule_rules(self) -> ScheduleRules:
        """The schedule as the deciding function wants it."""
        schedule = self.schedule
        words = {
            Task.FULL: schedule.full,
            Task.EXPRESS: schedule.express,
            Task.DIFFERENTIAL: schedule.differential,
            Task.INCREMENTAL: schedule.incremental,
            Task.PRUNE: schedule.prune,
            Task.VERIFY: schedule.verify,
            Task.DRILL: None if self.drill is None else self.drill.schedule,
        }
        return ScheduleRules(
            timezone=schedule.timezone,
            calendars={task: parse_calendar(text) for task, text in words.items() if text is not None},
            jitter_seconds_max=schedule.jitter_seconds_max,
            blackout=tuple(map(parse_window, schedule.blackout)),
            retry_seconds=schedule.retry_seconds,
            retries_max=schedule.retries_max,
        )

    def verify_rules(self) -> VerifyRules:
        """How much a verify reads, as the deciding function wants it."""
        verify = self.verify
        return read_rules(verify.budget, verify.budget_seconds_max, verify.reverify_days)

    def source_rules(self) -> SourceRules:
        """The source rule as the deciding function wants it."""
        source = self.source
        return SourceRules(
            SourceRule(source.rule), lag_logs_max=source.lag_logs_max, wait_seconds_max=source.wait_seconds_max
        )


def policy_json_schema() -> dict[str, Any]:
    """The JSON Schema of a policy file, for editors and for check-jsonschema."""
    schema = Policy.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "backupd policy", **schema}
