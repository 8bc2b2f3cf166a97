"""Whether a commit carries a good signature of somebody who may sign; nobody else's keys and settings have a say."""

from __future__ import annotations

from pathlib import Path

from backupd.errors import Refused
from backupd.policy.git_call import GitFailed, call_git
from backupd.policy.policies_table import GPG

_SECONDS_MAX = 30.0
_NO_SUCH_PROGRAM = "false"


def refuse_unsigned(git_directory: Path, commit: str, signed_by: str) -> None:
    """Let a commit pass only with a good signature.

    Args:
        git_directory: the repository.
        commit: its full name.
        signed_by: a file of allowed signers (ssh), or ``gpg:`` and a GnuPG home.

    Raises:
        Refused: it has no signature, a bad one, or one of somebody else.
    """
    if signed_by.startswith(GPG):
        home = signed_by.removeprefix(GPG)
        there, settings = Path(home).is_dir(), {"GNUPGHOME": home}
        options = ["-c", f"gpg.ssh.program={_NO_SUCH_PROGRAM}"]
    else:
        there, settings = Path(signed_by).is_file(), {}
        options = ["-c", f"gpg.ssh.allowedSignersFile={signed_by}"]
        # A signature of the other kind would be judged by the keyring of whoever runs this.
        options += ["-c", f"gpg.openpgp.program={_NO_SUCH_PROGRAM}"]
    options += ["-c", f"gpg.x509.program={_NO_SUCH_PROGRAM}"]
    if not there:
        raise Refused(
            f"the signature of commit {commit[:12]} cannot be checked",
            because=f"there is no {signed_by}",
            next_step="write it, or correct policies.signed_by in backupd.toml",
        )
    try:
        call_git(
            [*options, "verify-commit", commit],
            git_directory=git_directory,
            settings=settings,
            seconds_max=_SECONDS_MAX,
        )
    except GitFailed as error:
        raise Refused(
            f"commit {commit[:12]} is not signed by anybody who may",
            because=_because(error),
            next_step=f"sign it with a key that {signed_by} has, and push; until then the last good policies stay",
        ) from None


def _because(error: GitFailed) -> str:
    """Git says nothing at all where there is no signature."""
    if "ended with status" in error.because:
        return "it has no signature, or one of another kind"
    return f"git says: {error.because}"
