"""The service config, backupd.toml: one table for each thing that the service on a node does."""

from __future__ import annotations

from pydantic import Field

from backupd.policy.alarms import AlarmOptions
from backupd.policy.sections import Section
from backupd.policy.units import Seconds


class ServiceOptions(Section):
    """The service on this node."""

    state_dir: str = Field(default="state", description="Where this node keeps its state; relative to this file.")
    policies_dir: str = Field(default="policies", description="Where the policy files are; relative to this file.")
    node: str | None = Field(default=None, description="This node's name; empty: the host's name.")
    schedule: bool = Field(
        default=True, description="Whether the service begins the runs that the policies' schedules ask for."
    )
    runs_max: int = Field(default=2, ge=1, le=256, description="How many runs go on at once on this node (count).")
    runs_per_archive_max: int = Field(
        default=2, ge=1, le=256, description="How many runs of this node go on at once to one archive (count)."
    )
    stop_seconds_max: Seconds = Field(
        default=60.0, gt=0, le=3600, description="How long runs may take to end when the service is stopped (duration)."
    )
    look_seconds: Seconds = Field(
        default=30.0, gt=0, le=3600, description="How often the service looks at each database (duration)."
    )


class ServiceFile(Section):
    """The service config, backupd.toml."""

    service: ServiceOptions = Field(default_factory=ServiceOptions)
    alarms: AlarmOptions = Field(default_factory=AlarmOptions)
