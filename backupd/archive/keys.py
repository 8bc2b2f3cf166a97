"""What a run has of keys: whom it encrypts to, and what may decrypt.

Whoever makes backups needs only recipients, which are public.  A restore needs a private key: an age identity file
(``AGE-SECRET-KEY-1...``), or a key that the archive itself keeps under a passphrase.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_bytes
from typing import Any

from backupd.digests import sha256_hex
from backupd.errors import KeyMissing
from backupd.pipeline.cipher import KEY_BYTES, DataKey, key_missing

AskPassphrase = Callable[[str], str]
"""Asks for the passphrase of what the argument names. Raises KeyMissing when nobody can be asked."""


def key_id(recipient: str) -> str:
    """How a recipient is called in names and records: 16 hex digits."""
    return sha256_hex(recipient.strip().encode())[:16]


@dataclass(frozen=True, slots=True)
class ProtectedKey:
    """A private key that a passphrase protects, as an armored age file; ``origin`` says where it lies."""

    origin: str
    armored: bytes


def nobody(what: str) -> str:
    """Asks nobody. Raises KeyMissing."""
    raise KeyMissing(
        f"the passphrase of {what} is not known",
        because="nobody can be asked for it here",
        next_step="run it on a terminal, or name a file that holds it: --passphrase-file FILE",
    )


@dataclass(slots=True)
class ArchiveKeys:
    """The keys of one run; private ones are read when they are first needed.

    ``protected`` answers with the keys that the archive keeps under a passphrase; they are tried when no
    key file is named.
    """

    recipients: Sequence[str] = ()
    key_files: Sequence[Path] = ()
    ask: AskPassphrase = nobody
    protected: Callable[[], Iterable[ProtectedKey]] = tuple
    _opened: dict[str, DataKey] = field(default_factory=dict, repr=False)
    _identities: list[Any] | None = field(default=None, repr=False)

    def new_data_key(self) -> DataKey | None:
        """A new key, wrapped to every recipient; None when nothing is to be encrypted.

        Raises:
            ConfigInvalid: a recipient is none.
        """
        if not self.recipients:
            return None
        from backupd.archive import age

        secret = token_bytes(KEY_BYTES)
        key = DataKey(secret, age.wrap(secret, self.recipients))
        self._opened[key.wrapped] = key
        return key

    def sealed(self, secret: bytes) -> str:
        """Some bytes as an age file in base64, for every recipient. Raises ConfigInvalid: a recipient is none."""
        from backupd.archive import age

        return age.wrap(secret, self.recipients)

    def data_key(self, object_name: str, wrapped: str) -> DataKey:
        """See ``KeyFinder``."""
        if wrapped not in self._opened:
            from backupd.archive import age

            if self._identities is None:
                self._identities = self._read_identities()
            if not self._identities:
                raise key_missing(object_name, "no private key is at hand")
            self._opened[wrapped] = DataKey(age.unwrap(object_name, wrapped, self._identities), wrapped)
        return self._opened[wrapped]

    @property
    def may_read(self) -> bool:
        """Whether a private key was named, so that what is encrypted is worth a look."""
        return bool(self.key_files) or self.ask is not nobody

    def _read_identities(self) -> list[Any]:
        from backupd.archive import age

        found: list[Any] = []
        for path in self.key_files:
            found += age.identities_in(path, self.ask)
        if not self.key_files:
            for each in self.protected():
                found += age.identities_of(each.armored, each.origin, self.ask)
        return found


NO_KEYS = ArchiveKeys()


@dataclass(frozen=True, slots=True)
class KeySources:
    """Where a command takes private keys from: a file that it names, and whom it asks for passphrases."""

    key_file: Path | None = None
    ask: AskPassphrase | None = None


def keys_from(recipients: Sequence[str], key_file: Path | None, sources: KeySources) -> ArchiveKeys:
    """The keys of one run: the policy's recipients, and the command's key file or else the policy's."""
    chosen = sources.key_file or key_file
    return ArchiveKeys(recipients, (chosen,) if chosen else (), sources.ask or nobody)
