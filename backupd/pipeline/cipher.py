"""cryptography's only address: AES-256-GCM over the blocks of an object, each bound to that object and its place in it.

An object that is encrypted says so in its head::

    "encryption": {"cipher": "AES-256-GCM", "salt": 32 hex digits, "key": the data key in an age file, in base64}

A backup has one random data key, and every object a key of its own, which HKDF-SHA256 (RFC 5869) makes of the data key
and the object's random salt: no two objects share a key, also when one is written again after a failure, so
the block's number is nonce enough (NIST SP 800-38D, section 8.2.1).  The additional data are the SHA-256 of the
head, which names repository, database, backup and object, and the block's header, which says which pages: a block
opens in its own place only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from backupd.errors import KeyMissing
from backupd.pipeline.container import Block, canonical, damage, unpack

CIPHER = "AES-256-GCM"
KEY_BYTES = 32
TAG_BYTES = 16
_SALT_BYTES = 16


class KeyFinder(Protocol):
    """Knows the secret of a wrapped data key."""

    def data_key(self, object_name: str, wrapped: str) -> DataKey:
        """The data key of which ``wrapped`` is the base64 form that objects and records carry.

        Raises:
            KeyMissing: none of the keys at hand opens it.
        """
        ...


@dataclass(frozen=True, slots=True)
class DataKey:
    """The key of one backup: 32 secret bytes, and the age file (base64) in which anybody may see them go by."""

    secret: bytes
    wrapped: str

    def __repr__(self) -> str:  # never into a log or a traceback
        return "DataKey(...)"

    def new_encryption(self) -> dict[str, str]:
        """What the head of a new object says; its salt is new."""
        return {"cipher": CIPHER, "salt": secrets.token_hex(_SALT_BYTES), "key": self.wrapped}

    def mac(self, data: bytes) -> str:
        """HMAC-SHA256 (hex) of a record, by a key that only this is for."""
        return hmac.new(_derived(self.secret, b"", b"backupd record v1"), data, hashlib.sha256).hexdigest()


class ObjectCipher:
    """Encrypts and decrypts the blocks of the object with this head."""

    def __init__(self, key: DataKey, head: dict[str, Any]) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        salt = bytes.fromhex(head["encryption"]["salt"])
        self._gcm = AESGCM(_derived(key.secret, salt, b"backupd object v1"))
        self._bound_to = hashlib.sha256(canonical(head)).digest()

    def encrypt(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """The blocks with their frames encrypted, ``TAG_BYTES`` longer."""
        for block in blocks:
            header = replace(block.header, frame_bytes=block.header.frame_bytes + TAG_BYTES)
            nonce = header.number.to_bytes(12, "big")
            yield Block(header, self._gcm.encrypt(nonce, block.frame, self._bound_to + header.packed()))

    def decrypt(self, object_name: str, block: Block) -> Block:
        """The block with its frame in clear.

        Raises:
            DamageFound: it is not the block that was encrypted for this place.
        """
        from cryptography.exceptions import InvalidTag

        header = block.header
        try:
            nonce = header.number.to_bytes(12, "big")
            frame = self._gcm.decrypt(nonce, block.frame, self._bound_to + header.packed())
        except InvalidTag:
            pages = (header.first_page, header.first_page + header.page_count - 1) if header.page_count else None
            raise damage(object_name, f"block {header.number} is not what was encrypted there", pages=pages) from None
        return Block(replace(header, frame_bytes=len(frame)), frame)


def _derived(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), KEY_BYTES, salt, purpose).derive(secret)


def cipher_for(object_name: str, head: dict[str, Any], keys: KeyFinder | None) -> ObjectCipher | None:
    """The cipher of an object that is read; None when it is not encrypted.

    Raises:
        DamageFound: its head does not say how it was encrypted.
        KeyMissing: none of the keys at hand opens it.
    """
    if "encryption" not in head:
        return None
    said = head["encryption"]
    try:
        if said["cipher"] != CIPHER or len(bytes.fromhex(said["salt"])) != _SALT_BYTES:
            raise ValueError(said["cipher"])
        wrapped = said["key"]
        base64.b64decode(wrapped, validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise damage(object_name, "its head does not say how it was encrypted") from None
    if keys is None:
        raise key_missing(object_name, "no private key is at hand")
    return ObjectCipher(keys.data_key(object_name, wrapped), head)


def unpack_clear(
    object_name: str, pieces: Iterable[bytes], kind: str, keys: KeyFinder | None
) -> tuple[dict[str, Any], Iterator[Block]]:
    """As ``unpack``, with the frames in clear; an object that is not encrypted needs no keys.

    Raises:
        DamageFound: at once, or from the iterator.
        KeyMissing: none of the keys at hand opens it.
    """
    head, blocks = unpack(object_name, pieces, kind)
    cipher = cipher_for(object_name, head, keys)
    if cipher is None:
        return head, blocks
    return head, (cipher.decrypt(object_name, block) for block in blocks)


def key_missing(object_name: str, because: str) -> KeyMissing:
    """The error for an object that cannot be decrypted here."""
    return KeyMissing(
        f"the archive's object {object_name} is encrypted and cannot be read here",
        because=because,
        next_step="name the file with the private key: --key FILE, or BACKUPD_KEY_FILE in the environment",
        object=object_name,
    )
