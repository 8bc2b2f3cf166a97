"""What is told of alarms: once when one begins, again while it lasts, once when it ends."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from hypothesis import given
from hypothesis import strategies as st

from backupd.decide.alarm_news import (
    Decision,
    News,
    NewsKind,
    NewsRules,
    Standing,
    decide_news,
    duration_text,
    message_lines,
    subject_line,
)
from backupd.model.alarm import Alarm, Severity

T0 = datetime(2026, 11, 22, 12, tzinfo=UTC)
RULES = NewsRules()


def alarm(name: str = "orders", severity: Severity = Severity.CRITICAL, sentence: str = "it burns") -> Alarm:
    return Alarm(name, "fire", sentence, severity=severity, next_step="backupctl check " + name)


WARNING = alarm(severity=Severity.WARNING)


class Told:
    """The alarms over time, with a service that hears of every decision."""

    def __init__(self, rules: NewsRules = RULES) -> None:
        self.rules, self.standing = rules, tuple[Standing, ...]()

    def at(self, seconds: float, *alarms: Alarm, sent: bool = True) -> list[tuple[NewsKind, str]]:
        decision: Decision = decide_news(self.standing, alarms, T0 + timedelta(seconds=seconds), self.rules)
        self.standing = decision.if_told if sent else decision.if_not
        return [(one.kind, one.alarm.database) for one in decision.news]


def test_what_is_critical_is_told_at_once_and_only_once() -> None:
    told = Told()
    assert told.at(0, alarm()) == [(NewsKind.BEGUN, "orders")]
    assert told.at(30, alarm(sentence="it burns more")) == []
    assert told.at(90) == [(NewsKind.OVER, "orders")]
    assert told.at(120) == []


def test_a_warning_waits_and_one_that_passes_is_never_told() -> None:
    told = Told()
    assert told.at(0, WARNING) == []
    assert told.at(59, WARNING) == []
    assert told.at(60, WARNING) == [(NewsKind.BEGUN, "orders")]
    other = Told()
    assert other.at(0, WARNING) == other.at(30) == []


def test_what_lasts_is_told_again_each_day_and_when_it_becomes_critical() -> None:
    told = Told()
    told.at(0, WARNING)
    told.at(60, WARNING)
    assert told.at(100, alarm()) == [(NewsKind.LASTS, "orders")]
    assert told.at(86400, alarm()) == []
    assert told.at(86500, alarm()) == [(NewsKind.LASTS, "orders")]


def test_what_could_not_be_sent_is_told_later_also_its_end() -> None:
    told = Told()
    assert told.at(0, alarm(), sent=False) == [(NewsKind.BEGUN, "orders")]
    assert told.at(10, alarm()) == [(NewsKind.BEGUN, "orders")]
    assert told.at(20, sent=False) == [(NewsKind.OVER, "orders")]
    assert told.at(30) == [(NewsKind.OVER, "orders")]
    assert told.at(40) == []


def test_a_database_that_nobody_has_looked_at_yet_has_not_become_well() -> None:
    before = decide_news((), [alarm()], T0, RULES).if_told
    later = T0 + timedelta(seconds=5)
    unseen = decide_news(before, [], later, RULES, unseen={"orders"})
    assert (unseen.news, unseen.if_told) == ((), before)


def test_warnings_wait_for_the_end_of_the_quiet_hours_and_what_is_critical_does_not() -> None:
    rules = NewsRules(warning_after_seconds=0, quiet=(time(22), time(7)))

    def news(hour: int, one: Alarm) -> int:
        return len(decide_news((), [one], T0, rules, now_local=time(hour)).news)

    assert [news(hour, WARNING) for hour in (21, 22, 2, 7)] == [1, 0, 0, 1]
    assert news(2, alarm()) == 1


def test_a_storm_is_one_message_with_counts_and_the_first_ten() -> None:
    storm = [alarm(f"db{number:03}") for number in range(200)]
    news = decide_news((), storm, T0, RULES).news
    lines = message_lines(news)
    assert lines[0] == "200 begun; the first ten:"
    assert sum(line.startswith("critical: ") for line in lines) == 10
    assert lines[-1] == "and 190 more: backupctl alarms"
    assert subject_line(news, "n1") == "backupd on n1: 200 alarms, 200 of them critical, 200 databases"


def test_a_message_says_what_helps_and_how_long_it_lasted() -> None:
    begun = (News(NewsKind.BEGUN, alarm(), 0.0),)
    assert message_lines(begun) == ["critical: orders: it burns", "  next: backupctl check orders", ""]
    assert subject_line(begun, "n1") == "backupd on n1: 1 alarm, critical: orders"
    over = (News(NewsKind.OVER, alarm(), 11520.0),)
    assert message_lines(over)[0] == "over after 3 h 12 min: orders: it burns"
    assert subject_line(over, "n1") == "backupd on n1: 1 alarm over: orders"
    assert duration_text(0.4) == "0 s"


ALARMS = st.builds(alarm, st.sampled_from("abc"), st.sampled_from(Severity))
MOMENTS = st.lists(st.tuples(st.integers(1, 200_000), st.lists(ALARMS, max_size=4), st.booleans()), max_size=12)


@given(MOMENTS)
def test_every_begin_has_one_end_and_no_end_comes_without_a_begin(
    moments: list[tuple[int, list[Alarm], bool]],
) -> None:
    told, now, heard = Told(), 0, dict.fromkeys("abc", False)
    for wait, alarms, sent in moments:
        now += wait
        for kind, name in told.at(now, *alarms, sent=sent):
            # Only what was heard of may last or end, and it may not begin twice.
            assert heard[name] is (kind is not NewsKind.BEGUN)
            if sent:
                heard[name] = kind is not NewsKind.OVER
    for kind, name in told.at(now + 1):
        assert kind is NewsKind.OVER
        heard[name] = False
    assert not any(heard.values())
