"""--key and --passphrase-file: where private keys come from when something encrypted is read."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.errors import KeyMissing

if TYPE_CHECKING:
    from backupd.archive.keys import AskPassphrase, KeySources

KEY_VARIABLE = "BACKUPD_KEY_FILE"
PASSPHRASE_VARIABLE = "BACKUPD_PASSPHRASE_FILE"  # noqa: S105  (the name of a variable)

KeyOption = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help=f"The private key of an encrypted archive (an age or ssh key file); else ${KEY_VARIABLE}.",
        show_default=False,
    ),
]
PassphraseFileOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help=f"A file whose first line is the passphrase; else ${PASSPHRASE_VARIABLE}, else it is asked for.",
        show_default=False,
    ),
]


def sources(
    key: Path | None = None,
    passphrase_file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    *,
    asks: bool = True,
) -> KeySources:
    """Where this command takes private keys from; nothing is read or asked before it is needed.

    ``asks``: a passphrase that no file gives is asked for, where there is a terminal.
    """
    from backupd.archive.keys import KeySources

    key = key or (Path(environment[KEY_VARIABLE]) if environment.get(KEY_VARIABLE) else None)
    said = environment.get(PASSPHRASE_VARIABLE)
    file = passphrase_file or (Path(said) if said else None)
    return KeySources(key, _asker(file, asks=asks))


def _asker(file: Path | None, *, asks: bool) -> AskPassphrase | None:
    if file is not None:
        return lambda what: first_line(file, what)
    if asks and sys.stdin.isatty():
        return lambda what: getpass.getpass(f"passphrase of {what}: ")
    return None


def first_line(file: Path, what: str) -> str:
    """The passphrase in a file. Raises KeyMissing."""
    try:
        text = file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeError) as problem:
        text, because = "", str(getattr(problem, "strerror", "") or problem)
    else:
        because = "its first line is empty"
    if not text:
        raise KeyMissing(
            f"the passphrase of {what} cannot be read from {file}",
            because=because,
            next_step="write it into the first line of that file: chmod 600 it",
        )
    return text
