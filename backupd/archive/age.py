"""pyrage's only address: data keys wrapped to age recipients, and opened again by the private halves.

Sources: age-encryption.org/v1; ``age-keygen`` and ``age -d`` read and write the same files.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from backupd.archive.keys import AskPassphrase, key_id
from backupd.errors import ConfigInvalid, KeyMissing
from backupd.pipeline.cipher import KEY_BYTES, key_missing

try:
    import pyrage
except ImportError as _missing:
    raise ConfigInvalid(
        "this installation cannot encrypt or decrypt",
        because="the packages pyrage and cryptography are not installed",
        next_step="pip install 'backupd[encryption]'",
    ) from _missing

_ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"
_BINARY = b"age-encryption.org/v1"
_PREFIX = "AGE-SECRET-KEY-1"


def wrap(secret: bytes, recipients: Sequence[str]) -> str:
    """A key, or a few words, as an age file in base64 that each of the recipients can open. Raises ConfigInvalid."""
    return base64.b64encode(pyrage.encrypt(secret, [_recipient(each) for each in recipients])).decode()


def unwrap(object_name: str, wrapped: str, identities: Sequence[Any]) -> bytes:
    """The data key again. Raises KeyMissing, which names ``object_name``."""
    try:
        secret: bytes = pyrage.decrypt(base64.b64decode(wrapped, validate=True), list(identities))
    except (pyrage.DecryptError, binascii.Error):
        known = ", ".join(_called(each) for each in identities)
        raise key_missing(object_name, f"it was not encrypted to the key at hand ({known})") from None
    if len(secret) != KEY_BYTES:
        raise key_missing(object_name, "what its key file holds is no key")
    return secret


def _called(identity: Any) -> str:
    return key_id(str(identity.to_public())) if hasattr(identity, "to_public") else "an ssh key"


def check_recipient(text: str) -> None:
    """Whether that is an age recipient. Raises ConfigInvalid."""
    _recipient(text)


def new_identity() -> tuple[str, str]:
    """A new pair: the private half (``AGE-SECRET-KEY-1...``) and the recipient (``age1...``)."""
    identity = pyrage.x25519.Identity.generate()
    return str(identity), str(identity.to_public())


def protect(secret: str, passphrase: str) -> bytes:
    """The private half as an armored age file that the passphrase opens (scrypt, about a second)."""
    armored: bytes = pyrage.passphrase.encrypt(secret.encode(), passphrase, armored=True)
    return armored


def _recipient(text: str) -> Any:
    text = text.strip()
    try:
        if text.startswith("ssh-"):
            return pyrage.ssh.Recipient.from_str(text)
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError as problem:
        raise ConfigInvalid(
            f"{_shown(text)} is not an age recipient",
            because=str(problem),
            next_step="write recipients like age1..., as age-keygen or `backupctl init --encryption age` print them",
        ) from None


def _shown(text: str) -> str:
    """A private key that was put where a public one belongs is not shown."""
    return "a private key" if text.upper().startswith(_PREFIX) else repr(text[:24])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise KeyMissing(
            f"cannot read the key file {path}",
            because=problem.strerror or str(problem),
            next_step="name the file with the private key: --key FILE, or BACKUPD_KEY_FILE in the environment",
        ) from problem


def identities_in(path: Path, ask: AskPassphrase) -> list[Any]:
    """The private keys of a file. Raises KeyMissing."""
    return identities_of(_read(path), str(path), ask)


def identities_of(data: bytes, origin: str, ask: AskPassphrase) -> list[Any]:
    """The private keys of an age or ssh key file; one that a passphrase protects is asked for. Raises KeyMissing."""
    if data.lstrip().startswith((_ARMOR, _BINARY)):
        try:
            data = pyrage.passphrase.decrypt(data, ask(origin))
        except pyrage.DecryptError:
            raise KeyMissing(
                f"{origin} could not be opened",
                because="the passphrase is not the one that it was made with",
                next_step="try again with the right passphrase",
            ) from None
    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    try:
        if "-----BEGIN OPENSSH PRIVATE KEY-----" in lines:
            return [pyrage.ssh.Identity.from_buffer(data)]
        found = [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except pyrage.IdentityError:
        found = []
    if not found:
        raise KeyMissing(
            f"{origin} holds no private key",
            because="an age key file has a line that begins with AGE-SECRET-KEY-1",
            next_step="name the file that age-keygen or `backupctl init --encryption age` wrote",
        )
    return found
