"""The keys that ``init --encryption`` makes, and what it says about them."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from backupd.cli.keys import first_line
from backupd.errors import UsageProblem

MODES = ("age", "passphrase", "none")


@dataclass(frozen=True, slots=True)
class FirstKeys:
    """The policy's table, the files that go beside the configuration, and what a person must be told."""

    table: str = ""
    files: dict[Path, str] = field(default_factory=dict)
    recipients: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


def first_keys(
    mode: str | None,
    recipients: Sequence[str],
    *,
    archive: str,
    directory: Path,
    database: str,
    passphrase_file: Path | None,
    dry_run: bool,
) -> FirstKeys:
    """What the words of ``init`` mean for the keys; a new pair is made unless a recipient is given.

    Raises:
        UsageProblem: the words do not go together, or an archive in S3 and nothing said.
        ConfigInvalid: a recipient is none.
    """
    if mode is None and archive.startswith("s3:"):
        raise UsageProblem(
            "an archive in S3 must say how it is encrypted",
            because="whoever may read the bucket could read the database",
            next_step="say --encryption age, or --encryption passphrase; --encryption none if that is meant",
        )
    if mode is not None and mode not in MODES:
        raise UsageProblem(
            f"{mode!r} is no way to encrypt",
            because="there are age, passphrase and none",
            next_step="say --encryption age",
        )
    if recipients and mode != "age":
        raise UsageProblem(
            "--recipient is of --encryption age",
            because=f"--encryption is {mode or 'not given'}",
            next_step="say --encryption age too, or leave --recipient away",
        )
    if mode is None:
        return FirstKeys()
    if mode == "none":
        return FirstKeys('[encryption]\nmode = "none"\n')
    if mode == "age":
        return _known(recipients) if recipients else _new_pair(directory, database)
    return _under_passphrase(directory, database, passphrase_file, dry_run=dry_run)


def _known(recipients: Sequence[str]) -> FirstKeys:
    from backupd.archive.age import check_recipient

    for each in recipients:
        check_recipient(each)
    return FirstKeys(_table("age", recipients), {}, tuple(recipients))


def _new_pair(directory: Path, database: str) -> FirstKeys:
    from backupd.archive.age import new_identity

    secret, recipient = new_identity()
    path = _place(directory, f"{database}.key.txt")
    made = datetime.now(UTC).isoformat(timespec="seconds")
    text = f"# created: {made}, the backups of {database}\n# public key: {recipient}\n{secret}\n"
    told = (
        f"{path} is the private key. Without it no backup can be restored, by anybody.",
        "Backups do not need it. Keep two copies elsewhere (a password manager, a safe), then remove it here:",
        f"  shred -u {path}",
        "Restore with: backupctl restore DATABASE --key FILE",
    )
    return FirstKeys(_table("age", [recipient]), {path: text}, (recipient,), told)


def _under_passphrase(directory: Path, database: str, file: Path | None, *, dry_run: bool) -> FirstKeys:
    from backupd.archive.age import new_identity, protect

    secret, recipient = new_identity()
    path = _place(directory, f"{database}.protected.age")
    passphrase = "dry run" if dry_run else _passphrase(file, database)
    table = _table("passphrase", [recipient], f'protected_key = "{path}"\n')
    told = (
        "Without the passphrase no backup can be restored, by anybody; backups do not need it.",
        "The first backup puts the key under its passphrase into the archive, so the passphrase is all to keep.",
    )
    return FirstKeys(table, {path: protect(secret, passphrase).decode()}, (recipient,), told)


def _passphrase(file: Path | None, database: str) -> str:
    if file is not None:
        return first_line(file, database)
    if not sys.stdin.isatty():
        raise UsageProblem(
            "no passphrase was given",
            because="nobody can be asked for it here",
            next_step="run it on a terminal, or name a file that holds it: --passphrase-file FILE",
        )
    first = getpass.getpass(f"new passphrase for the backups of {database}: ")
    if not first or first != getpass.getpass("again: "):
        raise UsageProblem(
            "no passphrase was set",
            because="the two differ" if first else "it was empty",
            next_step="run it again",
        )
    return first


def _place(directory: Path, name: str) -> Path:
    return directory.absolute() / "keys" / name


def _table(mode: str, recipients: Sequence[str], more: str = "") -> str:
    listed = ", ".join(f'"{each}"' for each in recipients)
    head = "[encryption]                    # before anything leaves this host"
    return f'{head}\nmode = "{mode}"\nrecipients = [{listed}]\n{more}'
