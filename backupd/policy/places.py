"""The two copies of a policy, and what keeps them two: other files, other servers."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from backupd.policy.conninfo import checked_conninfo, server_of
from backupd.policy.problems import ProblemsAt
from backupd.policy.sections import AbsolutePath, Section
from backupd.policy.value_words import missing

Conninfo = Annotated[str, AfterValidator(checked_conninfo)]

# What each engine's copies have, and what the keys of the others are for.
NEEDED = {"sqlite": ("path",), "postgres": ("conninfo", "data_directory")}


class CopyPlace(Section):
    """Where one of the two copies lives: a file (sqlite), or a server and its data directory (postgres)."""

    path: AbsolutePath | None = Field(
        default=None, description="sqlite: the database file of this copy, absolute, like /srv/orders/app.db."
    )
    conninfo: Conninfo | None = Field(
        default=None,
        description="postgres: how this copy's server is reached, like 'host=db1 port=5432 user=backupd'; no password.",
    )
    data_directory: AbsolutePath | None = Field(
        default=None,
        description="postgres: where this copy's files are on the host of its server, absolute, like /srv/pg/a.",
    )

    node: str | None = Field(
        default=None,
        min_length=1,
        description="Which node this copy lives on, by its [service] node; the schedule runs where the passive is. "
        "Empty: every node that has this policy may run it.",
    )

    @property
    def place(self) -> str:
        """The file or the directory that this copy is."""
        return self.path or self.data_directory or ""


def check_copies(engine: str, copies: Mapping[str, CopyPlace]) -> None:
    """Refuse copies that lack something or have another engine's keys, and two that are one.

    Raises:
        ProblemsAt: with every place.
    """
    if len(copies) != 2:
        written = ", ".join(f"[copies.{name}]" for name in copies) or "none"
        raise ValueError(
            f"a database has exactly two copies, like [copies.a] and [copies.b]; here are {len(copies)}: {written}"
        )
    problems = [problem for name, copy in copies.items() for problem in _key_problems(engine, name, copy)]
    if problems:
        raise ProblemsAt(problems)
    first, second = copies.values()
    if engine == "sqlite" and first.path == second.path:
        raise ValueError(f"both copies are the same file, {first.path}")
    if engine == "postgres":
        _check_two_servers(first, second)


def _key_problems(engine: str, name: str, copy: CopyPlace) -> list[tuple[tuple[str, ...], str]]:
    needed = NEEDED[engine]
    own = (*needed, "node")
    wrong = [key for key in CopyPlace.model_fields if key in copy.model_fields_set and key not in own]
    problems: list[tuple[tuple[str, ...], str]] = [
        ((name, key), f"a copy of the engine {engine} has no {key}; it has {' and '.join(needed)}") for key in wrong
    ]
    absent = [key for key in needed if getattr(copy, key) is None]
    return problems + [((name, key), missing(CopyPlace.model_fields[key])) for key in absent]


def _check_two_servers(first: CopyPlace, second: CopyPlace) -> None:
    one, other = first.data_directory or "", second.data_directory or ""
    if one == other:
        raise ValueError(f"both copies have the same data directory, {one}; a standby needs one of its own")
    for inner, outer in ((one, other), (other, one)):
        if posixpath.commonpath([inner, outer]) == outer:
            raise ValueError(f"the data directory {inner} lies inside the other copy's, {outer}")
    if server_of(first.conninfo or "") == server_of(second.conninfo or ""):
        _, host, port = server_of(first.conninfo or "")
        where = " ".join(word for word in (f"host={host}" if host else "", f"port={port}" if port else "") if word)
        raise ValueError(f"both copies are the same server ({where or 'the default one'}); a standby has its own")
