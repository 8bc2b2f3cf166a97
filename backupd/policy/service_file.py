"""The service config, backupd.toml: one table for each thing that the service on a node does."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from backupd.policy.alarms import AlarmOptions
from backupd.policy.policies_table import PolicyRepository
from backupd.policy.problems import ProblemsAt
from backupd.policy.sections import Section
from backupd.policy.units import Seconds
from backupd.policy.web import WebOptions


class ServiceOptions(WebOptions):
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
    log: Literal["human", "json"] = Field(
        default="human", description="How the service writes its log: key=value pairs, or one JSON object a line."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least level that it logs."
    )


class ServiceFile(Section):
    """The service config, backupd.toml."""

    service: ServiceOptions = Field(default_factory=ServiceOptions)
    policies: PolicyRepository | None = Field(
        default=None, description="The git repository that policies are fetched from; none: they lie in policies_dir."
    )

    @model_validator(mode="after")
    def _one_place_of_policies(self) -> ServiceFile:
        if self.policies is not None and "policies_dir" in self.service.model_fields_set:
            sentence = "policies come from the repository of [policies]; take this key or that table out"
            raise ProblemsAt([(("service", "policies_dir"), sentence)])
        return self

    alarms: AlarmOptions = Field(default_factory=AlarmOptions)
