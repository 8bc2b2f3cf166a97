"""Where an archive in S3 is, and how its server is to be spoken to (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backupd.archive.names import is_object_name

LockMode = Literal["none", "governance", "compliance"]


@dataclass(frozen=True, slots=True)
class S3Place:
    """One bucket and prefix, and the policy's words about it; credentials come from boto3's own chain, never from here.

    ``endpoint_url`` and ``region``: None leaves them to boto3 and its variables.
    ``deadline_seconds``: how long one call may be tried again before it is an error.
    ``connections``: how many requests may run at once.
    ``single_writer``: whether a server that overwrites objects may be used, by one writer at a time.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    path_style: bool = False
    storage_class: str | None = None
    kms_key_id: str | None = None
    ca_bundle: str | None = None
    proxy: str | None = None
    deadline_seconds: float = 300.0
    connections: int = 8
    single_writer: bool = False
    object_lock: LockMode = "none"

    def url(self) -> str:
        """As a policy writes it."""
        return f"s3://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    def key(self, name: str) -> str:
        """The key of an object.

        Raises:
            ValueError: that is not an object's name.
        """
        if not is_object_name(name):
            raise ValueError(f"not an object's name: {name!r}")
        return self.below(name)

    def below(self, prefix: str) -> str:
        """What the keys of all names that begin with ``prefix`` begin with."""
        return f"{self.prefix}/{prefix}" if self.prefix else prefix

    def name(self, key: str) -> str:
        """The name of the object at a key below this place."""
        return key[len(self.below("")) :]
