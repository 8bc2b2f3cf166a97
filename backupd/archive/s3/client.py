"""A boto3 client as this store needs it: no second checksums, short timeouts, credentials by boto3's own chain."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from backupd.archive.s3.place import S3Place
from backupd.errors import ArchiveUnreachable

_CONNECT_SECONDS_MAX = 5.0
_READ_SECONDS_MAX = 60.0


def connect(place: S3Place) -> Any:
    """A client; no request is made yet.

    Raises:
        ArchiveUnreachable: boto3 cannot make one of these words (a profile that is not there, a wrong address).
    """
    # Two attempts of botocore's, and each may wait to connect and wait to read: together less than the deadline.
    quarter = place.deadline_seconds / 4
    try:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=place.endpoint_url,
            region_name=place.region,
            verify=place.ca_bundle,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 2},
                # The store sends sums of its own.  boto3's are trailers, which some servers write into the body.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                max_pool_connections=place.connections + 4,
                tcp_keepalive=True,
                connect_timeout=min(_CONNECT_SECONDS_MAX, quarter),
                read_timeout=min(_READ_SECONDS_MAX, quarter),
                s3={"addressing_style": "path" if place.path_style else "auto"},
                proxies={"http": place.proxy, "https": place.proxy} if place.proxy else None,
                user_agent_extra="backupd",
            ),
        )
    except (BotoCoreError, ValueError, OSError) as problem:
        raise ArchiveUnreachable(
            f"the archive {place.url()} cannot be opened",
            because=" ".join(str(problem).split()),
            next_step="correct the policy's table [s3], or boto3's own settings: env | grep AWS_; ls ~/.aws",
        ) from problem
