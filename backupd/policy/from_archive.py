"""The least policy that makes a restore possible when only the archive is left: its address, and whose it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from backupd.errors import UsageProblem
from backupd.policy.s3 import split_s3
from backupd.policy.schema import Policy

_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def archive_url(place: str) -> str:
    """An archive as a policy writes it; a person may name a directory as it is.

    Raises:
        UsageProblem: it is no place of an archive.
    """
    scheme = place.partition("://")[0] if "://" in place else ""
    if scheme == "s3":
        try:
            split_s3(place)
        except ValueError as problem:
            raise UsageProblem(
                "--from names no archive", because=str(problem), next_step="write it like --from s3://bucket/prefix"
            ) from None
        return place
    path = unquote(urlsplit(place).path) if scheme == "file" else place
    if scheme not in ("", "file") or not path.strip() or "\0" in path:
        raise UsageProblem(
            "--from names no archive",
            because="an archive is a directory, or a place in a bucket",
            next_step="write it like --from /backups/orders or --from s3://bucket/prefix",
        )
    return f"file://{quote(os.path.abspath(path))}"


def made_up_policy(
    database: str,
    engine: str,
    place: str,
    copies: Mapping[str, Path],
    *,
    endpoint_url: str | None = None,
    bin_directory: Path | None = None,
) -> Policy:
    """The policy of one database, by its archive alone.

    Args:
        database: its name.
        engine: ``sqlite`` or ``postgres``.
        place: the archive; see ``archive_url``.
        copies: places where nothing is and nothing comes, two of them: files for sqlite, else directories.
        endpoint_url: of an S3 server that is not Amazon's; None: boto3's own variables.
        bin_directory: where PostgreSQL's programs are; None: they are looked for.

    Raises:
        UsageProblem: one of the words cannot be used.
    """
    from pydantic import ValidationError

    url = archive_url(place)
    content: dict[str, Any] = {"database": database, "engine": engine, "archive": url, "encryption": {"mode": "none"}}
    if engine == "sqlite":
        content["copies"] = {name: {"path": str(path)} for name, path in copies.items()}
    else:
        content["copies"] = {
            name: {"conninfo": f"host={path}", "data_directory": str(path)} for name, path in copies.items()
        }
        if bin_directory is not None:
            content["postgres"] = {"bin_directory": str(bin_directory.absolute())}
    if url.startswith("s3:"):
        # Servers that are not Amazon's rarely have a name for each bucket.
        own = bool(endpoint_url or any(os.environ.get(variable) for variable in _ENDPOINT_VARIABLES))
        content["s3"] = {"path_style": own, **({"endpoint_url": endpoint_url} if endpoint_url else {})}
    elif endpoint_url:
        raise UsageProblem(
            "--endpoint-url is for buckets", because=f"the archive is {place}", next_step="leave --endpoint-url out"
        )
    try:
        return Policy.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageProblem(
            f"{'.'.join(str(part) for part in first['loc']) or 'the archive'} cannot be used",
            because=str(first["msg"]).removeprefix("Value error, "),
            next_step="look at --from and --endpoint-url: backupctl restore --help",
        ) from None
