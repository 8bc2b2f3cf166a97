"""The API, asked all that its own description allows and much that it does not: never a 500, always as described."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytest.importorskip("schemathesis", reason="needs schemathesis: pip install '.[test-browser]'")
pytest.importorskip("starlette", reason="needs starlette: pip install '.[service,test]'")

from backupd.policy.web import WebOptions
from backupd.service.web.server import PageServer
from tests.service.web.showroom import showroom

TOKEN = "a-token-of-the-fuzzing-tests"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method,ignored_auth,negative_data_rejection"
)


@pytest.mark.slow
@pytest.mark.parametrize("signed", [True, False])
def test_schemathesis_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, signed: bool) -> None:
    monkeypatch.setenv("BACKUPD_FUZZ_TOKEN", TOKEN)
    monkeypatch.setattr("backupd.service.web.session.WRONG_TOKEN_SECONDS", 0.0)
    options = WebOptions.model_validate({"listen": "127.0.0.1:0", "token": "env:BACKUPD_FUZZ_TOKEN"})
    server = PageServer(showroom(5, broken=True, now=datetime.now(UTC)), options, "db1")
    server.start()
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.address}openapi.json"),
                *("--checks", CHECKS, "--max-examples", "40", "--seed", "1", "--exclude-path", "/events"),
                *("--generation-database", "none", "--no-color"),
                *(("--header", f"Authorization: Bearer {TOKEN}") if signed else ()),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
    finally:
        server.stop()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
