"""An S3 server over HTTP, and keys that belong to nobody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.s3_servers import S3Server, keys_of_nobody, moto_server


@pytest.fixture(autouse=True, scope="session")
def _keys() -> Iterator[None]:
    with keys_of_nobody():
        yield


@pytest.fixture
def server() -> S3Server:
    return moto_server()
