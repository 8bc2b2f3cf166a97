"""The account of an evening finds what is wrong in it; this is the check of that check, without an evening."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.stories.evening_account import Account, Act, Run, Word, runs_of, task_of, words_of

BEGIN = datetime(2026, 11, 23, 20, 3, 30, tzinfo=UTC)
END = BEGIN + timedelta(minutes=10)


def minute(number: int) -> datetime:
    return datetime(2026, 11, 23, 20, number, tzinfo=UTC)


def run_at(number: int, seconds: float = 1, **facts: str) -> Run:
    at = minute(number)
    begin = at + timedelta(seconds=seconds)
    words = {"database": "orders", "task": task_of(at), "slot": f"20:{number:02}", "ended": "done", **facts}
    return Run(begin=begin, end=begin + timedelta(seconds=5), **words)


def good() -> Account:
    runs = [run_at(number) for number in range(4, 13)]
    return Account([Act("quiet", BEGIN, END)], runs, [], ("orders",))


def said(at: int, news: str, sentence: str = "the archive: it is away") -> Word:
    return Word(minute(at), news, "orders", sentence)


def test_an_evening_in_which_all_ran_is_in_order() -> None:
    account = good()
    assert account.judge() == []
    assert account.table().count("\n") == 10


def test_a_slot_that_nothing_served_is_found_unless_trouble_explains_it() -> None:
    account = good()
    account.runs = [run for run in account.runs if run.slot != "20:07"]
    assert account.judge() == ["orders: the incremental of 20:07 ran at 20:08:01, without a cause"]
    account.acts = [Act("killed", BEGIN, END, (minute(7), minute(8)))]
    assert account.judge() == []
    account.runs = [run for run in account.runs if run.slot < "20:07"]
    assert "orders: nothing has served the full of 20:10 to the end" in account.judge()


def test_a_full_that_failed_in_trouble_may_wait_for_its_retry_beyond_the_end() -> None:
    account = good()
    account.runs = [replace(run, ended="failed") if run.slot == "20:10" else run for run in account.runs]
    assert "orders: nothing has served the full of 20:10 to the end" in account.judge()
    account.acts = [Act("S3 away", BEGIN, END, (minute(9), minute(11)))]
    assert account.judge() == []


def test_an_incremental_does_not_serve_a_full() -> None:
    account = good()
    account.runs = [replace(run, task="incremental") if run.slot == "20:10" else run for run in account.runs]
    assert account.judge() == ["orders: nothing has served the full of 20:10 to the end"]


def test_a_slot_that_ran_twice_and_runs_that_overlap_are_found() -> None:
    account = good()
    account.runs = sorted([*account.runs, run_at(6, 3)], key=lambda run: run.begin)
    assert (
        account.judge()
        == [
            "orders: the incremental at 2026-11-23 20:06:03+00:00 began before the last one ended",
            "orders: the incremental of 20:06 ran 2 times",
        ][::-1]
    )


@pytest.mark.parametrize(
    ("words", "finding"),
    [
        ([said(4, "begun"), said(5, "over")], ""),
        ([said(4, "begun")], "never over"),
        ([said(4, "begun"), said(4, "lasts"), said(5, "over")], ""),
        ([said(5, "over")], "over without"),
        ([said(4, "begun"), said(5, "over"), said(6, "begun"), said(7, "over")], "began 2 times"),
    ],
)
def test_an_alarm_begins_once_and_ends_once(words: list[Word], finding: str) -> None:
    account = good()
    account.words = words
    found = account.judge()
    assert [one[: len(finding)] for one in found] == ([finding] if finding else [])


def test_an_act_in_which_nothing_alarmed_that_should_have_is_found() -> None:
    account = good()
    account.acts = [Act("S3 away", BEGIN, END, alarms=(("orders", "the archive"),))]
    assert account.judge() == ["no alarm in the act S3 away: orders: the archive"]
    account.words = [said(5, "begun"), said(6, "over")]
    assert account.judge() == []


def line(at: str, event: str, **facts: str) -> str:
    more = "".join(f' {name}="{value}"' for name, value in facts.items())
    return f'time=2026-11-23T20:{at}.100+00:00 level=info from=service event="{event}" database=orders{more}'


def test_the_log_and_the_messages_are_understood() -> None:
    log = [
        line("04:00", "a run begins", type="full", slot="Mon 20:04", pid="7"),
        line("04:02", "a run ended: done", type="full", says="full F is complete"),
        line("05:00", "a run begins", type="full", slot="Mon 20:05", pid="8"),
        line("06:00", "backupd starts", pid="9"),
    ]
    assert [(run.slot, run.ended, run.done) for run in runs_of("\n".join(log), [])] == [
        ("Mon 20:04", "done", True),
        ("Mon 20:05", "died", False),
    ]
    message = ["critical: orders: the archive: away", "  next: wait", "", "warning, for 2 min now: carts: late", ""]
    message += ["over after 9 s: the service: x"]
    assert [(one.news, one.whose, one.kind) for one in words_of(BEGIN, "\n".join(message))] == [
        ("begun", "orders", "the archive"),
        ("lasts", "carts", "late"),
        ("over", "the service", "x"),
    ]
