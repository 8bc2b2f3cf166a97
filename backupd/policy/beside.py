"""What policies beside each other must not share: a database, a file of a copy, a place of archives."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backupd.policy.problems import Problem
from backupd.policy.second_archive import shared_with_others

if TYPE_CHECKING:
    from backupd.policy.load import LoadedPolicy


class Neighbours:
    """Policies that were found good, alone and beside each other."""

    def __init__(self) -> None:
        self.good: dict[str, LoadedPolicy] = {}
        self._taken: dict[str, str] = {}

    def add(self, loaded: LoadedPolicy) -> Problem | None:
        """Take one more policy in, or say what it shares with one that was taken in before."""
        database = loaded.policy.database
        if database in self.good:
            first = self.good[database].path.name
            return loaded.problem(
                ["database"], f"{first} is the policy of {database} already; a database has one policy"
            )
        for name, place in loaded.policy.copies.items():
            if whose := self._taken.get(os.path.realpath(place.place)):
                sentence = f"{place.place} (copy {name}) is {whose} already; it can belong to one database only"
                return loaded.problem(["copies", name], sentence)
        if shared := shared_with_others(loaded.policy, self.good):
            return loaded.problem(["second_archive" if loaded.policy.second_archive else "archive"], shared)
        self.good[database] = loaded
        for name, place in loaded.policy.copies.items():
            self._taken[os.path.realpath(place.place)] = f"copy {name} of {database}"
        return None
