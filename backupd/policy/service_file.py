"""The service config, backupd.toml: one table for each thing that the service on a node does."""

from __future__ import annotations

from pydantic import Field

from backupd.policy.sections import Section
from backupd.policy.web import WebOptions


class ServiceOptions(WebOptions):
    """The service on this node."""

    state_dir: str = Field(default="state", description="Where this node keeps its state; relative to this file.")
    policies_dir: str = Field(default="policies", description="Where the policy files are; relative to this file.")
    node: str | None = Field(default=None, description="This node's name; empty: the host's name.")


class ServiceFile(Section):
    """The service config, backupd.toml."""

    service: ServiceOptions = Field(default_factory=ServiceOptions)
