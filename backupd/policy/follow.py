"""Follows the policies of a git repository: a commit comes into force whole and checked, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, Busy, ConfigInvalid, NotHealthy, Refused
from backupd.model.alarm import Alarm
from backupd.policy.checkout import CURRENT, FOLLOWED, followed_commit, followed_directory, write_checkout
from backupd.policy.git_call import GitFailed, call_git
from backupd.policy.git_tree import Repository, commit_named, toml_files
from backupd.policy.load import load_policies
from backupd.policy.sides import named_as_git_does
from backupd.policy.signature import refuse_unsigned

if TYPE_CHECKING:
    from backupd.policy.load import ServiceConfig
    from backupd.policy.policies_table import PolicyRepository

_FETCH_SECONDS_MAX = 180.0
_SEEN_REF = "refs/backupd/seen"
_KEPT_MAX = 3  # commits that stay laid out, for whoever still reads an older one
_DIRECTORY, _REPOSITORY, _COMMITS = 0o700, "repository.git", "commits"


@dataclass(frozen=True, slots=True)
class Followed:
    """What a fetch has found, and what is in force now.

    Attributes:
        commit: the commit in force now; None when there never was a good one.
        before: the one that was in force before.
        newest: the newest one that was seen, also when it was refused; None when the repository could not be asked.
        problem: why ``newest`` is not in force, or why it is not known; None when all is well.
    """

    commit: str | None
    before: str | None
    newest: str | None
    problem: BackupdError | None = None

    @property
    def changed(self) -> bool:
        """Whether other policies are in force than before."""
        return self.commit != self.before

    def alarm(self) -> Alarm | None:
        """The alarm that lasts while the newest commit is not in force."""
        if self.problem is None:
            return None
        still = f"those of commit {self.commit[:12]} stay in force" if self.commit else "no policies are in force"
        sentence = f"policies are not followed: {self.problem.problem} ({self.problem.because}); {still}"
        return Alarm("", "policies-not-followed", sentence, next_step=self.problem.next_step)

    def to_json(self) -> dict[str, str | bool | None]:
        """The form that ``policy fetch --json`` shows."""
        problem = self.problem
        return {
            "commit": self.commit,
            "before": self.before,
            "newest": self.newest,
            "changed": self.changed,
            "problem": problem.problem if problem else None,
            "because": problem.because if problem else None,
            "next": problem.next_step if problem else None,
        }


class PolicyFollower:
    """Fetches one ref of one repository, and switches to a commit of it when all its policies are good."""

    def __init__(self, options: PolicyRepository, state_dir: Path) -> None:
        self._options = options
        self._state_dir = state_dir
        self._place = state_dir / FOLLOWED
        self._git_directory = self._place / _REPOSITORY
        self._next_at: float | None = None

    @property
    def policies_dir(self) -> Path:
        """The directory of the policies in force now."""
        return followed_directory(self._state_dir, self._options.path)

    def in_force(self) -> str | None:
        """The commit in force; None before the first good one."""
        checkout = followed_commit(self.policies_dir)
        return checkout.commit if checkout is not None else None

    def tick(self, monotonic_seconds: float) -> Followed | None:
        """Fetch when it is time again, at once the first time; None when it is not. Never raises BackupdError."""
        if self._next_at is not None and monotonic_seconds < self._next_at:
            return None
        self._next_at = monotonic_seconds + self._options.every
        return self.fetch()

    def fetch(self, *, switch: bool = True) -> Followed:
        """Ask the repository, check what is new, and let it come into force; never raises BackupdError.

        Whatever goes wrong, the policies that were in force stay so.  Without ``switch`` all is
        fetched and checked, and nothing comes into force.
        """
        before, newest = self.in_force(), None
        try:
            with self._alone():
                newest = self._fetch_newest()
                self._refuse(before, newest)
                if newest != before or not self.policies_dir.is_dir():
                    self._bring_in(newest, switch=switch)
        except BackupdError as error:
            return Followed(self.in_force(), before, newest, error)
        except OSError as error:
            because = f"{error.filename or self._place}: {(error.strerror or str(error)).lower()}"
            problem = NotHealthy("policies cannot be written", because=because, next_step=f"look at {self._place}")
            return Followed(self.in_force(), before, newest, problem)
        return Followed(self.in_force(), before, newest)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if self._state_dir.exists() and self._state_dir.stat().st_uid != os.geteuid():
            # What root fetches is root's alone to read, and the service would be without policies.
            raise Refused(
                "policies are fetched by the service's user only",
                because=f"{self._state_dir} belongs to user {self._state_dir.stat().st_uid}, this is {os.geteuid()}",
                next_step=f"sudo -u '#{self._state_dir.stat().st_uid}' backupctl policy fetch",
            )
        self._place.mkdir(mode=_DIRECTORY, parents=True, exist_ok=True)
        with open(self._place / "lock", "ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(
                    "policies are being fetched already",
                    because=f"another process holds {self._place / 'lock'}",
                    next_step="wait for it, or look which one: fuser -v " + str(self._place / "lock"),
                ) from None
            yield

    def _fetch_newest(self) -> str:
        if not (self._git_directory / "HEAD").exists():
            # Without the template no hook or setting of this host comes in.
            call_git(["init", "--quiet", "--bare", "--template=", str(self._git_directory)])
        options = self._options
        ssh = os.environ.get("GIT_SSH_COMMAND", "ssh")
        settings = {
            "GIT_ALLOW_PROTOCOL": "https:ssh:file",
            "GIT_SSH_COMMAND": f"{ssh} -oBatchMode=yes -oConnectTimeout=20",
        }
        low_speed = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=30")
        fetch = ("fetch", "--quiet", "--force", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
        try:
            call_git(
                [
                    *("-c", "gc.autoDetach=false", *low_speed, *fetch),
                    *("--end-of-options", options.repository, f"+{options.ref}:{_SEEN_REF}"),
                ],
                git_directory=self._git_directory,
                settings=settings,
                seconds_max=_FETCH_SECONDS_MAX,
            )
        except GitFailed as error:
            raise NotHealthy(
                f"{options.ref} of {options.repository} cannot be fetched",
                because=error.because,
                next_step=f"as the user that runs backupd: git ls-remote {options.repository} {options.ref}",
            ) from None
        return commit_named(Repository(self._git_directory), _SEEN_REF)

    def _refuse(self, before: str | None, newest: str) -> None:
        """Refuse what is not signed as wanted; and, where signatures count, what goes back to older policies."""
        signed_by = self._options.signed_by
        if signed_by is None:
            return
        refuse_unsigned(self._git_directory, newest, signed_by)
        if before is None or before == newest:
            return
        try:
            call_git(["merge-base", "--is-ancestor", before, newest], git_directory=self._git_directory)
        except GitFailed:
            # A good signature of last year is still a good one; a server could bring it back.
            raise Refused(
                f"commit {newest[:12]} does not follow the one in force",
                because=f"{before[:12]} is not among its ancestors: the branch was rewritten or set back",
                next_step="push a signed commit on top; or, to take it all the same: "
                f"rm {self._place / CURRENT} && backupctl policy fetch",
            ) from None

    def _bring_in(self, commit: str, *, switch: bool) -> None:
        """Lay the commit out, judge its policies, and only then let it be the one in force."""
        commits = self._place / _COMMITS
        laid_out, beside = commits / commit, commits / f".{commit}.new"
        for leftover in (beside, *(() if self._whole(laid_out, commit) else (laid_out,))):
            shutil.rmtree(leftover, ignore_errors=True)
        if not laid_out.exists():
            repository = Repository(self._git_directory)
            write_checkout(beside, commit, self._git_directory, toml_files(repository, commit))
            _sync_directories(beside)
            os.rename(beside, laid_out)
            _sync(commits)
        try:
            self._judge(laid_out, commit)
        except BackupdError:
            self._forget(laid_out)
            raise
        if not switch:
            self._forget(laid_out)
            return
        link = self._place / f".{CURRENT}.new"
        link.unlink(missing_ok=True)
        os.symlink(f"{_COMMITS}/{commit}", link)
        os.replace(link, self._place / CURRENT)
        _sync(self._place)
        self._forget_older(commit)

    def _whole(self, laid_out: Path, commit: str) -> bool:
        """It is renamed to its name when all of it is on disk; what it says of itself is asked all the same."""
        found = followed_commit(laid_out)
        return found is not None and found.commit == commit and found.root == laid_out

    def _judge(self, root: Path, commit: str) -> None:
        inside = self._options.path
        where = f"{inside} of commit {commit[:12]}"
        if not (root / inside).is_dir() or not any((root / inside).glob("*.toml")):
            raise ConfigInvalid(
                f"there are no policies in {where}",
                because="the folder is not there or holds no *.toml file; without policies nothing is backed up",
                next_step="correct policies.path in backupd.toml, or push the policies there",
            )
        try:
            load_policies(root / inside)
        except ConfigInvalid as error:
            fix = "correct them and push; until then the last good policies stay in force"
            raise named_as_git_does(error, root, commit[:12], where, fix) from None

    def _forget(self, laid_out: Path) -> None:
        """Remove what is not in force; what is may be there and bad, when the config names another folder of it."""
        if laid_out.name != self.in_force():
            shutil.rmtree(laid_out, ignore_errors=True)

    def _forget_older(self, commit: str) -> None:
        commits = self._place / _COMMITS
        others = [one for one in commits.iterdir() if one.name != commit]
        others.sort(key=lambda one: one.stat().st_mtime, reverse=True)
        for old in others[_KEPT_MAX - 1 :]:
            shutil.rmtree(old, ignore_errors=True)


def follower_of(config: ServiceConfig) -> PolicyFollower | None:
    """What keeps this node's policies up to date; None when they just lie in a directory."""
    return None if config.follow is None else PolicyFollower(config.follow, config.state_dir)


def _sync(directory: Path) -> None:
    """After this, names made in it survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directories(root: Path) -> None:
    for directory, _, _ in os.walk(root):
        _sync(Path(directory))
