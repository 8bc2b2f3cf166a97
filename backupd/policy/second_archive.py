"""The second archive of a policy: where every backup is copied to, and what keeps the two places two."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from backupd.policy.problems import ProblemsAt
from backupd.policy.s3 import S3Options
from backupd.policy.sections import RetentionOptions, Section

if TYPE_CHECKING:
    from backupd.policy.load import LoadedPolicy
    from backupd.policy.schema import Policy


class SecondArchive(Section):
    """A second place (another site, another bucket) that every backup is copied to and verified at."""

    url: str = Field(description="Where it is: written like archive; no place of the first archive, nor inside it.")
    archives_min: int = Field(
        default=1,
        ge=1,
        le=2,
        description="How many archives must hold a backup before its log leaves the copies: 1 is the first archive,"
        " 2 is both.",
    )
    s3: S3Options | None = Field(
        default=None, description="How its bucket is spoken to; without it like the first archive's, by [s3]."
    )
    retention: RetentionOptions | None = Field(
        default=None, description="How long backups stay there; without it as long as the first archive's retention."
    )

    @model_validator(mode="after")
    def _s3_is_of_a_bucket(self) -> SecondArchive:
        if self.s3 is not None and not self.url.startswith("s3:"):
            raise ProblemsAt([(("s3",), "this table is of archives in S3, and the second archive is a directory")])
        return self

    @field_validator("retention")
    @classmethod
    def _retention_wants_something(cls, retention: RetentionOptions | None) -> RetentionOptions | None:
        if retention is not None and not any(retention.model_dump().values()):
            raise ValueError("it keeps nothing, so prune would remove everything; set keep_days or keep_fulls_min")
        return retention


def for_second_archive(policy: Policy) -> Policy | None:
    """The policy as it reads for its second archive: that place and its retention; None when it names none."""
    second = policy.second_archive
    if second is None:
        return None
    own = {"archive": second.url, "retention": second.retention or policy.retention, "s3": second.s3 or policy.s3}
    return policy.model_copy(update=own)


def places_problem(first: str, second: str) -> str:
    """Why two urls are no two places; empty when they are."""
    one, other = _place(first), _place(second)
    if one[:2] != other[:2]:
        return ""
    if one == other:
        return f"it is the same place as the policy's archive, {first}"
    for inner, outer in ((one[2], other[2]), (other[2], one[2])):
        if posixpath.commonpath([inner, outer]) == outer:
            return f"one of {first} and {second} lies inside the other; a second archive is a place of its own"
    return ""


def same_on_disk(policy: Policy) -> str:
    """Two names of one directory (a link) would make one copy look like two; empty when they are two."""
    second = policy.second_archive
    if second is None:
        return ""
    one, other = _place(policy.archive), _place(second.url)
    if one[0] != "file" or other[0] != "file":
        return ""
    same = os.path.realpath(one[2]) == os.path.realpath(other[2])
    return f"{policy.archive} and {second.url} are one directory under two names" if same else ""


def shared_with_others(policy: Policy, others: Mapping[str, LoadedPolicy]) -> str:
    """Which place of this policy another policy uses so that it cannot be a replica of both; empty when none is.

    A replica has the uuid of its one first archive, and an archive of its own has its own.
    """
    first, second = _places_of(policy)
    for name, loaded in others.items():
        its_first, its_second = _places_of(loaded.policy)
        if second is not None and second == its_first:
            return f"{second[2]} is the archive of {name}; it cannot be a second archive of {first[2]} too"
        if its_second is not None and its_second == first:
            return f"{first[2]} is the second archive of {name}; it cannot be an archive of its own too"
        if second is not None and second == its_second and first != its_first:
            return f"{second[2]} is the second archive of {name} already, whose first archive is another one"
    return ""


def _places_of(policy: Policy) -> tuple[tuple[str, str, str], tuple[str, str, str] | None]:
    second = policy.second_archive
    return _place(policy.archive), _place(second.url) if second is not None else None


def _place(url: str) -> tuple[str, str, str]:
    """Scheme, host or bucket, and path, so that one place written in two ways is equal."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc, posixpath.normpath("/" + unquote(parts.path).lstrip("/"))
