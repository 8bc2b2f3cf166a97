"""Every failure has three lines and the exit status of the design."""

from __future__ import annotations

import pytest

from backupd import errors
from backupd.errors import BackupdError

# design: command line. 0 is done, 1 a bug, and is raised by nobody.
EXIT_STATUSES = {
    "UsageProblem": 2,
    "ConfigInvalid": 3,
    "Refused": 4,
    "NotFound": 5,
    "DamageFound": 6,
    "NotHealthy": 7,
    "ArchiveUnreachable": 8,
    "Busy": 9,
    "Interrupted": 130,
}


def family(root: type[BackupdError] = BackupdError) -> list[type[BackupdError]]:
    return [root, *(one for child in root.__subclasses__() for one in family(child))]


# Only the house's own: a test may define children of its own.
KINDS = [kind for kind in family() if kind.__module__ == errors.__name__]


def test_the_family_is_the_design_s() -> None:
    assert {kind.__name__: kind.exit_status for kind in BackupdError.__subclasses__() if kind in KINDS} == EXIT_STATUSES


def test_no_two_kinds_share_a_status_but_parent_and_child() -> None:
    for kind in KINDS[1:]:
        (direct,) = [one for one in BackupdError.__subclasses__() if issubclass(kind, one)]
        assert kind.exit_status == direct.exit_status
    assert len(set(EXIT_STATUSES.values())) == len(EXIT_STATUSES)


@pytest.mark.parametrize("kind", KINDS)
def test_three_lines_and_the_facts(kind: type[BackupdError]) -> None:
    error = kind("it broke", because="it fell", next_step="pick it up: backupctl status", bytes=7)
    assert error.lines() == ["error: it broke", "because: it fell", "next: pick it up: backupctl status"]
    assert error.details == {"bytes": 7}
    for part in ("it broke", "it fell", "pick it up"):
        assert part in str(error)
    assert isinstance(error, BackupdError)


def test_reason_and_remedy_cannot_be_left_out() -> None:
    with pytest.raises(TypeError):
        BackupdError("it broke")  # type: ignore[call-arg]


def test_the_tree_in_the_docstring_is_the_family() -> None:
    tree = errors.__doc__ or ""
    drawn = {line.split("-- ")[1].split()[0]: line for line in tree.splitlines() if "-- " in line}
    assert set(drawn) == {kind.__name__ for kind in KINDS[1:]}
    for kind in KINDS[1:]:
        assert str(kind.exit_status) in drawn[kind.__name__].split()
