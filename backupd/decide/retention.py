"""Decides which backups stay and which may go: whole chains, and never the last good one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from backupd.decide import keep_rules
from backupd.decide.keeper import Keeper
from backupd.decide.reasons import Reason
from backupd.decide.spare_log import spare_logs
from backupd.errors import Refused
from backupd.model.records import BackupRecord
from backupd.model.rules import RetentionRules

_NOTHING: Mapping[str, str] = {}

# More than this share at once is rather a wrong policy than a wish.  One chain, and two backups more, are always
# free: a chain goes whole when its last point expires, which in a small archive is more than a quarter each time.
DROP_SHARE_MAX = 0.25
DROP_BESIDES_ONE_CHAIN = 2


@dataclass(frozen=True, slots=True)
class Kept:
    """A backup that stays, and every rule that wants it."""

    record: BackupRecord
    reasons: tuple[Reason, ...]

    @property
    def id(self) -> str:
        """The backup's id."""
        return self.record.id


@dataclass(frozen=True, slots=True)
class Dropped:
    """A backup that may go, and why nothing wants it; ``chain`` is the id of the full that it stands on."""

    record: BackupRecord
    reasons: tuple[Reason, ...]
    chain: str

    @property
    def id(self) -> str:
        """The backup's id."""
        return self.record.id


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """What a prune would do.

    ``keep`` is newest first.  ``drop`` is in the order to remove: what builds on another
    goes before it, the newest first.  ``keep_logs`` are the log objects that a kept point
    needs; ``drop_logs`` all other ones that a backup names now.  ``spare`` are, for each
    kept full that stays bare, the log objects before it that nothing kept leads to.
    """

    keep: tuple[Kept, ...]
    drop: tuple[Dropped, ...]
    keep_logs: frozenset[str]
    drop_logs: tuple[str, ...]
    spare: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def drop_share(self) -> float:
        """Which part of all backups would go, from 0 to 1."""
        total = len(self.keep) + len(self.drop)
        return len(self.drop) / total if total else 0.0

    @property
    def needs_a_yes(self) -> bool:
        """Whether so much would go that a person must say so: over a quarter, and over one chain and two more."""
        chains = Counter(gone.chain for gone in self.drop)
        free = max(chains.values(), default=0) + DROP_BESIDES_ONE_CHAIN
        return self.drop_share > DROP_SHARE_MAX and len(self.drop) > free


def plan_retention(
    backups: Sequence[BackupRecord],
    rules: RetentionRules,
    now: datetime,
    *,
    verified: Collection[str] = (),
    damaged: Mapping[str, str] = _NOTHING,
    in_use: Mapping[str, str] = _NOTHING,
    held: Mapping[str, str] = _NOTHING,
    drilled: Collection[str] = (),
    current_history: str | None = None,
) -> RetentionPlan:
    """Which backups stay and which may go.

    Promise: what a kept backup builds on is kept; the newest chain, the newest
    undamaged chain and the newest verified chain are kept whole; what a drill proved last is kept; what is kept and
    stands on a damaged full keeps the way to it from the sound full before; a backup from
    the future is kept, for then a clock is wrong and no age can be trusted.  Names
    decide nothing: what is newer is said by the log and then by the clock.

    Args:
        backups: every committed backup of one database.
        rules: what the policy wants.
        now: the moment to measure ages from.
        verified: ids whose data was read back and found good.
        damaged: ids that are known to be damaged, with a sentence.
        in_use: ids that something reads or builds on at this moment, with a sentence.
        held: ids that a hold keeps, with a sentence.
        drilled: ids of what was restored by the drill that proved the newest state.
        current_history: the history that the pair lives in now, where it is known: it is the newest one.

    Raises:
        Refused: the rules want nothing, or nothing would be left.
    """
    if rules.is_empty:
        raise Refused(
            "nothing is pruned by an empty retention",
            because="the policy's [retention] keeps nothing, so every backup would go",
            next_step="set keep_days or keep_fulls_min in the policy's [retention]",
        )
    keeper = Keeper(backups, damaged, current_history)
    keep_rules.keep_by_age(keeper, rules, now)
    keep_rules.keep_by_count(keeper, rules)
    keep_rules.keep_by_period(keeper, rules, now)
    keep_rules.keep_last_good(keeper, verified)
    keep_rules.keep_last_drilled(keeper, drilled)
    for code, sentences in (("in-use", in_use), ("held", held)):
        for record in keeper.newest_first:
            if record.id in sentences:
                keeper.keep([record], code, sentences[record.id])
    keep_rules.keep_what_leads_around_damage(keeper)
    keeper.keep_what_is_needed()
    if backups and not keeper.reasons:
        raise Refused(
            "this prune would leave nothing",
            because=f"no rule of the policy's [retention] wants any of the {len(backups)} backups",
            next_step="take a full first: backupctl backup DATABASE --type full",
        )
    return _plan(keeper, rules, now)


def _plan(keeper: Keeper, rules: RetentionRules, now: datetime) -> RetentionPlan:
    """The plan, once all reasons are known."""
    keep = [record for record in keeper.newest_first if record.id in keeper.reasons]
    drop = keeper.dependents_first(record for record in keeper.newest_first if record.id not in keeper.reasons)
    spare = spare_logs(keep)
    keep_logs = frozenset(
        stored.name for record in keep for stored in record.logs if stored.name not in spare.get(record.id, ())
    )
    named = dict.fromkeys(stored.name for record in (*drop, *keep) for stored in record.logs)
    return RetentionPlan(
        tuple(Kept(record, tuple(keeper.reasons[record.id])) for record in keep),
        tuple(_dropped(keeper, record, rules, now) for record in drop),
        keep_logs,
        tuple(name for name in named if name not in keep_logs),
        spare,
    )


def _dropped(keeper: Keeper, record: BackupRecord, rules: RetentionRules, now: datetime) -> Dropped:
    age_seconds = (now - record.covers_until).total_seconds()
    age = f"{age_seconds / 86400:.0f} days" if age_seconds >= 2 * 86400 else f"{age_seconds / 3600:.0f} hours"
    wanted = f"no rule wants it ({_in_words(rules)}), and nothing kept builds on it"
    reasons = [Reason("expired", f"its last point is {age} old; {wanted}")]
    full = keeper.full_of(record)
    if full is not None and full.id in keeper.reasons and full is not record:
        reasons.append(Reason("full-stays", f"its full {full.id} stays without it"))
    return Dropped(record, tuple(reasons), full.id if full is not None else record.id)


def _in_words(rules: RetentionRules) -> str:
    words = [f"the last {rules.keep_days} days"] if rules.keep_days else []
    if rules.keep_within:
        words.append(f"what is not older than {keep_rules.span(rules.keep_within)}")
    counts = (
        (rules.keep_fulls_min, "fulls"),
        (rules.keep_daily, "days"),
        (rules.keep_weekly_fulls, "weekly fulls"),
        (rules.keep_monthly_fulls, "monthly fulls"),
        (rules.keep_yearly_fulls, "yearly fulls"),
    )
    words.extend(f"the newest {count} {what}" for count, what in counts if count)
    return ", ".join(words)
