"""Finds and reads the service config and the policies, and refuses what is wrong with every reason at once."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backupd.errors import ConfigInvalid, NotFound

if TYPE_CHECKING:  # pydantic is heavy; only reading a file needs it
    from backupd.policy.alarms import AlarmOptions
    from backupd.policy.policies_table import PolicyRepository
    from backupd.policy.problems import Problem
    from backupd.policy.schema import Policy
    from backupd.policy.service_file import ServiceOptions
    from backupd.policy.written import Written

CONFIG_VARIABLE = "BACKUPD_CONFIG"


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """The service on this node; all paths are absolute. ``options`` and ``alarms`` are tables as they stand.

    ``follow`` is the repository that policies are fetched from; ``policies_dir`` is then
    of the commit that was in force when this was read, and its files never change.
    """

    path: Path
    state_dir: Path
    policies_dir: Path
    node: str
    options: ServiceOptions
    alarms: AlarmOptions
    follow: PolicyRepository | None = None


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy, the file that it came from, and what is odd about it without being wrong.

    ``written`` is how it was written, with the files that it includes; None when it never was a file.
    Two are equal when their policies are: where and how one is written changes nothing that a run does.
    """

    policy: Policy
    path: Path = field(compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)
    written: Written | None = field(default=None, compare=False, repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """Its own file, and those that it includes."""
        return (self.path,) if self.written is None else self.written.paths

    def problem(self, parts: Sequence[str], sentence: str) -> Problem:
        """What is wrong at a place of this policy, with the file and line where it is written."""
        from backupd.policy.problems import Problem

        file, line = (self.path, 0) if self.written is None else self.written.where(parts)
        return Problem(file, line, ".".join(parts), sentence, self.policy.database)


@dataclass(frozen=True, slots=True)
class Setup:
    """The service config with the policies of all its databases, by the database's name."""

    config: ServiceConfig
    policies: dict[str, LoadedPolicy]


def find_config(option: str | Path | None, environ: Mapping[str, str]) -> Path:
    """The service config's path: ``--config``, or ``BACKUPD_CONFIG``.

    Raises:
        ConfigInvalid: neither is given, or there is no such file.
    """
    named = str(option) if option is not None else environ.get(CONFIG_VARIABLE, "")
    if not named:
        raise ConfigInvalid(
            "no service config is given",
            because=f"there is neither --config nor {CONFIG_VARIABLE}",
            next_step="give --config DIR/backupd.toml; backupctl init DIR writes a first one",
        )
    path = Path(named).absolute()
    try:
        if path.is_dir():
            path /= "backupd.toml"
        there = path.exists()
    except OSError as error:
        raise ConfigInvalid(
            f"the service config {path} cannot be read",
            because=_os_words(error),
            next_step="run this as the user that owns the config (init makes its directory private)",
        ) from None
    if not there:
        raise ConfigInvalid(
            f"the service config {path} cannot be used",
            because="there is no such file",
            next_step=f"backupctl init {path.parent} writes a first one",
        )
    return path


def load_service_config(path: Path) -> ServiceConfig:
    """Read ``backupd.toml``; relative paths in it start at its own directory.

    Raises:
        ConfigInvalid: with every problem of the file.
    """
    from backupd.policy.service_file import ServiceFile
    from backupd.policy.written import read_written

    path = path.absolute()
    found, problems = _validated(*read_written(path), ServiceFile)
    if not isinstance(found, ServiceFile):
        raise _invalid(problems, f"the service config {path} cannot be used", f"edit {path}")
    service = found.service
    config = ServiceConfig(
        path=path,
        state_dir=path.parent / service.state_dir,
        policies_dir=path.parent / service.policies_dir,
        node=service.node or socket.gethostname(),
        options=service,
        alarms=found.alarms,
        follow=found.policies,
    )
    return followed_anew(config)


def followed_anew(config: ServiceConfig) -> ServiceConfig:
    """The same config with the policies that are in force now, where a repository is followed."""
    if config.follow is None:
        return config
    from backupd.policy.checkout import followed_directory

    return replace(config, policies_dir=followed_directory(config.state_dir, config.follow.path))


def load_policy(path: Path) -> LoadedPolicy:
    """Read one policy file.

    Raises:
        ConfigInvalid: with every problem of the file.
    """
    loaded, problems = _read_policy(path)
    if loaded is None:
        raise _invalid(problems, f"the policy {path} is not valid", f"edit {path}, then backupctl policy check {path}")
    return loaded


def check_policy_text(text: str, path: Path) -> None:
    """Check the text of a policy that would be written to ``path``.

    Raises:
        ConfigInvalid: with every problem of the text.
    """
    from backupd.policy.schema import Policy
    from backupd.policy.written import parse_written

    _, problems = _validated(*parse_written(text, path), Policy)
    if problems:
        raise _invalid(problems, f"the policy for {path} would not be valid", "change the arguments of the command")


def policy_files(directory: Path) -> list[Path]:
    """The files of a directory that are policies: every ``*.toml`` that is not hidden; folders in it are not entered.

    Raises:
        OSError: it cannot be read.
    """
    return sorted(path for path in directory.iterdir() if path.suffix == ".toml" and not path.name.startswith("."))


def load_policies(directory: Path) -> dict[str, LoadedPolicy]:
    """Read every ``*.toml`` of a directory, by the database's name.

    Raises:
        ConfigInvalid: with every problem of every file; two policies of one database are one.
    """
    good, problems = _read_directory(directory)
    if problems:
        raise _invalid(problems, f"not every policy in {directory} is valid", "edit them, then backupctl policy check")
    return good


def load_setup(config_path: Path) -> Setup:
    """The service config and all its policies. Raises ConfigInvalid."""
    config = load_service_config(config_path)
    return Setup(config, load_policies(config.policies_dir))


def load_policy_of(config: ServiceConfig, database: str) -> LoadedPolicy:
    """The policy of one database; a problem in another database's file does not stop it.

    Raises:
        NotFound: no policy names the database.
        ConfigInvalid: its policy is not valid, or it has two.
    """
    from backupd.policy.skim import stands_alone

    own = config.policies_dir / f"{database}.toml"
    loaded, _ = _read_policy(own) if own.is_file() else (None, [])
    # A node may have ten thousand policies: a command about one database only skims the others.
    if loaded is not None and loaded.policy.database == database and stands_alone(own, loaded.policy):
        return loaded
    good, problems = _read_directory(config.policies_dir)
    about_it = [problem for problem in problems if problem.file == own or problem.database == database]
    if about_it:
        next_step = f"edit {about_it[0].file}, then backupctl policy check {about_it[0].file}"
        raise _invalid(about_it, f"the policy of {database} is not valid", next_step)
    if database in good:
        return good[database]
    known = ", ".join(sorted(good)) or "none"
    because = f"the policies in {config.policies_dir} are about: {known}"
    if problems:
        because += f" (and not readable: {'; '.join(str(problem) for problem in problems)})"
    raise NotFound(
        f"there is no database {database}", because=because, next_step=f"write {own}, or use a name of the list"
    )


def _invalid(problems: list[Problem], what: str, next_step: str) -> ConfigInvalid:
    from backupd.policy.problems import config_invalid

    return config_invalid(problems, what, next_step)


def _read_directory(directory: Path) -> tuple[dict[str, LoadedPolicy], list[Problem]]:
    from backupd.policy.beside import Neighbours
    from backupd.policy.checkout import NOT_FETCHED
    from backupd.policy.problems import Problem

    try:
        paths = policy_files(directory)
    except OSError as error:
        if directory.name == NOT_FETCHED:
            sentence = "nothing was fetched yet from the repository of [policies]: backupctl policy fetch"
            return {}, [Problem(directory, 0, "", sentence)]
        return {}, [Problem(directory, 0, "", f"it cannot be read: {_os_words(error)}")]
    neighbours = Neighbours()
    problems: list[Problem] = []
    for path in paths:
        loaded, found = _read_policy(path)
        problems.extend(found)
        if loaded is not None and (shared := neighbours.add(loaded)) is not None:
            problems.append(shared)
    return neighbours.good, problems


def _read_policy(path: Path) -> tuple[LoadedPolicy | None, list[Problem]]:
    from backupd.policy.same_file import same_file_on_disk
    from backupd.policy.schema import Policy
    from backupd.policy.second_archive import same_on_disk
    from backupd.policy.written import read_written

    written, problems = read_written(path)
    found, problems = _validated(written, problems, Policy)
    if written is None or not isinstance(found, Policy):
        return None, problems
    loaded = LoadedPolicy(found, path, (), written)
    if (same := same_file_on_disk(found)) is not None:
        return None, [loaded.problem(["copies"], same)]
    if one_place := same_on_disk(found):
        return None, [loaded.problem(["second_archive", "url"], one_place)]
    warnings = []
    if path.stem != found.database:
        warnings.append(f"{path.name} is the policy of {found.database}; {found.database}.toml would be easier to find")
    if found.retention_rules().is_empty:
        warnings.append(f"{path.name} has no [retention]: nothing is ever pruned")
    return replace(loaded, warnings=tuple(warnings)), []


def _validated(written: Written | None, problems: list[Problem], model: Any) -> tuple[object, list[Problem]]:
    """What was written as ``model``, or None and every problem."""
    from pydantic import ValidationError

    from backupd.policy.problems import problems_of

    if written is None:
        return None, problems
    try:
        return model.model_validate(written.content()), []
    except ValidationError as error:
        return None, problems_of(error, model, written)


def _os_words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
