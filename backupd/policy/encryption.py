"""The table ``[encryption]`` of a policy: to whom backups are encrypted."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from backupd.policy.problems import ProblemsAt
from backupd.policy.sections import AbsolutePath, Section

# Bech32 of an X25519 key (age-encryption.org/v1); its check digits are looked at where the library is.
_AGE = re.compile(r"age1[02-9ac-hj-np-z]{58}")
_SSH = re.compile(r"ssh-(ed25519|rsa) [A-Za-z0-9+/=]+( .*)?")


def _recipient(value: str) -> str:
    value = value.strip()
    if value.upper().startswith("AGE-SECRET-KEY-"):
        raise ValueError("that is a private key, which must not stand in a policy; write its recipient, age1...")
    if not _AGE.fullmatch(value) and not _SSH.fullmatch(value):
        length = f"; this has {len(value)}" if value.startswith("age1") and len(value) != 62 else ""
        raise ValueError(f"{value[:20]!r} is not an age recipient; one looks like age1... and has 62 letters{length}")
    return value


Recipient = Annotated[str, AfterValidator(_recipient)]


class EncryptionOptions(Section):
    """How what is stored is encrypted, before it leaves this host."""

    mode: Literal["age", "passphrase", "none"] = Field(
        description="age: to recipients, whose private keys this host need not have. passphrase: to a key that the "
        "archive keeps under a passphrase. none: whoever reads the archive reads the database."
    )
    recipients: list[Recipient] = Field(
        default_factory=list,
        description="age recipients (age1..., or ssh-ed25519 and ssh-rsa keys): each of their private keys restores.",
    )
    protected_key: AbsolutePath | None = Field(
        default=None,
        description='The key under its passphrase, as backupctl init wrote it, for mode = "passphrase"; '
        "the first backup puts it into the archive.",
    )
    key_file: AbsolutePath | None = Field(
        default=None,
        description="Where a private key lies on a host that restores; better nowhere, and --key FILE when needed.",
    )

    @model_validator(mode="after")
    def _goes_together(self) -> EncryptionOptions:
        problems: list[tuple[tuple[str, ...], str]] = []
        if self.mode == "none" and (self.recipients or self.protected_key or self.key_file):
            problems.append((("mode",), 'it is "none", and the table names keys'))
        if self.mode == "age" and not self.recipients:
            problems.append((("recipients",), "nobody could restore: name at least one recipient, better two"))
        if self.mode == "passphrase" and (len(self.recipients) != 1 or self.protected_key is None):
            sentence = "a passphrase protects one key: one recipient and protected_key, as backupctl init writes them"
            problems.append((("recipients",), sentence))
        if self.mode == "age" and self.protected_key is not None:
            problems.append((("protected_key",), 'only mode = "passphrase" has it'))
        if problems:
            raise ProblemsAt(problems)
        return self
