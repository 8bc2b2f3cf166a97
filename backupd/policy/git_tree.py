"""The TOML files of one commit, read from git's own objects: no checkout, no filters, nothing of the work tree."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backupd.errors import ConfigInvalid, NotFound
from backupd.policy.git_call import GitFailed, call_git

_FILES_MAX = 50_000
_BYTES_MAX = 64 * 2**20
_FILE_BYTES_MAX = 2**20
_SECONDS_MAX = 30.0
_FILE_MODES = {"100644", "100755", "100664"}
_LINK_MODE = "120000"


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository; ``work_tree`` is None for one that has none."""

    git_directory: Path
    work_tree: Path | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: str
    blob: str
    size_bytes: int
    name: str


def repository_of(folder: Path) -> Repository:
    """The repository around a folder. Raises NotFound: there is none, or git is missing."""
    try:
        said = call_git(["rev-parse", "--absolute-git-dir", "--show-toplevel"], directory=folder)
    except GitFailed as error:
        raise NotFound(
            f"{folder} is not in a git repository",
            because=error.because,
            next_step="name a directory to compare with, or put the policies into git",
        ) from None
    git_directory, _, work_tree = said.decode("utf-8", "surrogateescape").rstrip("\n").partition("\n")
    return Repository(Path(git_directory), Path(work_tree))


def commit_named(repository: Repository, ref: str) -> str:
    """The commit that a ref means. Raises NotFound: there is none."""
    try:
        # Without the option, a ref that begins with a dash would be one.
        asked = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"]
        return call_git(asked, git_directory=repository.git_directory).decode("ascii").strip()
    except (GitFailed, UnicodeDecodeError):
        raise NotFound(
            f"there is no commit {ref!r}",
            because=f"{repository.git_directory} knows no such branch, tag or commit, and it is no directory",
            next_step="use a name that git log knows, like HEAD, HEAD~1 or origin/main",
        ) from None


def toml_files(repository: Repository, commit: str) -> dict[str, bytes]:
    """Every ``*.toml`` of a commit, by its path; a link stands for the file of the commit that it names.

    Raises:
        ConfigInvalid: they are too many or too large for policies, or a link leads out of them.
        GitFailed: git cannot read the commit.
    """
    listed = call_git(
        ["ls-tree", "-r", "-z", "-l", "--full-tree", commit],
        git_directory=repository.git_directory,
        seconds_max=_SECONDS_MAX,
    )
    entries = [entry for line in listed.split(b"\0") if line and (entry := _entry(line)).name.endswith(".toml")]
    _refuse_too_much(entries, commit)
    wanted = [entry for entry in entries if entry.mode in _FILE_MODES or entry.mode == _LINK_MODE]
    blobs = _contents(repository, [entry.blob for entry in wanted])
    files = {entry.name: blobs[entry.blob] for entry in wanted if entry.mode != _LINK_MODE}
    plain = dict(files)
    for entry in wanted:
        if entry.mode == _LINK_MODE:
            target = blobs[entry.blob].decode("utf-8", "replace")
            named = posixpath.normpath(posixpath.join(posixpath.dirname(entry.name), target))
            if named not in plain:
                raise ConfigInvalid(
                    f"{entry.name} of the commit {commit[:12]} cannot be used",
                    because=f"it is a link to {target!r}, which is no TOML file of that commit",
                    next_step="put the file itself there, or include it",
                )
            files[entry.name] = plain[named]
    return files


def _entry(line: bytes) -> _Entry:
    facts, _, name = line.partition(b"\t")
    mode, _, blob, size = facts.decode("ascii").split()
    return _Entry(mode, blob, int(size) if size.isdecimal() else 0, name.decode("utf-8", "surrogateescape"))


def _refuse_too_much(entries: Sequence[_Entry], commit: str) -> None:
    large = [entry.name for entry in entries if entry.size_bytes > _FILE_BYTES_MAX]
    if large or len(entries) > _FILES_MAX or sum(entry.size_bytes for entry in entries) > _BYTES_MAX:
        raise ConfigInvalid(
            f"the commit {commit[:12]} is too large for policies",
            because=f"{large[0]} is over 1 MiB"
            if large
            else f"it has {len(entries)} TOML files, or over 64 MiB of them",
            next_step="keep policies in a repository of their own",
        )


def _contents(repository: Repository, blobs: Sequence[str]) -> dict[str, bytes]:
    if not blobs:
        return {}
    unique = list(dict.fromkeys(blobs))
    out = call_git(
        ["cat-file", "--batch"],
        git_directory=repository.git_directory,
        stdin="".join(f"{blob}\n" for blob in unique).encode(),
        seconds_max=_SECONDS_MAX,
    )
    found: dict[str, bytes] = {}
    at = 0
    for blob in unique:
        end = out.index(b"\n", at)
        words = out[at:end].split()
        if len(words) != 3 or words[1] != b"blob":
            because = f"git has no content for {blob}"
            raise GitFailed("the commit cannot be read whole", because=because, next_step="git fsck in that repository")
        size = int(words[2])
        found[blob] = out[end + 1 : end + 1 + size]
        at = end + 1 + size + 1
    return found
