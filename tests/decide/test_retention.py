"""Retention keeps whole chains, never drops the last good one, and drops in a safe order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.decide.retention import RetentionPlan, plan_retention
from backupd.errors import Refused
from backupd.model.records import ArchivedBackup, BackupRecord, BackupType
from backupd.model.rules import RetentionRules
from tests.decide.builders import Commit, full, increment, make_backup, make_log, place, plain_logs

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LOGS = plain_logs(60)


def aged(backup: ArchivedBackup, days: float) -> BackupRecord:
    at = NOW - timedelta(days=days)
    return replace(backup.record, started_at=at, finished_at=at, covers_until=at)


def weeks(count: int) -> list[BackupRecord]:
    """A full each week and six incrementals after it, named by weeks ago; the newest is half a day old."""
    records = []
    offset = 0
    for week in reversed(range(count)):
        parent = full(f"F{week}", offset)
        records.append(aged(parent, week * 7 + 6.5))
        for day in range(1, 7):
            child = increment(f"I{week}-{day}", parent, offset + 1, LOGS)
            records.append(aged(child, week * 7 + 6.5 - day))
            parent, offset = child, offset + 1
        offset += 1
    return records


def kept(plan: RetentionPlan) -> set[str]:
    return {entry.id for entry in plan.keep}


def dropped(plan: RetentionPlan) -> list[str]:
    return [entry.id for entry in plan.drop]


def test_days_keep_whole_chains_and_what_the_first_day_is_reached_from() -> None:
    plan = plan_retention(weeks(5), RetentionRules(keep_days=14), NOW)
    # 14 days ago lies between I2-6 (14.5 days old) and F1 (13.5); I2-6 with its chain leads there.
    expected = [f"I3-{day}" for day in (6, 5, 4, 3, 2, 1)] + ["F3"]
    expected += [f"I4-{day}" for day in (6, 5, 4, 3, 2, 1)] + ["F4"]
    assert dropped(plan) == expected
    assert {"F2", "I2-1", "I2-6", "F1", "F0"} <= kept(plan)


def test_what_builds_on_a_damaged_full_keeps_the_older_full_that_leads_to_it() -> None:
    """The moments after a damaged full are reached from the sound one before it, by all the log between them."""
    plan = plan_retention(weeks(5), RetentionRules(keep_days=14), NOW, damaged={"F2": "page 7 is bad"})
    assert dropped(plan) == [f"I4-{day}" for day in (6, 5, 4, 3, 2, 1)] + ["F4"]
    reasons = {entry.id: [str(reason) for reason in entry.reasons] for entry in plan.keep}
    assert "I2-6 is reached from F3, for its own full F2 is damaged" in reasons["F3"]
    assert "I2-6 is reached from F3, for its own full F2 is damaged" in reasons["I3-4"]


def test_a_full_stays_while_a_kept_increment_builds_on_it() -> None:
    plan = plan_retention(weeks(2), RetentionRules(keep_days=8), NOW)
    assert dropped(plan) == []
    reasons = {entry.id: [reason.code for reason in entry.reasons] for entry in plan.keep}
    assert reasons["F1"] == ["needed"]


def test_counted_fulls_stay_with_all_that_builds_on_them() -> None:
    plan = plan_retention(weeks(4), RetentionRules(keep_fulls_min=2), NOW)
    assert kept(plan) == {record.id for record in weeks(2)}


def test_monthly_and_yearly_fulls_stay_alone() -> None:
    records = weeks(30)
    plan = plan_retention(records, RetentionRules(keep_fulls_min=1, keep_monthly_fulls=3, keep_yearly_fulls=9), NOW)
    fulls = [record for record in records if record.type is BackupType.FULL]
    newest_of = {(f.covers_until.year, f.covers_until.month): f.id for f in fulls}
    months = sorted(newest_of)[-3:]
    expected = {newest_of[month] for month in months} | {record.id for record in weeks(1)}
    assert kept(plan) == expected


def test_months_begin_in_the_policy_s_place() -> None:
    late = replace(aged(full("late", 1), 30), covers_until=datetime(2026, 9, 30, 22, 30, tzinfo=UTC))
    early = replace(aged(full("early", 0), 30), covers_until=datetime(2026, 9, 30, 21, 30, tzinfo=UTC))
    newest = aged(full("newest", 2), 1)
    rules = RetentionRules(keep_monthly_fulls=9)
    assert kept(plan_retention([late, early, newest], rules, NOW)) == {"late", "newest"}
    berlin = replace(rules, timezone="Europe/Berlin")  # where it is October already
    assert kept(plan_retention([late, early, newest], berlin, NOW)) == {"late", "early", "newest"}


def test_the_last_chain_stays_whatever_its_age() -> None:
    old = [replace(r, covers_until=r.covers_until - timedelta(days=900)) for r in weeks(2)]
    plan = plan_retention(old, RetentionRules(keep_days=1), NOW)
    assert kept(plan) == {record.id for record in weeks(1)}


def test_a_damaged_chain_keeps_the_good_one_before_it() -> None:
    records = [aged(full("A", 0), 300), aged(full("B", 1), 200), aged(full("C", 2), 100)]
    plan = plan_retention(records, RetentionRules(keep_days=1), NOW, damaged={"C": "page 7 is bad"})
    assert kept(plan) == {"B", "C"}


def test_a_verified_chain_stays_until_a_newer_one_is_verified() -> None:
    records = [aged(full("A", 0), 300), aged(full("B", 1), 200), aged(full("C", 2), 100)]
    assert kept(plan_retention(records, RetentionRules(keep_days=1), NOW, verified={"A"})) == {"A", "C"}
    assert kept(plan_retention(records, RetentionRules(keep_days=1), NOW, verified={"A", "C"})) == {"C"}


def test_a_backup_from_the_future_stays_with_what_it_needs() -> None:
    old_full, old_increment = full("A", 0), increment("I", full("A", 0), 3, LOGS)
    records = [aged(old_full, 300), aged(old_increment, -2), aged(full("B", 9), 100)]
    plan = plan_retention(records, RetentionRules(keep_fulls_min=1), NOW)
    assert kept(plan) == {"A", "I", "B"}


def test_what_is_in_use_stays() -> None:
    records = weeks(4)
    plan = plan_retention(records, RetentionRules(keep_fulls_min=1), NOW, in_use={"I3-2": "a restore reads it"})
    assert {"F3", "I3-1", "I3-2"} <= kept(plan)
    assert "I3-3" in dropped(plan)


def test_log_named_by_a_kept_backup_stays() -> None:
    base = full("A", 0)
    incremental = increment("I", base, 10, LOGS)
    differential = increment("D", base, 12, LOGS, backup_type=BackupType.DIFFERENTIAL)
    records = [aged(base, 3), aged(incremental, 2), aged(differential, 1), aged(full("B", 20), 0.5)]
    records[1] = replace(records[1], covers_until=NOW - timedelta(days=90))
    plan = plan_retention(records, RetentionRules(keep_days=2), NOW)
    names = {stored.name for stored in LOGS[:12]}
    assert names <= plan.keep_logs
    assert not set(plan.drop_logs) & plan.keep_logs


def test_an_empty_policy_is_refused() -> None:
    with pytest.raises(Refused, match="empty retention"):
        plan_retention(weeks(2), RetentionRules(), NOW)


def test_a_plan_that_leaves_nothing_is_refused() -> None:
    only_copies = [aged(make_backup("C", BackupType.COPY, 3), 90)]
    with pytest.raises(Refused, match="leave nothing"):
        plan_retention(only_copies, RetentionRules(keep_days=1), NOW)


def test_no_backups_is_an_empty_plan() -> None:
    plan = plan_retention([], RetentionRules(keep_days=1), NOW)
    assert (plan.keep, plan.drop, plan.drop_share) == ((), (), 0.0)


def test_an_absurd_number_of_days_keeps_all() -> None:
    assert dropped(plan_retention(weeks(3), RetentionRules(keep_days=10_000_000), NOW)) == []


# --- properties ---------------------------------------------------------------


@st.composite
def archives(draw: st.DrawFn) -> list[BackupRecord]:
    backups: list[ArchivedBackup] = []
    ages: list[float] = []
    for name in range(draw(st.integers(0, 9))):
        kind = draw(
            st.sampled_from([BackupType.FULL, BackupType.COPY, BackupType.INCREMENTAL, BackupType.DIFFERENTIAL])
        )
        age = draw(st.sampled_from([-1.0, 0.5, 3.0, 8.0, 20.0, 31.0, 45.0, 100.0, 400.0])) + name / 100
        parents = [b for b in backups if b.record.type is not BackupType.COPY]
        if kind in (BackupType.FULL, BackupType.COPY) or not parents:
            backups.append(make_backup(f"B{name}", kind, name))
        else:
            parent = draw(st.sampled_from(parents))
            end = parent.record.log_end.offset + 1
            backups.append(increment(f"B{name}", parent, end, LOGS, backup_type=kind))
        ages.append(age)
    return [aged(backup, age) for backup, age in zip(backups, ages, strict=True)]


all_rules = st.builds(
    RetentionRules,
    keep_days=st.sampled_from([None, 1, 7, 30]),
    keep_within=st.sampled_from([None, timedelta(hours=1), timedelta(days=25)]),
    keep_daily=st.integers(0, 3),
    keep_fulls_min=st.integers(0, 2),
    keep_weekly_fulls=st.integers(0, 1),
    keep_monthly_fulls=st.integers(0, 2),
    keep_yearly_fulls=st.integers(0, 1),
)
some_ids = st.sets(st.sampled_from([f"B{number}" for number in range(9)]), max_size=3)


def ancestors(record: BackupRecord, records: list[BackupRecord]) -> list[BackupRecord]:
    found: list[BackupRecord] = []
    parent = record.parent
    while parent is not None:
        match = [other for other in records if other.id == parent]
        found.extend(match)
        parent = match[0].parent if match else None
    return found


def oracle(
    records: list[BackupRecord],
    rules: RetentionRules,
    verified: Collection[str],
    damaged: Collection[str],
    held: Collection[str],
) -> set[str]:
    """The slow answer, one backup at a time: does any sentence of the promise want it?"""

    def newer(record: BackupRecord) -> tuple[int, datetime]:
        return (record.log_end.offset, record.covers_until)  # one history: the log says what came first

    fulls = sorted((r for r in records if r.type is BackupType.FULL), key=newer)
    good = [r for r in fulls if r.id not in damaged]

    def full_of(record: BackupRecord) -> BackupRecord | None:
        chain = [record, *ancestors(record, records)]
        return chain[-1] if chain[-1].type is BackupType.FULL else None

    def wanted(record: BackupRecord) -> bool:
        own = full_of(record)
        if record.covers_until > NOW or record.id in held:
            return True
        if rules.keep_within and record.covers_until >= NOW - rules.keep_within:
            return True
        if rules.keep_days:
            begin = NOW - timedelta(days=rules.keep_days)
            before = [r for r in records if r.covers_until < begin and r.type is not BackupType.COPY]
            if record.covers_until >= begin or (before and record == max(before, key=newer)):
                return True
        chains = [fulls[-1:], good[-1:], [r for r in good if r.id in verified][-1:]]
        if rules.keep_fulls_min:
            chains.append(good[-rules.keep_fulls_min :])
        if own is not None and any(own in chain for chain in chains):
            return True
        past = [r for r in records if r.covers_until <= NOW]
        points = [r for r in past if full_of(r) and not {one.id for one in (r, *ancestors(r, records))} & set(damaged)]
        for count, form, among in (
            (rules.keep_daily, "%Y-%m-%d", points),
            (rules.keep_weekly_fulls, "%G-%V", [r for r in past if r in good]),
            (rules.keep_monthly_fulls, "%Y-%m", [r for r in past if r in good]),
            (rules.keep_yearly_fulls, "%Y", [r for r in past if r in good]),
        ):
            periods = sorted({f"{r.covers_until:{form}}" for r in among}, reverse=True)[:count]
            mine = f"{record.covers_until:{form}}"
            same = [r for r in among if f"{r.covers_until:{form}}" == mine]
            if record in among and mine in periods and record == max(same, key=newer):
                return True
        return False

    keep = {record.id for record in records if wanted(record)}
    for record in [record for record in records if record.id in keep]:
        own = full_of(record)
        if own is not None and own.id in damaged:
            older = [r for r in good if r.log_end.offset <= own.log_end.offset]
            start = max((r.log_end.offset for r in older), default=None)
            keep |= {r.id for r in records if start is not None and start <= r.log_end.offset <= record.log_end.offset}
    return keep | {above.id for record in records if record.id in keep for above in ancestors(record, records)}


@settings(max_examples=300, deadline=None)
@given(archives(), all_rules, some_ids, some_ids, some_ids)
def test_the_plan_equals_the_slow_oracle_and_is_safe(
    records: list[BackupRecord], rules: RetentionRules, verified: set[str], damaged: set[str], held: set[str]
) -> None:
    if rules.is_empty:
        return
    expected = oracle(records, rules, verified, damaged, held)
    facts: Any = {"verified": verified, "damaged": dict.fromkeys(damaged, "bad"), "held": dict.fromkeys(held, "held")}
    try:
        plan = plan_retention(records, rules, NOW, **facts)
    except Refused:
        assert records
        assert not expected
        return
    assert kept(plan) == expected
    # Safety, said without the rules: nothing kept loses what it builds on or its log; the order leaves no orphan.
    order = dropped(plan)
    assert sorted([*order, *kept(plan)]) == sorted(record.id for record in records)
    for record in records:
        for above in ancestors(record, records):
            if record.id in kept(plan):
                assert above.id in kept(plan)
            elif above.id in order:
                assert order.index(record.id) < order.index(above.id)
        if record.id in kept(plan):
            assert not {stored.name for stored in record.logs} & set(plan.drop_logs)
    # The last proven chain is there to its end.
    proven = [r for r in records if r.type is BackupType.FULL and r.id in verified - damaged]
    if proven:
        last = max(proven, key=lambda record: (record.log_end.offset, record.covers_until))
        assert {r.id for r in records if last in (r, *ancestors(r, records))} <= kept(plan)
    # Pruning twice at one moment drops nothing more.
    left = [record for record in records if record.id in kept(plan)]
    if left:
        assert dropped(plan_retention(left, rules, NOW, **facts)) == []


@settings(max_examples=100, deadline=None)
@given(archives(), all_rules, some_ids, some_ids, st.permutations(range(9)), st.randoms(use_true_random=False))
def test_names_decide_nothing(
    records: list[BackupRecord],
    rules: RetentionRules,
    verified: set[str],
    damaged: set[str],
    order: list[int],
    dice: Random,
) -> None:
    """A host with a wrong clock writes labels that sort anyhow; the plan is the same, and so is the order to remove."""
    if rules.is_empty or not records:
        return
    new = {f"B{number}": f"X{place}" for number, place in enumerate(order)}
    renamed = [replace(r, id=new[r.id], parent=new[r.parent] if r.parent else None) for r in records]
    dice.shuffle(renamed)
    try:
        first = plan_retention(records, rules, NOW, verified=verified, damaged=dict.fromkeys(damaged, "bad"))
    except Refused:
        return
    moved = {new[name] for name in verified}, {new[name]: "bad" for name in damaged}
    second = plan_retention(renamed, rules, NOW, verified=moved[0], damaged=moved[1])
    assert [new[name] for name in dropped(first)] == dropped(second)
    codes = {new[entry.id]: [reason.code for reason in entry.reasons] for entry in first.keep}
    assert codes == {entry.id: [reason.code for reason in entry.reasons] for entry in second.keep}


def test_the_log_and_not_a_wrong_clock_says_which_full_is_the_newest() -> None:
    early, late = aged(full("A", 10), 1), aged(full("B", 20), 400)  # B's host thought that it was last year
    plan = plan_retention([early, late], RetentionRules(keep_fulls_min=1), NOW)
    assert (kept(plan), dropped(plan)) == ({"B"}, ["A"])


def test_the_history_that_the_pair_lives_in_is_the_newest_whatever_the_clocks_said() -> None:
    old, now = aged(full("A", 50), 1), aged(full("B", 2, history="b" * 16), 90)
    rules = RetentionRules(keep_fulls_min=1)
    assert dropped(plan_retention([old, now], rules, NOW)) == ["B"]
    assert dropped(plan_retention([old, now], rules, NOW, current_history="b" * 16)) == ["A"]


def test_a_history_comes_after_the_one_that_it_came_out_of() -> None:
    """The promoted standby's clock is a year behind: its chain is the newest all the same, for the log leads to it."""
    base = full("A", 3)
    last = make_log(4, [Commit(5, 5)], 3)
    crossing = replace(last, log=replace(last.log, history="b" * 16, end=place(5, "b" * 16)))
    child = make_backup("I", BackupType.INCREMENTAL, 5, parent=base, logs=[crossing], history="b" * 16)
    newest = full("B", 7, history="b" * 16)
    records = [aged(base, 1), aged(child, 400), aged(newest, 399)]
    plan = plan_retention(records, RetentionRules(keep_fulls_min=1), NOW)
    assert kept(plan) == {"B"}


def test_what_is_young_enough_stays_with_what_it_builds_on() -> None:
    plan = plan_retention(weeks(3), RetentionRules(keep_within=timedelta(days=9)), NOW)
    # Nine days ago lies between I1-4 and I1-5, which needs all before it.
    assert set(dropped(plan)) == {record.id for record in weeks(3)} - {record.id for record in weeks(2)}


def test_the_newest_point_of_each_day_stays() -> None:
    base = full("F", 0)
    records = [aged(base, 3.1)]
    parent = base
    for number, age in enumerate((3.0, 2.9, 2.0, 1.9, 1.0, 0.2, 0.1), start=1):
        parent = increment(f"I{number}", parent, number, LOGS)
        records.append(aged(parent, age))
    differentials = [
        aged(increment(f"D{number}", base, number, LOGS, backup_type=BackupType.DIFFERENTIAL), age)
        for number, age in ((2, 2.8), (4, 1.8))
    ]
    newer = aged(full("N", 20), 0.05)
    plan = plan_retention([*records, *differentials, newer], RetentionRules(keep_daily=2), NOW)
    # Today N, and yesterday I5, which needs all before it; I6 and I7 of today and D2 and D4 of older days go.
    assert kept(plan) == {"N", "F", "I1", "I2", "I3", "I4", "I5"}
    reasons = {entry.id: [reason.code for reason in entry.reasons] for entry in plan.keep}
    assert (reasons["I5"], reasons["I4"]) == (["keep-daily"], ["needed"])


def test_what_is_held_stays_with_what_it_builds_on() -> None:
    plan = plan_retention(weeks(4), RetentionRules(keep_fulls_min=1), NOW, held={"I3-2": "the auditor holds it"})
    assert {"F3", "I3-1", "I3-2"} <= kept(plan)
    assert "the auditor holds it" in [str(reason) for entry in plan.keep for reason in entry.reasons]
    assert "I3-3" in dropped(plan)


def test_a_backup_from_the_future_takes_no_place_of_a_month() -> None:
    records = [aged(full("A", 1), 40), aged(full("B", 2), 10), aged(full("C", 3), -400)]
    assert kept(plan_retention(records, RetentionRules(keep_monthly_fulls=2), NOW)) == {"A", "B", "C"}


def test_every_dropped_backup_says_why() -> None:
    plan = plan_retention(weeks(5), RetentionRules(keep_fulls_min=1, keep_monthly_fulls=2), NOW)
    said = {entry.id: "; ".join(map(str, entry.reasons)) for entry in plan.drop}
    assert kept(plan) == {record.id for record in weeks(1)} | {"F3"}
    assert said["I3-6"] == (
        "its last point is 22 days old; no rule wants it (the newest 1 fulls, the newest 2 monthly fulls), "
        "and nothing kept builds on it; its full F3 stays without it"
    )
    assert "stays" not in said["I2-6"]


# --- how much at once -----------------------------------------------------------


def test_one_chain_and_two_more_are_free_and_a_quarter_is() -> None:
    assert not plan_retention(weeks(2), RetentionRules(keep_fulls_min=1), NOW).needs_a_yes, "half, but one chain"
    assert plan_retention(weeks(3), RetentionRules(keep_fulls_min=1), NOW).needs_a_yes, "two chains of three"
    assert not plan_retention(weeks(8), RetentionRules(keep_fulls_min=6), NOW).needs_a_yes, "two chains of eight"
    fulls = [aged(full(f"F{number}", number), 50 - number) for number in range(5)]
    assert not plan_retention(fulls, RetentionRules(keep_fulls_min=2), NOW).needs_a_yes, "three fulls"
    assert plan_retention(fulls, RetentionRules(keep_fulls_min=1), NOW).needs_a_yes, "four of five"


def test_daily_pruning_of_a_small_archive_is_never_asked_about() -> None:
    """Half a year of weekly fulls and daily incrementals, pruned each day by small policies: no plan needs a yes."""
    everything = weeks(26)
    for rules in (
        RetentionRules(keep_days=7),
        RetentionRules(keep_fulls_min=2),
        RetentionRules(keep_days=14, keep_weekly_fulls=2, keep_monthly_fulls=2, keep_yearly_fulls=1),
        RetentionRules(keep_daily=10, keep_weekly_fulls=4),
    ):
        left: list[BackupRecord] = []
        for day in range(182, -1, -1):
            now = NOW - timedelta(days=day)
            left += [r for r in everything if now - timedelta(days=1) < r.covers_until <= now]
            if not left:
                continue
            plan = plan_retention(left, rules, now)
            assert not plan.needs_a_yes, (rules, now, len(plan.drop), len(left))
            left = [record for record in left if record.id in kept(plan)]


def test_what_a_drill_proved_stays_with_what_it_builds_on() -> None:
    rules, drilled = RetentionRules(keep_days=7), {"F4", "I4-1", "I4-2"}
    assert not drilled & kept(plan_retention(weeks(5), rules, NOW))
    plan = plan_retention(weeks(5), rules, NOW, drilled=drilled)
    assert drilled <= kept(plan)
    assert "I4-3" in dropped(plan)  # the drill did not look at it
    reasons = {entry.id: [reason.code for reason in entry.reasons] for entry in plan.keep}
    assert all("last-drilled-chain" in reasons[one] for one in drilled)
    assert "F4" in kept(plan_retention(weeks(5), rules, NOW, drilled={"I4-2"}))


@given(days=st.integers(1, 40), drilled=st.sets(st.sampled_from(sorted(record.id for record in weeks(5)))))
def test_no_rule_drops_what_a_drill_proved(days: int, drilled: set[str]) -> None:
    plan = plan_retention(weeks(5), RetentionRules(keep_days=days), NOW, drilled=drilled)
    assert drilled <= kept(plan)
    assert kept(plan) >= kept(plan_retention(weeks(5), RetentionRules(keep_days=days), NOW))
