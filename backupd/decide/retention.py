"""Decides which backups stay and which may go: whole chains, and never the last good one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from backupd.decide.reasons import Reason
from backupd.errors import Refused
from backupd.model.records import BackupRecord, BackupType
from backupd.model.rules import RetentionRules

_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Kept:
    """A backup that stays, and every rule that wants it."""

    id: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A backup that may go, and why nothing wants it."""

    id: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What a prune would do.

    ``drop`` is in the order to remove: what builds on another goes before it, the
    newest first.  ``keep_logs`` are the log objects that kept backups name;
    ``drop_logs`` those that only dropped backups name.
    """

    keep: tuple[Kept, ...]
    drop: tuple[Dropped, ...]
    keep_logs: frozenset[str]
    drop_logs: tuple[str, ...]

    @property
    def drop_share(self) -> float:
        """Which part of all backups would go, from 0 to 1."""
        total = len(self.keep) + len(self.drop)
        return len(self.drop) / total if total else 0.0


def plan_retention(
    backups: Sequence[BackupRecord],
    rules: RetentionRules,
    now: datetime,
    *,
    verified: Collection[str] = (),
    damaged: Mapping[str, str] = _NOTHING,
    in_use: Mapping[str, str] = _NOTHING,
) -> RetentionPlan:
    """Which backups stay and which may go.

    Promise: what a kept backup builds on is kept; the newest chain, the newest
    undamaged chain and the newest verified chain are kept whole; what is kept and
    stands on a damaged full keeps the way to it from the sound full before; a backup from
    the future is kept, for then a clock is wrong and no age can be trusted.

    Args:
        backups: every committed backup of one database.
        rules: what the policy wants.
        now: the moment to measure ages from.
        verified: ids whose data was read back and found good.
        damaged: ids that are known to be damaged, with a sentence.
        in_use: ids that something reads or builds on at this moment, with a sentence.

    Raises:
        Refused: the rules want nothing, or nothing would be left.
    """
    if rules.is_empty:
        raise Refused(
            "nothing is pruned by an empty retention",
            because="the policy's [retention] keeps nothing, so every backup would go",
            next_step="set keep_days or keep_fulls_min in the policy's [retention]",
        )
    keeper = _Keeper(backups)
    _keep_by_age(keeper, rules, now)
    _keep_by_count(keeper, rules, damaged)
    _keep_by_period(keeper, rules, damaged)
    _keep_last_good(keeper, verified, damaged)
    for record in backups:
        if record.id in in_use:
            keeper.keep([record], "in-use", in_use[record.id])
    _keep_what_leads_around_damage(keeper, damaged)
    keeper.keep_what_is_needed()
    if backups and not keeper.reasons:
        raise Refused(
            "this prune would leave nothing",
            because=f"no rule of the policy's [retention] wants any of the {len(backups)} backups",
            next_step="take a full first: backupctl backup DATABASE --type full",
        )
    return keeper.plan(rules)


class _Keeper:
    """Collects why each backup is kept, and knows who builds on whom."""

    def __init__(self, backups: Sequence[BackupRecord]) -> None:
        self.newest_first = sorted(backups, key=_age_key, reverse=True)
        self.known = {record.id: record for record in backups}
        self.children: dict[str, list[BackupRecord]] = {}
        for record in self.newest_first:
            if record.parent is not None:
                self.children.setdefault(record.parent, []).append(record)
        self.reasons: dict[str, list[Reason]] = {}

    def keep(self, records: Iterable[BackupRecord], code: str, sentence: str) -> None:
        """Keep each of ``records`` for one more reason."""
        for record in records:
            self.reasons.setdefault(record.id, []).append(Reason(code, sentence))

    def keep_chain(self, full: BackupRecord, code: str, sentence: str) -> None:
        """Keep a full and everything that builds on it."""
        self.keep(self.chain(full), code, sentence)

    def fulls(self) -> list[BackupRecord]:
        """Newest first; copies are not among them."""
        return [record for record in self.newest_first if record.type is BackupType.FULL]

    def chain(self, full: BackupRecord) -> list[BackupRecord]:
        """The full and all that builds on it, parents before children."""
        found, seen = [full], {full.id}
        for record in found:  # grows while it is walked
            for child in self.children.get(record.id, ()):
                if child.id not in seen:
                    seen.add(child.id)
                    found.append(child)
        return found

    def full_of(self, record: BackupRecord) -> BackupRecord | None:
        """The full that a backup stands on, itself if it is one; None for a copy, and when its chain has a hole."""
        seen: set[str] = set()
        found: BackupRecord | None = record
        while found is not None and found.type is not BackupType.FULL and found.id not in seen:
            seen.add(found.id)
            found = self.known.get(found.parent or "")
        return found if found is not None and found.type is BackupType.FULL else None

    def keep_what_is_needed(self) -> None:
        """A kept backup keeps all that it builds on."""
        for record in [self.known[kept] for kept in self.reasons]:
            seen = {record.id}
            parent = self.known.get(record.parent or "")
            while parent is not None and parent.id not in seen:
                seen.add(parent.id)
                needed = Reason("needed", f"{record.id} builds on it")
                reasons = self.reasons.setdefault(parent.id, [])
                if not any(reason.code == "needed" for reason in reasons):
                    reasons.append(needed)
                parent = self.known.get(parent.parent or "")

    def plan(self, rules: RetentionRules) -> RetentionPlan:
        """The plan, once all reasons are known."""
        keep = [record for record in self.newest_first if record.id in self.reasons]
        drop = self._dependents_first([record for record in self.newest_first if record.id not in self.reasons])
        keep_logs = frozenset(stored.name for record in keep for stored in record.logs)
        drop_logs = dict.fromkeys(stored.name for record in drop for stored in record.logs)
        expired = Reason("expired", f"no rule wants it ({_in_words(rules)}), and nothing kept builds on it")
        return RetentionPlan(
            tuple(Kept(record.id, tuple(self.reasons[record.id])) for record in keep),
            tuple(Dropped(record.id, (expired,)) for record in drop),
            keep_logs,
            tuple(name for name in drop_logs if name not in keep_logs),
        )

    def _dependents_first(self, records: list[BackupRecord]) -> list[BackupRecord]:
        """Newest first, but never a backup before one that builds on it, whatever the clocks said."""
        ordered: dict[str, BackupRecord] = {}
        for record in records:
            if record.id not in ordered:
                ordered.update((later.id, later) for later in reversed(self.chain(record)) if later.id not in ordered)
        return list(ordered.values())


def _age_key(record: BackupRecord) -> tuple[datetime, str]:
    return (record.covers_until, record.id)


def _keep_by_age(keeper: _Keeper, rules: RetentionRules, now: datetime) -> None:
    records = keeper.newest_first
    future = [r for r in records if max(r.started_at, r.finished_at, r.covers_until) > now]
    keeper.keep(future, "from-the-future", "it is from the future: a clock was or is wrong")
    if not rules.keep_days:
        return
    begin = _days_before(now, rules.keep_days)
    inside = [record for record in records if record.covers_until >= begin]
    keeper.keep(inside, "keep-days", f"it covers a point in the last {rules.keep_days} days")
    # The first point of the window is reached from the newest state before it.
    before = [r for r in records if r.covers_until < begin and r.type is not BackupType.COPY]
    keeper.keep(before[:1], "keep-days", f"the first of the last {rules.keep_days} days is reached from it")


def _days_before(now: datetime, days: int) -> datetime:
    try:
        return now.astimezone(UTC) - timedelta(days=days)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _keep_by_count(keeper: _Keeper, rules: RetentionRules, damaged: Mapping[str, str]) -> None:
    count = rules.keep_fulls_min
    good = [full for full in keeper.fulls() if full.id not in damaged]
    for full in good[:count]:
        keeper.keep_chain(full, "keep-fulls", f"it belongs to one of the newest {count} fulls")


def _keep_by_period(keeper: _Keeper, rules: RetentionRules, damaged: Mapping[str, str]) -> None:
    place: tzinfo = UTC if rules.timezone == "UTC" else ZoneInfo(rules.timezone)
    good = [full for full in keeper.fulls() if full.id not in damaged]
    periods: tuple[tuple[int, str, Callable[[datetime], tuple[int, ...]]], ...] = (
        (rules.keep_weekly_fulls, "week", lambda at: at.isocalendar()[:2]),
        (rules.keep_monthly_fulls, "month", lambda at: (at.year, at.month)),
        (rules.keep_yearly_fulls, "year", lambda at: (at.year,)),
    )
    for count, word, period_of in periods:
        newest: dict[tuple[int, ...], BackupRecord] = {}
        for full in good:
            newest.setdefault(period_of(full.covers_until.astimezone(place)), full)
        chosen = list(newest.values())[:count]
        sentence = f"it is the newest full of one of the last {count} {word}s"
        keeper.keep(chosen, f"keep-{word}s", sentence)


def _keep_last_good(keeper: _Keeper, verified: Collection[str], damaged: Mapping[str, str]) -> None:
    """The newest chain, the newest undamaged one, and the newest verified one stay whole, whatever the rules say."""
    fulls = keeper.fulls()
    good = [full for full in fulls if full.id not in damaged]
    proven = [full for full in good if full.id in verified]
    for full in fulls[:1]:
        keeper.keep_chain(full, "last-chain", "it belongs to the newest full, which is never pruned")
    if good[:1] != fulls[:1]:
        for full in good[:1]:
            keeper.keep_chain(full, "last-good-chain", "it belongs to the newest full that is not damaged")
    for full in proven[:1]:
        keeper.keep_chain(full, "last-verified-chain", "it belongs to the newest full that was verified")


def _keep_what_leads_around_damage(keeper: _Keeper, damaged: Mapping[str, str]) -> None:
    """What stands on a damaged full is reached from the sound full before it, by all the log between them."""
    sound = [full for full in keeper.fulls() if full.id not in damaged]
    said: set[str] = set()
    for record in [keeper.known[kept] for kept in keeper.reasons]:
        own = keeper.full_of(record)
        if own is None or own.id not in damaged:
            continue
        before = [full for full in sound if _reaches(full, own)]
        if not before:
            continue
        base = max(before, key=lambda full: full.log_end.offset)
        between = [
            other
            for other in keeper.newest_first
            if _reaches(base, other) and _reaches(other, record) and other.id not in said
        ]
        said.update(other.id for other in between)  # one such reason a backup is enough to read
        keeper.keep(
            between, "around-damage", f"{record.id} is reached from {base.id}, for its own full {own.id} is damaged"
        )


def _reaches(first: BackupRecord, second: BackupRecord) -> bool:
    return first.log_end.same_history(second.log_end) and first.log_end <= second.log_end


def _in_words(rules: RetentionRules) -> str:
    words = [f"the last {rules.keep_days} days"] if rules.keep_days else []
    counts = (
        (rules.keep_fulls_min, "fulls"),
        (rules.keep_weekly_fulls, "weekly fulls"),
        (rules.keep_monthly_fulls, "monthly fulls"),
        (rules.keep_yearly_fulls, "yearly fulls"),
    )
    words.extend(f"the newest {count} {what}" for count, what in counts if count)
    return ", ".join(words)
