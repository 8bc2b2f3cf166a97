"""The table [policies] of backupd.toml: the git repository whose policies this node follows."""

from __future__ import annotations

import posixpath
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from backupd.policy.sections import Section
from backupd.policy.units import Seconds

GPG = "gpg:"
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")
_SHORT_SSH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[^:\s][^\s]*")
_LIKE = "write it like https://git.example.org/ops/policies.git, git@git.example.org:ops/x.git or file:///srv/git/x"


def _repository(value: str) -> str:
    if _SHORT_SSH.fullmatch(value) is not None or (value.startswith("/") and "\0" not in value):
        return value
    try:
        parts = urlsplit(value)
        host, secret = parts.hostname, parts.password is not None or (parts.scheme == "https" and "@" in parts.netloc)
    except ValueError:
        raise ValueError(f"it is not the address of a repository; {_LIKE}") from None
    if secret:
        raise ValueError(
            "it holds a secret; use an ssh key that may only read, or a credential helper of git for the user "
            "that runs backupd"
        )
    if parts.scheme in ("http", "git"):
        raise ValueError(f"nobody vouches for what comes over {parts.scheme}://; use https:// or ssh")
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return value
    # A host that begins with a dash would be an option of ssh.
    if parts.scheme not in ("https", "ssh") or not host or host.startswith("-") or re.search(r"\s", value):
        raise ValueError(f"it is not the address of a repository; {_LIKE}")
    return value


def _ref(value: str) -> str:
    if _REF.fullmatch(value) is None or ".." in value or value.endswith((".lock", "/", ".")):
        raise ValueError(f"{value!r} is not a branch or tag; write it like main or refs/heads/main")
    return value


def _inside(value: str) -> str:
    normal = posixpath.normpath(value)
    if not value or value.startswith("/") or normal.split("/")[0] == ".." or "\0" in value:
        raise ValueError(f"{value!r} is not a folder of the repository; write it like policies, or . for all of it")
    return normal


def _signers(value: str) -> str:
    path = value.removeprefix(GPG)
    if not path.startswith("/") or "\0" in path:
        raise ValueError(
            f"{value!r} is not an absolute path; write it like /etc/backupd/allowed_signers (ssh keys, as "
            "ssh-keygen(1) has it) or gpg:/etc/backupd/gnupg (a GnuPG home whose every key may sign)"
        )
    return value


class PolicyRepository(Section):
    """A repository and ref that this node fetches its policies from; it replaces service.policies_dir."""

    repository: Annotated[str, AfterValidator(_repository)] = Field(
        description="Its address: https://, ssh:// or user@host:path, file:// or an absolute path; never with a secret."
    )
    ref: Annotated[str, AfterValidator(_ref)] = Field(
        default="main", description="The branch or tag that is followed, like main."
    )
    path: Annotated[str, AfterValidator(_inside)] = Field(
        default="policies", description="The folder of the policies in the repository; . for all of it."
    )
    every: Seconds = Field(
        default=300.0, ge=10, le=30 * 86400, description="How often it is asked for news (duration)."
    )
    signed_by: Annotated[str, AfterValidator(_signers)] | None = Field(
        default=None,
        description="Whose signature each commit must have: a file of allowed signers (ssh), or gpg:DIR, a GnuPG home"
        " whose every key may sign; empty: no signature is asked for.",
    )
