"""Terms of a lease as objects of the archive, and the small local file in which a watcher remembers one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from backupd.archive import names
from backupd.archive.envelope import malformed, unseal
from backupd.archive.objects import read_whole, twice
from backupd.archive.term import Sighting, Term, term_from_json
from backupd.durable import read_json, write_json
from backupd.errors import DamageFound, ObjectMissing
from backupd.ports import ObjectStore


def newest_term(store: ObjectStore, dbid: str) -> Term | None:
    """The term that counts now, for whoever only looks; None when there is none that can be read."""
    numbers = term_numbers(store, dbid)
    with suppress(DamageFound, ObjectMissing):
        return read_term(store, dbid, numbers[-1], None) if numbers else None
    return None


def read_term(store: ObjectStore, dbid: str, number: int, repository: str | None) -> Term:
    """One term. Raises DamageFound, ObjectMissing."""
    name = names.lease_name(dbid, number)
    content = twice(store, name, lambda: unseal("lease", name, read_whole(store, name), repository))
    try:
        return term_from_json(content)
    except (KeyError, ValueError, TypeError) as problem:
        raise malformed(name, problem) from problem


def term_numbers(store: ObjectStore, dbid: str) -> list[int]:
    """The numbers of all terms that are there, in order; one list."""
    found = (names.term_number_in(each.name) for each in store.list(names.leases_prefix(dbid)))
    return sorted(number for number in found if number is not None)


def read_sighting(path: Path) -> Sighting | None:
    """What was remembered there; None when nothing was, or it cannot be understood."""
    found = read_json(path) or {}
    try:
        return Sighting(int(found["term"]), str(found["nonce"]), str(found["boot_id"]), float(found["at_seconds"]))
    except (KeyError, ValueError, TypeError):
        return None


def write_sighting(path: Path, seen: Sighting) -> None:
    """Remember it there. Raises NotHealthy."""
    content = {"term": seen.number, "nonce": seen.nonce, "boot_id": seen.boot_id, "at_seconds": seen.at_seconds}
    write_json(path, content, durable=False, step_name="lease.seen")
