"""The two sides of a comparison of policies: a directory, or a folder as a commit of its repository has it."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.errors import ConfigInvalid
from backupd.policy.checkout import followed_commit, write_checkout
from backupd.policy.git_tree import Repository, commit_named, repository_of, toml_files
from backupd.policy.load import LoadedPolicy, load_policies

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Side:
    """Policies by their database, and what to call where they are from."""

    label: str
    policies: Mapping[str, LoadedPolicy]


def side_of_directory(directory: Path) -> Side:
    """The policies of a directory as they lie there. Raises ConfigInvalid."""
    return Side(str(directory), load_policies(directory))


def side_of_ref(folder: Path, ref: str) -> Side:
    """The policies that the folder has in another commit of its repository; none when it has no such folder.

    Raises:
        NotFound: it is in no repository, or there is no such commit.
        ConfigInvalid: a policy of that commit cannot be used; its files are named as git does, ``REF:path``.
    """
    repository, inside, in_force = _place_in_git(folder)
    commit = commit_named(repository, re.sub("^HEAD(?=$|[~^])", in_force, ref))
    label = f"{ref} ({commit[:12]})"
    files = toml_files(repository, commit)
    with tempfile.TemporaryDirectory(prefix="backupd-policies-") as temporary:
        root = Path(os.path.realpath(temporary)) / "commit"
        write_checkout(root, commit, repository.git_directory, files)
        there = root / inside
        if not there.is_dir():
            return Side(label, {})
        try:
            return Side(label, load_policies(there))
        except ConfigInvalid as error:
            fix = "compare with a commit whose policies are valid"
            raise named_as_git_does(error, root, ref, f"{inside} of {ref}", fix) from None


def _place_in_git(folder: Path) -> tuple[Repository, str, str]:
    """The repository, the folder's path in it, and what HEAD means: where policies are followed, what is in force."""
    real = Path(os.path.realpath(folder))
    if (followed := followed_commit(real)) is not None:
        inside = os.path.relpath(real, os.path.realpath(followed.root))
        return Repository(followed.git_directory), inside, followed.commit
    repository = repository_of(real)
    return repository, os.path.relpath(real, os.path.realpath(repository.work_tree or real)), "HEAD"


def named_as_git_does(error: ConfigInvalid, root: Path, ref: str, where: str, next_step: str) -> ConfigInvalid:
    """The same failure with files called ``REF:path`` instead of where they were laid out below ``root``."""

    def named(text: str) -> str:
        return text.replace(f"{root}/", f"{ref}:")

    problems = [{**one, "file": named(str(one["file"]))} for one in error.details.get("problems", [])]
    return ConfigInvalid(
        f"not every policy in {where} is valid", because=named(error.because), next_step=next_step, problems=problems
    )
