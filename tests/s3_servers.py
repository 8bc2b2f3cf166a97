"""S3 servers for tests: moto over HTTP, one for all tests of a process; each test has a bucket of its own."""

from __future__ import annotations

import logging
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.endpoint
import botocore.session
import pytest
from botocore.loaders import create_loader
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from backupd.archive.s3.client import connect
from backupd.archive.s3.patience import Patience
from backupd.archive.s3.place import S3Place
from backupd.archive.s3.store import S3Store

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test12345",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1,localhost",
}
# What the one who runs the tests has set must not lead them to a real bucket.
NOT_OURS = ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE")
_SESSION = boto3.session.Session
_numbers = count(1)
_lock = threading.Lock()
_moto: list[str] = []
_SERVE_MOTO = """
import logging, sys
from moto.server import ThreadedMotoServer
logging.getLogger("werkzeug").setLevel(logging.WARNING)
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
sys.stdin.read()
"""
_SERVE_MEMORY = """
import sys
from tests.faults.s3_proxy import proxied
from tests.s3_memory import MemoryS3
with proxied(MemoryS3()) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True, slots=True)
class S3Server:
    """A server that listens at ``url``."""

    url: str

    def client(self) -> Any:
        """A plain client of the administrator's."""
        return _client(S3Place("", endpoint_url=self.url, path_style=True), os.getpid())

    def place(self, *, locked: bool = False, prefix: str = "here/orders", **words: Any) -> S3Place:
        """A new bucket."""
        bucket = f"bucket-{os.getpid()}-{next(_numbers)}"
        self.client().create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=locked)
        place = S3Place(bucket, prefix, endpoint_url=self.url, path_style=True, deadline_seconds=20, connections=4)
        return replace(place, **words)

    def store(self, **words: Any) -> S3Store:
        """A store in a new bucket."""
        return quick_store(self.place(**words))


@contextmanager
def keys_of_nobody() -> Iterator[None]:
    """Credentials for a server of tests, no way to a real one, and no waiting inside of botocore.

    boto3 reads 2 MiB of JSON for each session; here all share it.
    """
    loader = create_loader()

    def session(**words: Any) -> boto3.session.Session:
        core = botocore.session.Session(profile=words.get("profile_name"))
        core.register_component("data_loader", loader)
        return _SESSION(botocore_session=core)

    with pytest.MonkeyPatch.context() as patch:
        for name in NOT_OURS:
            patch.delenv(name, raising=False)
        for name, value in KEYS.items():
            patch.setenv(name, value)
        patch.setattr(boto3.session, "Session", session)
        patch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda _: None, time=time.time))
        yield


def moto_server() -> S3Server:
    """The one of this process; it lives in threads that end with the process."""
    from moto.server import ThreadedMotoServer

    with _lock:
        if not _moto:
            logging.getLogger("werkzeug").setLevel(logging.WARNING)
            server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
            server.start()
            _moto.append("http://{}:{}".format(*server.get_host_and_port()))
    return S3Server(_moto[0])


@contextmanager
def moto_process() -> Iterator[S3Server]:
    """A moto in a process of its own, for tests that fork: it shares no lock and no descriptor with what they kill."""
    with _process(_SERVE_MOTO) as server:
        yield server


@contextmanager
def memory_process() -> Iterator[S3Server]:
    """The small strict server of ``tests.s3_memory`` in a process of its own: for the thousands of requests of a long
    test, where moto takes an hour."""
    with _process(_SERVE_MEMORY) as server:
        yield server


@contextmanager
def _process(program: str) -> Iterator[S3Server]:
    """It ends with this process, however that ends: its standard input is closed then."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    serving = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    with serving:
        assert serving.stdin is not None
        assert serving.stdout is not None
        try:
            url = serving.stdout.readline().strip()
            assert url.startswith("http://"), "the server did not start"
            yield S3Server(url)
        finally:
            serving.stdin.close()
            serving.wait(30)


@lru_cache
def _client(place: S3Place, pid: int) -> Any:
    return connect(place)


def quick_store(place: S3Place, patience: Patience | None = None) -> S3Store:
    """A store that shares its client with others: making one takes longer than most tests.

    A forked child makes one of its own, for it must not speak over its parent's connections.
    """
    return S3Store(place, patience=patience, client=_client(replace(place, bucket="", prefix=""), os.getpid()))


def hurried(place: S3Place, **clock: Any) -> S3Store:
    """A store whose patience has a clock of its own."""
    return quick_store(place, Patience(place, **clock))


@contextmanager
def tls_server(directory: Path) -> Iterator[tuple[str, Path]]:
    """A server with a certificate of its own, which has no object at all: its address, and the certificate."""
    certificate, key = _certificate(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Nothing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"https://localhost:{server.server_port}", certificate
    finally:
        server.shutdown()
        server.server_close()


def _certificate(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = directory / "server.pem", directory / "server.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, secret
