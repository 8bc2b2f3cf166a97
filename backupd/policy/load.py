"""Finds and reads the service config and the policies, and refuses what is wrong with every reason at once."""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backupd.errors import ConfigInvalid, NotFound

if TYPE_CHECKING:  # pydantic is heavy; only reading a file needs it
    from backupd.policy.alarms import AlarmOptions
    from backupd.policy.problems import Problem
    from backupd.policy.schema import Policy
    from backupd.policy.service_file import ServiceOptions

CONFIG_VARIABLE = "BACKUPD_CONFIG"
_TOML_LINE = re.compile(r"\(at line (\d+)")
_FILE_BYTES_MAX = 2**20


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """The service on this node; all paths are absolute. ``options`` and ``alarms`` are tables as they stand."""

    path: Path
    state_dir: Path
    policies_dir: Path
    node: str
    options: ServiceOptions
    alarms: AlarmOptions


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy, the file that it came from, and what is odd about it without being wrong."""

    policy: Policy
    path: Path
    warnings: tuple[str, ...] = ()


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

    path = path.absolute()
    found, problems = _read(path, ServiceFile)
    if not isinstance(found, ServiceFile):
        raise _invalid(problems, f"the service config {path} cannot be used", f"edit {path}")
    service = found.service
    return ServiceConfig(
        path=path,
        state_dir=path.parent / service.state_dir,
        policies_dir=path.parent / service.policies_dir,
        node=service.node or socket.gethostname(),
        options=service,
        alarms=found.alarms,
    )


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

    _, problems = _parse(text, path, Policy)
    if problems:
        raise _invalid(problems, f"the policy for {path} would not be valid", "change the arguments of the command")


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
    from backupd.policy.problems import Problem
    from backupd.policy.second_archive import shared_with_others

    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".toml" and not path.name.startswith("."))
    except OSError as error:
        return {}, [Problem(directory, 0, "", _os_words(error))]
    good: dict[str, LoadedPolicy] = {}
    problems: list[Problem] = []
    taken: dict[str, str] = {}
    for path in paths:
        loaded, found = _read_policy(path)
        problems.extend(found)
        if loaded is None:
            continue
        database = loaded.policy.database
        if database in good:
            sentence = f"{good[database].path.name} is the policy of {database} already; a database has one policy"
            problems.append(Problem(path, 0, "database", sentence, database))
            continue
        shared = _file_of_another(loaded, taken)
        if shared:
            problems.append(Problem(path, 0, "copies", shared, database))
            continue
        if shared := shared_with_others(loaded.policy, good):
            problems.append(Problem(path, 0, "second_archive", shared, database))
            continue
        good[database] = loaded
        taken |= {
            os.path.realpath(one.place): f"copy {name} of {database}" for name, one in loaded.policy.copies.items()
        }
    return good, problems


def _file_of_another(loaded: LoadedPolicy, taken: Mapping[str, str]) -> str:
    """Which file or directory of this policy is a copy of another database already; empty when none is."""
    for name, place in loaded.policy.copies.items():
        if whose := taken.get(os.path.realpath(place.place)):
            return f"{place.place} (copy {name}) is {whose} already; it can belong to one database only"
    return ""


def _read_policy(path: Path) -> tuple[LoadedPolicy | None, list[Problem]]:
    from backupd.policy.problems import Problem
    from backupd.policy.same_file import same_file_on_disk
    from backupd.policy.schema import Policy
    from backupd.policy.second_archive import same_on_disk

    found, problems = _read(path, Policy)
    if not isinstance(found, Policy):
        return None, problems
    if (same := same_file_on_disk(found)) is not None:
        return None, [Problem(path, 0, "copies", same, found.database)]
    if one_place := same_on_disk(found):
        return None, [Problem(path, 0, "second_archive.url", one_place, found.database)]
    warnings = []
    if path.stem != found.database:
        warnings.append(f"{path.name} is the policy of {found.database}; {found.database}.toml would be easier to find")
    if found.retention_rules().is_empty:
        warnings.append(f"{path.name} has no [retention]: nothing is ever pruned")
    return LoadedPolicy(found, path, tuple(warnings)), []


def _read(path: Path, model: Any) -> tuple[object, list[Problem]]:
    """The file as ``model``, or None and every problem."""
    from backupd.policy.problems import Problem

    try:
        with path.open("rb") as file:
            raw = file.read(_FILE_BYTES_MAX + 1)
        if len(raw) > _FILE_BYTES_MAX:
            return None, [Problem(path, 0, "", "it is over 1 MiB; this is no policy")]
        text = raw.decode("utf-8")
    except OSError as error:
        return None, [Problem(path, 0, "", _os_words(error))]
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return None, [Problem(path, line, "", "it is not UTF-8 text")]
    return _parse(text, path, model)


def _parse(text: str, path: Path, model: Any) -> tuple[object, list[Problem]]:
    from pydantic import ValidationError

    from backupd.policy.problems import Problem, problems_of

    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        match = _TOML_LINE.search(str(error))
        line = int(match[1]) if match is not None else text.count("\n") + 1
        return None, [Problem(path, line, "", f"it is not TOML: {error}")]
    except RecursionError:
        return None, [Problem(path, 0, "", "it is not TOML: nested too deep")]
    try:
        return model.model_validate(content), []
    except ValidationError as error:
        return None, problems_of(error, model, file=path, text=text, content=content)


def _os_words(error: OSError) -> str:
    return f"it cannot be read: {(error.strerror or str(error)).lower()}"
