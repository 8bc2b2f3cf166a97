"""Whatever a path is called, links and bind mounts included, it is known where it really is."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from backupd.engines.mounts import RealPlace, real_place, same_or_inside
from tests.loop_mounts import bound

TABLE = """\
20 1 8:1 / / rw - ext4 /dev/sda1 rw
21 20 8:2 / /srv rw - ext4 /dev/sdb1 rw
22 20 8:2 /pg/b /mnt/look rw - ext4 /dev/sdb1 rw
23 20 8:3 / /mnt/with\\040space rw - xfs /dev/sdc1 rw
24 20 8:4 / /srv/pg/b/ts rw - xfs /dev/sdd1 rw
junk
"""


@pytest.mark.parametrize(
    ("path", "device", "inside"),
    [
        ("/etc/x", "8:1", "/etc/x"),
        ("/srv/pg/b", "8:2", "/pg/b"),
        ("/mnt/look", "8:2", "/pg/b"),
        ("/mnt/look/base/../base/1", "8:2", "/pg/b/base/1"),
        ("/mnt/with space/a", "8:3", "/a"),
        ("/srv/pg/b/ts/new", "8:4", "/new"),
        ("/srvpg", "8:1", "/srvpg"),
    ],
)
def test_a_path_is_looked_up_in_the_table_of_mounts(path: str, device: str, inside: str) -> None:
    assert real_place(path, TABLE) == RealPlace(device, PurePosixPath(inside))


def test_two_names_of_one_place_overlap() -> None:
    passive = real_place("/srv/pg/b", TABLE)
    assert real_place("/mnt/look", TABLE).overlaps(passive)
    assert real_place("/mnt/look/base", TABLE).overlaps(passive)
    assert real_place("/srv/pg", TABLE).overlaps(passive)
    assert not real_place("/srv/pg/bb", TABLE).overlaps(passive)
    assert not real_place("/pg/b", TABLE).overlaps(passive)


def test_a_host_that_says_nothing_of_mounts_goes_by_names() -> None:
    assert real_place("/srv/a", "") == RealPlace("", PurePosixPath("/srv/a"))


def test_a_link_leads_to_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "passive").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "passive")
    assert same_or_inside(tmp_path / "link" / "new", tmp_path / "passive")
    assert not same_or_inside(tmp_path / "other", tmp_path / "passive")


@pytest.mark.real
def test_a_bind_mount_is_the_place_that_is_bound(tmp_path: Path) -> None:
    (tmp_path / "passive" / "base").mkdir(parents=True)
    with bound(tmp_path / "passive" / "base", tmp_path / "innocent") as place:
        assert same_or_inside(place, tmp_path / "passive")
        assert same_or_inside(place / "new", tmp_path / "passive")
        assert not same_or_inside(tmp_path / "innocent2", tmp_path / "passive")
