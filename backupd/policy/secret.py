"""Secrets by reference: a file says where a secret lies, never the secret; it is read in this one place."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, NoReturn

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from backupd.errors import ConfigInvalid, NotHealthy
from backupd.known_secrets import learn

CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"  # systemd.exec(5), LoadCredential=
_SECRET_BYTES_MAX = 64 * 1024
_ENV_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
# Dots alone would be a directory; systemd wants no slash and at most 255 of these.
_CREDENTIAL_NAME = r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,255}"
_PATTERN = rf"^(env:{_ENV_NAME}|file:/.+|credential:{_CREDENTIAL_NAME})$"
_FORMS = (
    "a secret never stands in this file; write where it lies: "
    "env:NAME, file:/absolute/path or credential:NAME (systemd's LoadCredential=)"
)


class SecretKind(StrEnum):
    """Where a secret may lie."""

    ENV = "env"
    FILE = "file"
    CREDENTIAL = "credential"


@dataclass(frozen=True, slots=True)
class SecretReference:
    """Where a secret lies; it may be shown and logged.

    Attributes:
        kind: the environment, a file, or systemd's credentials directory.
        name: the variable, the absolute path, or the credential.
    """

    kind: SecretKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def parse_secret_reference(value: object) -> SecretReference:
    """The reference that a file's text is.

    Raises:
        ValueError: it is none, with a sentence that never repeats it: it may be the secret itself.
    """
    if isinstance(value, SecretReference):
        return value
    kind, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not colon or kind not in set(SecretKind):
        raise ValueError(_FORMS)
    if kind == SecretKind.FILE:
        path = name.removeprefix("//") if name.startswith("///") else name
        if not path.startswith("/") or path.startswith("//") or "\0" in path:
            raise ValueError("what follows file: is not an absolute path; write it like file:/etc/backupd/token")
        return SecretReference(SecretKind.FILE, posixpath.normpath(path))
    if kind == SecretKind.ENV and re.fullmatch(_ENV_NAME, name) is None:
        raise ValueError("what follows env: is not the name of a variable; write it like env:BACKUPD_TOKEN")
    if kind == SecretKind.CREDENTIAL and re.fullmatch(_CREDENTIAL_NAME, name) is None:
        raise ValueError("what follows credential: is not the name of one; write it like credential:backupd-token")
    return SecretReference(SecretKind(kind), name)


# For a field of a table: ``token: Secret | None = Field(default=None, ...)``.
Secret = Annotated[
    SecretReference,
    PlainValidator(parse_secret_reference),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _PATTERN}),
]


def read_secret(reference: SecretReference, environ: Mapping[str, str] | None = None) -> str:
    """The secret itself: one line of text, without the blanks around it.  Read anew each time, for secrets change.

    The answer must never be logged, shown, or made part of an error.

    Args:
        reference: where it lies.
        environ: the environment; this process's when None.

    Raises:
        ConfigInvalid: there is none, it is no line of text, or others on this host may read its file.
        NotHealthy: its file is there and cannot be read now.
    """
    environment = os.environ if environ is None else environ
    if reference.kind is SecretKind.ENV:
        text = environment.get(reference.name, "")
        if not text.strip():
            _refuse(
                reference,
                f"the environment has no {reference.name}, or it is empty",
                f"set {reference.name} for the user that runs backupd (systemd: EnvironmentFile=), or use file:/path",
            )
    elif reference.kind is SecretKind.FILE:
        text = _read_file(reference, reference.name, private=True)
    else:
        directory = environment.get(CREDENTIALS_VARIABLE, "")
        if not directory:
            _refuse(
                reference,
                f"{CREDENTIALS_VARIABLE} is not set: systemd gave this process no credentials",
                f"add LoadCredential={reference.name}:/path/of/the/secret to the unit, or use file:/path",
            )
        # Who may enter that directory is systemd's to say; the modes inside it mean little.
        text = _read_file(reference, posixpath.join(directory, reference.name), private=False)
    return _one_line(reference, text)


def _read_file(reference: SecretReference, path: str, *, private: bool) -> str:
    try:
        # Not blocking: a named pipe that nobody writes to would hold the service for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        _refuse(reference, f"there is no file {path}", f"write the secret into {path}, readable by backupd's user only")
    except OSError as error:
        raise NotHealthy(
            f"the secret {reference} cannot be read",
            because=f"{path}: {(error.strerror or str(error)).lower()}",
            next_step=f"let the user that runs backupd read {path}, and nobody else",
        ) from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            _refuse(reference, f"{path} is not a file", "name a file that holds the secret in one line")
        mode = stat.S_IMODE(facts.st_mode)
        if private and mode & (stat.S_IROTH | stat.S_IWOTH):
            _refuse(
                reference, f"everybody on this host may read or write {path} (mode {mode:04o})", f"chmod 600 {path}"
            )
        raw = os.read(descriptor, _SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise NotHealthy(
            f"the secret {reference} cannot be read",
            because=f"{path}: {(error.strerror or str(error)).lower()}",
            next_step=f"look at the disk of {path}",
        ) from None
    finally:
        os.close(descriptor)
    if len(raw) > _SECRET_BYTES_MAX:
        _refuse(reference, f"{path} is over 64 KiB; that is no secret", "name a file that holds the secret in one line")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        _refuse(reference, f"{path} is not UTF-8 text", "name a file that holds the secret in one line")


def _one_line(reference: SecretReference, text: str) -> str:
    line = text.strip()
    if not line:
        _refuse(reference, "it is empty", "write the secret there, in one line")
    # A line break would end a header or an address early, and let the rest be something else.
    if not line.isprintable():
        _refuse(reference, "it has more than one line, or letters that cannot be printed", "keep it in one line")
    learn(line)  # this process's log must not show it, whoever says it
    return line


def _refuse(reference: SecretReference, because: str, next_step: str) -> NoReturn:
    raise ConfigInvalid(f"the secret {reference} cannot be used", because=because, next_step=next_step)
