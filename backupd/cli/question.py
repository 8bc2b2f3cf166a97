"""The question before something that cannot be taken back."""

from __future__ import annotations

import sys


def agreed(question: str) -> bool:
    """Ask on the terminal; only ``y`` and ``yes`` agree, and the end of input does not."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def typed(name: str, what: str) -> bool:
    """Ask for a name on the terminal before something that overwrites; only exactly that name agrees."""
    sys.stderr.write(f"to {what}, type the name of the database ({name}): ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() == name
