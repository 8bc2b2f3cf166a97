"""backupctl drill: a restore into a scratch place that is opened, checked and thrown away."""

from __future__ import annotations

from backupd.cli.later import not_yet
from backupd.cli.options import ConfigOption, DatabaseArgument, DryRunOption, JsonOption

EXAMPLES = ("backupctl drill orders",)


def drill(
    database: DatabaseArgument, dry_run: DryRunOption = False, as_json: JsonOption = False, config: ConfigOption = None
) -> int:
    """Restore, open, check, record, throw away (comes in a later version)."""
    del dry_run, as_json, config
    raise not_yet(
        "drill",
        because="this version restores and verifies, and keeps no verdicts of drills yet",
        instead=f"backupctl restore {database} --target DIR, open what is there, and remove it",
    )
