"""What the table of a cluster may say at all: a sum proves that it is what was written, and not who wrote it.

A restore makes names and files of what stands in it, and a server acts on some of them when it starts.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from backupd.engines.postgres.wal_names import check_segment_bytes, parse_history_name

if TYPE_CHECKING:
    from backupd.engines.postgres.volume_table import ClusterFacts

# What a server makes for itself, or acts on when it starts: no backup holds it, and a restore writes its own.
NEVER_STORED = frozenset(
    {
        *("postmaster.pid", "postmaster.opts", "postgresql.auto.conf.tmp", "current_logfiles", "current_logfiles.tmp"),
        *("backup_label", "backup_label.old", "tablespace_map", "tablespace_map.old"),
        *("backup_manifest", "backup_manifest.tmp"),
        *("recovery.signal", "standby.signal", "promote", "fallback_promote"),
    }
)
OURS = frozenset({".backupd-snapshot", ".backupd-restore"})
_NAME_BYTES_MAX = 255
_TIMELINE_MAX = 2**32 - 1
_SETTING = re.compile(r"[a-z_.]{1,63}")
_SETTING_VALUE = re.compile(r"[A-Za-z0-9_.-]{0,63}")


def check_path(path: str) -> None:
    """Refuse what is not below a data directory, and what no backup holds. Raises ValueError."""
    parts = path.split("/")
    odd = not all(parts) or {".", ".."} & set(parts) or "\0" in path
    if path != "." and (odd or any(len(os.fsencode(part)) > _NAME_BYTES_MAX for part in parts)):
        raise ValueError(f"{path!r} is not a path below a data directory")
    if path in NEVER_STORED or parts[0] in OURS:
        raise ValueError(f"{path!r} is never part of a backup")


def check_facts(facts: ClusterFacts) -> None:
    """Refuse what a restore would write into a configuration, make a name of, or count up to. Raises ValueError."""
    check_segment_bytes(facts.wal_segment_bytes)
    if not 0 < facts.timeline <= _TIMELINE_MAX:
        raise ValueError(f"{facts.timeline} is no timeline")
    if not (facts.system_identifier.isascii() and facts.system_identifier.isdigit()):
        raise ValueError(f"{facts.system_identifier!r} is no system identifier")
    for name, value in facts.settings.items():
        if not _SETTING.fullmatch(name) or not _SETTING_VALUE.fullmatch(value):
            raise ValueError(f"{name!r} = {value!r} is no setting that a restore takes over")
    for name in facts.history_files:
        if parse_history_name(name) is None:
            raise ValueError(f"{name!r} is no name of a history file")
    for text in (facts.backup_label, *facts.history_files.values()):
        text.encode()
    for tablespace in facts.tablespaces:
        place = tablespace.location
        if not place.startswith("/") or ".." in place.split("/") or not place.isprintable():
            raise ValueError(f"{place!r} is no place of a tablespace")
