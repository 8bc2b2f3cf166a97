"""How far apart the backups of a schedule are."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.decide import slots
from backupd.runs.schedule_view import expected_intervals
from tests.runs.world import World

DAY = 86400.0


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({}, {}),
        ({"full": "sun 02:00", "incremental": "mon..sat 02:00"}, {"any": DAY, "full": 7 * DAY}),
        ({"full": "sun 02:00", "incremental": "mon..fri 02:00"}, {"any": 2 * DAY, "full": 7 * DAY}),
        ({"full": "every 12 h", "incremental": "every 1 s"}, {"any": 1.0, "full": DAY / 2}),
        ({"full": "0 2 1 * *"}, {"any": 31 * DAY, "full": 31 * DAY}),
    ],
)
def test_the_longest_pause(tmp_path: Path, schedule: dict[str, str], expected: dict[str, float]) -> None:
    world = World(tmp_path)
    world.policy["schedule"] = schedule
    assert expected_intervals(world.context()) == expected


def test_a_slot_a_second_is_not_walked_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_between", None)
    world = World(tmp_path)
    world.policy["schedule"] = {"incremental": "every 1 s"}
    assert expected_intervals(world.context()) == {"any": 1.0}
