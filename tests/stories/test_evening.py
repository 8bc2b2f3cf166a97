"""A real evening in minutes: what goes wrong goes wrong, and every slot and every alarm is accounted for.

``BACKUPD_EVENING_ACTS=quiet,killed`` plays only these; ``BACKUPD_EVENING_KEEP=DIR`` keeps log and journal; -s shows the
table.  All of it takes 20 minutes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.stories.evening_account import Account, Act, runs_of, words_of
from tests.stories.evening_house import Evening, evening
from tests.stories.home import eventually

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(3600)]

Trouble = tuple[datetime, datetime] | None


def now() -> datetime:
    return datetime.now(UTC)


class Timed(list[tuple[str, str, str]]):
    """Remembers when each message came."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[datetime] = []

    def append(self, heard: tuple[str, str, str]) -> None:
        self.at.append(now())
        super().append(heard)


def quiet(house: Evening) -> Trouble:
    """Nothing happens, for two minutes."""
    time.sleep(120)
    return None


def restarted(house: Evening) -> Trouble:
    """SIGTERM, a minute of nothing, and up again."""
    begin = now()
    assert house.stop_service() == 0
    time.sleep(65)
    house.start_service()
    end = now()
    time.sleep(60)
    return begin, end


def killed(house: Evening) -> Trouble:
    """SIGKILL in the middle of a run, 70 seconds of nothing, and up again."""
    house.wait_log('event="a run begins"', house.log().count('event="a run begins"'))
    begin = now()
    house.stop_service(signal.SIGKILL)
    time.sleep(70)
    house.start_service()
    end = now()
    time.sleep(60)
    return begin, end


def promoted(house: Evening) -> Trouble:
    """The active of ``orders`` is gone, its passive is promoted; half a minute later the old one follows."""
    begin = now()
    pair = house.home.pair
    old = pair.active
    pair.fail_over()
    house.write()
    time.sleep(30)
    pair.seed(old, pair.active)
    end = now()
    time.sleep(90)
    return begin, end


def cut_off(house: Evening) -> Trouble:
    """The standby's network is away for 80 seconds."""
    with house.wire() as wire:
        begin = now()
        wire.cut()
        time.sleep(80)
        wire.mend()
        house.home.pair.wait_streaming()
        end = now()
        time.sleep(40)
    return begin, end


def bucket_away(house: Evening) -> Trouble:
    """The S3 server answers nothing for three minutes."""
    begin = now()
    with house.s3_away():
        time.sleep(180)
    end = now()
    time.sleep(60)
    assert house.s3.faults["dropped"] > 0
    return begin, end


def policy_broken(house: Evening) -> Trouble:
    """A policy is wrong for 70 seconds: the old one goes on; then it is mended."""
    good = house.carts_policy.read_text()
    count = house.log().count("the policies stay as they were")
    house.carts_policy.write_text(good + "\n[schedule2]\n")
    house.wait_log("the policies stay as they were", count, 60)
    time.sleep(65)
    house.carts_policy.write_text(good)
    time.sleep(25)
    return None


ACTS: dict[str, Callable[[Evening], Trouble]] = {
    "quiet": quiet,
    "restarted": restarted,
    "killed": killed,
    "promoted": promoted,
    "network cut": cut_off,
    "S3 away": bucket_away,
    "policy broken": policy_broken,
}


# What must be told in an act; whatever else is told must begin and end, too.
ALARMS: dict[str, tuple[tuple[str, str], ...]] = {
    "promoted": (("orders", "copy "),),
    "network cut": (("orders", "does not stream"),),
    "S3 away": (("orders", "the archive"), ("carts", "the archive")),
    "policy broken": (("the service", "schedule2"),),
}


def chosen() -> list[str]:
    """All acts, or those of ``BACKUPD_EVENING_ACTS``, with commas."""
    told = os.environ.get("BACKUPD_EVENING_ACTS", "")
    return told.split(",") if told else [*ACTS]


def play(house: Evening) -> list[Act]:
    """All acts; before them the first fulls, and after them a last round of both databases."""
    house.start_service()
    house.write()
    for database in ("orders", "carts"):
        eventually(f"a first full of {database}", lambda name=database: house.full_by_hand(name), 180)  # type: ignore[misc]
    acts = []
    for name in chosen():
        begin = now()
        trouble = ACTS[name](house)
        acts.append(Act(name, begin, now(), trouble, ALARMS.get(name, ())))
    return acts


def last_round(house: Evening) -> Act:
    """Nobody writes; each database gets one more backup, and the alarms have time to end."""
    begin = now()
    house.quiet()
    quiet_since = now()

    def both() -> bool:
        runs = runs_of(house.log(), house.journal())
        return {run.database for run in runs if run.done and run.begin > quiet_since} == {"orders", "carts"}

    eventually("a backup of both after the last commit", both, 180)
    time.sleep(20)
    return Act("end", begin, now())


def test_an_evening_in_which_all_goes_wrong_is_accounted_for(tmp_path: Path) -> None:
    with evening() as house:
        heard = house.hook.heard = Timed()
        acts = play(house)
        acts.append(last_round(house))
        assert house.stop_service() == 0
        words = [
            word
            for at, message in zip(heard.at, house.hook.messages, strict=True)
            for word in words_of(at, message["message"])
        ]
        account = Account(acts, runs_of(house.log(), house.journal()), words)
        findings = account.judge()
        told = [account.table(), "", *(f"{one.at:%H:%M:%S} {one.news} {one.whose}: {one.sentence}" for one in words)]
        sys.stdout.write("\n".join(["", *told, "", *(findings or ["nothing is wrong"]), ""]))
        (tmp_path / "evening.md").write_text("\n".join(told))
        assert "traceback=" not in house.log()
        for database in ("orders", "carts"):
            sys.stdout.write(f"\n{database}: {house.ctl('verify', database, '--level', 'data')}")
            ledger = house.ledger(database)
            restored = house.restored(database)
            sys.stdout.write(f"{database}: the ledger has {ledger}, restored {restored}\n")
            assert restored == ledger
        assert findings == []
        # A service that begins is no reason to say that what it begins stands still.
        assert not [one for one in words if "is stopped" in one.sentence]
