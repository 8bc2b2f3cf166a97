"""The service ends, when it starts, what a dead run has left on servers that replicate by themselves."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backupd.bootstrap import House
from backupd.errors import Busy
from backupd.runs import recover
from backupd.service.serve import recover_first


def house_of(context: SimpleNamespace) -> House:
    return cast(House, SimpleNamespace(context=lambda _: context))


def a_context() -> SimpleNamespace:
    return SimpleNamespace(journal=SimpleNamespace(hear=None))


def test_what_was_done_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[Any] = []

    def recovered(context: object) -> tuple[str, ...]:
        asked.append(context)
        return ("replay of b runs again",)

    monkeypatch.setattr(recover, "run_recover", recovered)
    caplog.set_level(logging.INFO)
    context = a_context()
    recover_first(house_of(context), "orders")
    assert asked == [context]
    assert context.journal.hear is not None  # and what the journal notes of it, too
    assert "replay of b runs again" in caplog.text


def test_a_run_that_lives_is_left_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def busy(context: object) -> tuple[str, ...]:
        raise Busy("another run works on orders", because="its process lives", next_step="wait for it")

    monkeypatch.setattr(recover, "run_recover", busy)
    recover_first(house_of(a_context()), "orders")
    assert "another run works on orders" in caplog.text
