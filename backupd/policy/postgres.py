"""The tables of a policy that only the engine postgres has, and which keys of shared tables are one engine's."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from backupd.policy.sections import AbsolutePath, Section
from backupd.policy.units import Seconds

_SLOT = re.compile(r"[a-z0-9_]{1,63}")


def _slot(value: str) -> str:
    if _SLOT.fullmatch(value) is None:
        raise ValueError(f"{value!r} is not the name of a slot; names are of a-z, 0-9 and '_', at most 63")
    return value


def _words(value: list[str]) -> list[str]:
    if not value:
        raise ValueError("it is empty; write a program and its arguments, as a list of texts")
    return value


SlotName = Annotated[str, AfterValidator(_slot), Field(json_schema_extra={"pattern": f"^{_SLOT.pattern}$"})]
CommandWords = Annotated[list[str], AfterValidator(_words), Field(json_schema_extra={"minItems": 1})]


class PostgresOptions(Section):
    """What the PostgreSQL engine is told; who is the primary is asked of the servers at every run."""

    stamp_database: str = Field(
        default="postgres", min_length=1, max_length=63, description="In which database the schema 'backupd' is made."
    )
    slot: SlotName = Field(
        default="backupd", description="The physical slot that holds WAL for backups; each copy has one of this name."
    )
    bin_directory: AbsolutePath | None = Field(
        default=None, description="Where pg_ctl and its siblings are; empty: found by the server's version."
    )
    allow_remote_apply: bool = Field(
        default=False,
        description="Whether replay may pause where synchronous_commit = remote_apply waits for this very standby.",
    )
    seed: Literal["archive", "basebackup"] = Field(
        default="archive",
        description="How a standby is made anew: from the archive and streaming, or by pg_basebackup.",
    )
    server_seconds_max: Seconds = Field(
        default=120.0, gt=0, le=86400, description="How long a server may take to start or to stop (duration)."
    )


class SnapshotCommand(Section):
    """The administrator's own snapshot, for provider = "exec": JSON in, JSON out (contrib/snapshots has examples)."""

    take: CommandWords = Field(description="A program and its arguments that make the snapshot.")
    release: CommandWords = Field(description="A program and its arguments that remove it again.")
    seconds_max: Seconds = Field(
        default=15.0,
        gt=0,
        le=300,
        description="How long each of the two may take; keep it below freeze.seconds_max (duration).",
    )
    atomic: bool = Field(default=False, description="Whether the snapshot is of one instant, as ZFS's and LVM's are.")


# Keys of shared tables that only one engine has, with what the other one has instead.
ONLY_OF: dict[str, dict[str, tuple[str, str]]] = {
    "source": {
        "lag_bytes_max": ("postgres", "sqlite has lag_logs_max"),
        "lag_seconds_max": ("postgres", "sqlite has lag_logs_max"),
        "lag_logs_max": ("sqlite", "postgres has lag_bytes_max and lag_seconds_max"),
    },
    "restore": {"check": ("postgres", "sqlite checks the whole restored file in any case")},
    "freeze": {"paused_seconds_max": ("postgres", 'sqlite has no provider = "paused"')},
}

PROVIDERS = {
    "sqlite": ("auto", "btrfs", "reflink", "copy"),
    "postgres": ("auto", "btrfs", "reflink", "live", "paused", "exec"),
}
