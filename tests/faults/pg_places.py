"""Where runs on a PostgreSQL pair are stopped while something is done to the pair."""

from __future__ import annotations

import pytest

from tests.faults.test_postgres_runs import FULL, INCREMENTAL

# A run stands at the n-th move in its journal: everything of the state before has been done.
FULL_STATES = {
    1: "planned",
    2: "prepared",
    3: "frozen",
    4: "captured",
    5: "thawed",
    6: "checked",
    7: "stored",
    8: "proven",
    9: "stamped",
}
INCREMENTAL_STATES = {1: "planned", 2: "prepared", 3: "checked", 4: "stored", 5: "proven", 6: "stamped"}
# In the middle of an act, with connections open.
ACTS = [
    (FULL, "1@pg.prepare.close_log"),
    (FULL, "1@pg.freeze.restartpoint"),
    (FULL, "1@pg.guard.pause"),
    (FULL, "1@pg.backup_mode.start"),
    (FULL, "2@pipeline.segment"),
    (FULL, "1@pg.backup_mode.stop"),
    (FULL, "2@pg.prepare.close_log"),
    (FULL, "1@pg.stamp.write"),
    (FULL, "1@pg.log.advance"),
    (INCREMENTAL, "1@pg.prepare.restartpoint"),
    (INCREMENTAL, "1@pg.log.checkpoint_active"),
]
PLACES = [(FULL, f"{n}@journal.move") for n in FULL_STATES]
PLACES += [(INCREMENTAL, f"{n}@journal.move") for n in INCREMENTAL_STATES]
PLACES += ACTS
Place = tuple[tuple[str, ...], str]


def parametrized(quick: set[Place]) -> list[object]:
    """One test each; all but the ``quick`` ones are slow."""
    return [
        pytest.param(words, step, id=f"{words[-1]}-{step}", marks=() if (words, step) in quick else pytest.mark.slow)
        for words, step in PLACES
    ]
