"""The log guard of a real service on a PostgreSQL pair: an incremental beside the schedule, a blocker by its name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.stories.home import eventually
from tests.stories.pg_home import ROOT, PgHome, pg_home

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(900)]

BUDGET_BYTES = 64 << 20


@contextmanager
def service(home: PgHome) -> Iterator[None]:
    """The real one, which looks each second and says each alarm at once; nothing is due by its schedule."""
    text = '[service]\nlisten = ""\nlook_seconds = 1\n[alarms]\nafter_seconds = 0\n'
    home.config.write_text(text, encoding="utf-8")
    words = [sys.executable, "-m", "backupd.service.main", "--config", str(home.config)]
    with open(home.root / "service.log", "ab") as log:
        process = subprocess.Popen(words, env=home.environment(PYTHONPATH=str(ROOT)), stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(120)


def said(home: PgHome) -> str:
    return (home.root / "service.log").read_text()


def guard(home: PgHome) -> dict[str, Any]:
    """The active's verdict, with the sentence of its alarm."""
    status = home.status()
    name = next(copy["name"] for copy in status["copies"] if copy["role"] == "active")
    alarms = [one for one in status["alarm_details"] if one["code"] == "held-log" and one["subject"] == name]
    return {**status["log_guard"][name], "says": alarms[0]["sentence"] if alarms else ""}


def write_log(home: PgHome, share: float) -> None:
    """Let the active write until it holds so much of the budget."""
    while guard(home)["share"] < share:
        home.pair.active.psql("INSERT INTO filler SELECT repeat(md5(i::text), 100) FROM generate_series(1, 1000) i")


def count_of(home: PgHome, kind: str) -> int:
    return sum(one["type"] == kind for one in home.ok("list", "orders", "--json").json["backups"])


def test_held_log_is_let_go_by_an_incremental_and_never_without_one() -> None:
    with pg_home(segment_mib=1) as home:
        home.pair.active.psql("CREATE TABLE filler (words text)")
        home.pair.active.psql("ALTER TABLE filler ALTER words SET STORAGE EXTERNAL")
        home.write_policy(
            schedule='full = "sun 01:00"\nincremental = "mon..sat 02:00"',
            truncation=f"held_log_budget = {BUDGET_BYTES}\nevidence_age_seconds_max = 5",
        )
        home.backup("full")
        assert guard(home)["level"] == "none"
        with service(home):
            helps_in_time(home)
            names_the_blocker(home)


def helps_in_time(home: PgHome) -> None:
    """Seven tenths of the budget: an incremental that no slot asked for lets the log go."""
    incrementals = count_of(home, "incremental")
    write_log(home, 0.72)
    eventually("an incremental beside the schedule", lambda: count_of(home, "incremental") > incrementals, 120)
    eventually("the log to be let go", lambda: guard(home)["level"] == "none", 120)
    assert "an incremental beside the schedule, for the held log" in said(home)


def names_the_blocker(home: PgHome) -> None:
    """Without a passive no backup helps: the alarm says who keeps the log, and the log stays."""
    incrementals, passive = count_of(home, "incremental"), home.pair.passive
    passive.stop()
    write_log(home, 0.9)
    told = guard(home)
    assert told["level"] == "critical"
    assert not told["incremental_helps"]
    assert f"the blocker: the passive copy {passive.name}" in told["says"], told
    eventually("the alarm", lambda: "held-log" in home.ok("alarms", "--json").out, 60)
    assert count_of(home, "incremental") == incrementals
    assert guard(home)["share"] >= 0.9, "nothing drops log silently"
    passive.start()
    home.pair.wait_caught_up()
    home.backup("incremental")
    eventually("the log to be let go", lambda: guard(home)["level"] == "none", 120)
