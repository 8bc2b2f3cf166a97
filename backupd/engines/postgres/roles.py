"""Judges who is active and who is passive, and whether two servers are one pair at all; pure, from facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backupd.engines.postgres.cluster import PAGE_BYTES
from backupd.engines.postgres.facts import ServerFacts
from backupd.engines.postgres.timelines import Ancestry, parse_history
from backupd.engines.postgres.wal_names import lsn_text
from backupd.errors import BackupdError, ConfigInvalid, DamageFound, NotHealthy, Refused
from backupd.model.pair import CopyRole

Seen = Mapping[str, ServerFacts | BackupdError]


@dataclass(frozen=True, slots=True)
class PgPair:
    """The two copies with their roles, by name; a copy that did not answer has an error in place of facts.

    ``history`` is the active's timeline (the passive's while the active is away).
    ``because`` says in a sentence how the roles were found.
    """

    database: str
    active: str
    passive: str
    facts: Mapping[str, ServerFacts]
    errors: Mapping[str, BackupdError]
    history: str
    ancestry: Ancestry
    because: str

    @property
    def active_facts(self) -> ServerFacts | None:
        """What the active says; None when it does not answer."""
        return self.facts.get(self.active)

    @property
    def passive_facts(self) -> ServerFacts | None:
        """What the passive says; None when it does not answer."""
        return self.facts.get(self.passive)

    def need_both(self) -> tuple[ServerFacts, ServerFacts]:
        """The facts of active and passive. Raises the error of the one that did not answer."""
        for name in (self.active, self.passive):
            if name in self.errors:
                raise self.errors[name]
        return self.facts[self.active], self.facts[self.passive]

    def name_of(self, role: CopyRole) -> str:
        """The copy in that role."""
        return self.active if role is CopyRole.ACTIVE else self.passive

    def need(self, source: CopyRole) -> ServerFacts:
        """The facts of the copy that a run reads: of the active by itself, of the passive only beside the active.

        Raises the error of the one that did not answer.
        """
        if source is CopyRole.PASSIVE:
            return self.need_both()[1]
        if self.active in self.errors:
            raise self.errors[self.active]
        return self.facts[self.active]


def judge_pair(database: str, copies: Seen, *, must_seed: bool = False) -> PgPair:
    """Who is who, from what both copies say now; one of them may be away.

    With ``must_seed`` the passive is known to be left behind (a restore has overtaken
    it), so that it may have gone another way than the active.

    A copy that answers in recovery is the passive, and the other one is taken
    for the active, and the other way round.

    Raises:
        Refused: two primaries, two standbys, other clusters, or histories that have parted.
        ConfigInvalid: a copy's role may not read what is needed, or its pages have another size.
        NotHealthy: neither copy answers.
    """
    facts = {name: seen for name, seen in copies.items() if not isinstance(seen, BackupdError)}
    errors = {name: seen for name, seen in copies.items() if isinstance(seen, BackupdError)}
    if not facts:
        raise _nobody(database, errors)
    for name, seen in facts.items():
        _check_pages(name, seen)
    active, passive, because = _roles(database, list(copies), facts)
    known = facts.get(active) or facts[passive]
    ancestry = ancestry_of(known)
    if len(facts) == 2:
        _check_same_cluster(database, facts)
        if not must_seed:
            _check_histories(active, facts[active], passive, facts[passive], ancestry)
    return PgPair(database, active, passive, facts, errors, known.history, ancestry, because)


def ancestry_of(facts: ServerFacts) -> Ancestry:
    """Where each ancestor of the server's timeline ended; empty where that cannot be read."""
    try:
        return parse_history(facts.history_text)
    except DamageFound:
        return ()


def _nobody(database: str, errors: Mapping[str, BackupdError]) -> BackupdError:
    told = list(errors.values())
    if any(isinstance(each, ConfigInvalid) for each in told):
        return next(each for each in told if isinstance(each, ConfigInvalid))
    return NotHealthy(
        f"neither copy of {database} answers",
        because="; ".join(f"{name}: {each.because}" for name, each in errors.items()) or "the policy names none",
        next_step="start the servers, or correct host and port in the policy",
    )


def _check_pages(name: str, facts: ServerFacts) -> None:
    if facts.block_bytes != PAGE_BYTES:
        raise ConfigInvalid(
            f"copy {name} cannot be backed up",
            because=f"its server was built with pages of {facts.block_bytes} bytes; backupd knows {PAGE_BYTES}",
            next_step="use a server that was built with the usual page size",
        )


def _roles(database: str, names: Sequence[str], facts: Mapping[str, ServerFacts]) -> tuple[str, str, str]:
    primaries = [name for name in facts if not facts[name].in_recovery]
    standbys = [name for name in facts if facts[name].in_recovery]
    if len(primaries) > 1:
        raise _two_primaries(database, primaries, facts)
    if len(standbys) > 1:
        raise Refused(
            f"{database} has no active copy",
            because=f"{' and '.join(standbys)} are both in recovery",
            next_step="promote the one that shall be active: SELECT pg_promote()",
        )
    if primaries:
        other = next(name for name in names if name != primaries[0])
        return primaries[0], other, f"{primaries[0]} is not in recovery"
    other = next(name for name in names if name != standbys[0])
    return other, standbys[0], f"{standbys[0]} is in recovery"


def _two_primaries(database: str, primaries: Sequence[str], facts: Mapping[str, ServerFacts]) -> Refused:
    first, second = primaries
    if facts[first].system_identifier != facts[second].system_identifier:
        return _strangers(database, facts)
    newer = max(primaries, key=lambda name: facts[name].timeline)
    older = second if newer == first else first
    if facts[newer].timeline == facts[older].timeline:
        remedy = "make one of them a standby of the other again"
    else:
        remedy = f"stop {older}, and make it a standby of {newer} (pg_rewind, or backupctl copy seed)"
    return Refused(
        f"{database} has two active copies",
        because=f"{first} is a primary on timeline {facts[first].timeline}, "
        f"{second} is a primary on timeline {facts[second].timeline}",
        next_step=remedy,
        two_actives=True,
    )


def _check_same_cluster(database: str, facts: Mapping[str, ServerFacts]) -> None:
    if len({seen.system_identifier for seen in facts.values()}) > 1:
        raise _strangers(database, facts)


def _strangers(database: str, facts: Mapping[str, ServerFacts]) -> Refused:
    told = " and ".join(f"{name} has system identifier {seen.system_identifier}" for name, seen in facts.items())
    return Refused(
        f"the copies of {database} are not one pair",
        because=told,
        next_step="name a primary and its own standby in the policy",
    )


def _check_histories(
    active: str, active_facts: ServerFacts, passive: str, passive_facts: ServerFacts, ancestry: Ancestry
) -> None:
    """The passive must be able to follow: on the active's timeline, or on an ancestor, not past where that ended."""
    ours, theirs = active_facts.timeline, passive_facts.timeline
    reached = max(passive_facts.replay_lsn or 0, passive_facts.receive_lsn or 0)
    if theirs > ours:
        raise _parted(active, passive, f"{passive} follows timeline {theirs}, and {active} writes timeline {ours}")
    if theirs < ours and ancestry:
        ended = next((each.offset for each in ancestry if each.history == str(theirs)), None)
        if ended is None:
            because = f"{passive} is on timeline {theirs}, which timeline {ours} of {active} does not come from"
            raise _parted(active, passive, because)
        if reached > ended:
            because = f"timeline {theirs} ended at {lsn_text(ended)}, and {passive} went on to {lsn_text(reached)}"
            raise _parted(active, passive, because)
    # While it streams, the server itself sees to it; the two were not asked at the very same moment.
    if theirs == ours and passive_facts.receiver is None and reached > (active_facts.insert_lsn or 0):
        written = lsn_text(active_facts.insert_lsn or 0)
        raise _parted(active, passive, f"{passive} stands at {lsn_text(reached)}, and {active} wrote up to {written}")


def _parted(active: str, passive: str, because: str) -> Refused:
    return Refused(
        f"{passive} is no standby of {active} any more",
        because=because,
        next_step=f"make {passive} anew from {active} (pg_rewind, or backupctl copy seed)",
    )
