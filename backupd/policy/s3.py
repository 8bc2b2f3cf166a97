"""The table [s3] of a policy, and the address of an archive in a bucket; never with a secret."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from backupd.policy.problems import ProblemsAt
from backupd.policy.sections import AbsolutePath, Section
from backupd.policy.units import Seconds

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")
_NO_KEYS = (
    "it holds a secret, and a policy is kept in git; boto3 finds credentials by itself: "
    "~/.aws/credentials, AWS_PROFILE, AWS_ACCESS_KEY_ID, or the role of the host"
)


def split_s3(url: str) -> tuple[str, str]:
    """Bucket and prefix (which may be empty) of ``s3://bucket/prefix``.

    Raises:
        ValueError: it is no such address, with a sentence; one that holds a secret is not repeated.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError(_NO_KEYS)
    prefix = parts.path.strip("/")
    good = not parts.query and not parts.fragment and _BUCKET.fullmatch(parts.netloc) is not None
    dots = any(not part.strip(".") for part in prefix.split("/"))
    if not good or (prefix and (dots or _PREFIX.fullmatch(prefix) is None)):
        raise ValueError(
            f"{url!r} is not a place in a bucket; write it like s3://bucket/prefix, of a-z, 0-9, '.', '-' and '_'"
        )
    return parts.netloc, prefix


def _endpoint(value: str) -> str:
    return _web_address(value, "https://s3.example.org:9000", _NO_KEYS)


def _proxy(value: str) -> str:
    not_in_git = (
        "it holds a secret, and a policy is kept in git; set HTTPS_PROXY for the user that runs backupd instead"
    )
    return _web_address(value, "http://proxy.example.org:3128", not_in_git)


def _web_address(value: str, like: str, refusal: str) -> str:
    if "@" in value.partition("://")[2].partition("/")[0]:
        raise ValueError(refusal)
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{value!r} is not an address; write it like {like}") from None
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise ValueError(f"{value!r} is not an address; write it like {like}")
    return value


class S3Options(Section):
    """How a bucket is spoken to; credentials are found by boto3's own chain and are never written here."""

    endpoint_url: Annotated[str, AfterValidator(_endpoint)] | None = Field(
        default=None, description="The server, where it is not Amazon's; empty: AWS_ENDPOINT_URL, or Amazon's."
    )
    region: str | None = Field(default=None, min_length=1, description="Empty: AWS_REGION, or the profile's.")
    path_style: bool = Field(
        default=False, description="Whether the bucket is named in the path and not in the host's name."
    )
    storage_class: str | None = Field(
        default=None, min_length=1, description="Empty: the bucket's own. It must be readable at once."
    )
    kms_key_id: str | None = Field(default=None, min_length=1, description="The key of the server's own encryption.")
    ca_bundle: AbsolutePath | None = Field(default=None, description="A file with the CA of the server's certificate.")
    proxy: Annotated[str, AfterValidator(_proxy)] | None = Field(
        default=None, description="An HTTP proxy on the way; empty: HTTPS_PROXY and NO_PROXY."
    )
    deadline_seconds: Seconds = Field(
        default=300.0, ge=1, le=86400, description="How long one request is tried again before it fails (duration)."
    )
    connections: int = Field(default=8, ge=1, le=64, description="How many requests run at once (count).")
    single_writer: bool = Field(
        default=False,
        description="Whether a server that overwrites objects may be used. Then two hosts that write at once can "
        "destroy a backup; only one may write to this archive.",
    )
    object_lock: Literal["none", "governance", "compliance"] = Field(
        default="none",
        description="Whether what a backup stores is locked when it is written; compliance: for everybody, "
        "for ever until the day comes. The bucket must have Object Lock.",
    )
    object_lock_days: int | None = Field(
        default=None,
        ge=1,
        le=36500,
        description="How long, from the day it is written: the length of a chain and keep_days together (days).",
    )

    @model_validator(mode="after")
    def _lock_and_days(self) -> S3Options:
        if self.object_lock != "none" and self.object_lock_days is None:
            raise ProblemsAt([(("object_lock_days",), f"it is missing; object_lock is {self.object_lock!r}")])
        if self.object_lock == "none" and self.object_lock_days is not None:
            raise ProblemsAt([(("object_lock_days",), "it does nothing: object_lock is 'none'")])
        return self
