"""What every snapshot provider promises; each provider's tests inherit this suite."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from backupd import steps
from backupd.errors import InjectedFault, NotHealthy
from backupd.ports import ProviderFeature, Snapshot, SnapshotProvider
from backupd.providers.place import trial_label
from tests.dying import dies_at

PAGES = os.urandom(300_000)


def listing(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def filled(directory: Path) -> Path:
    (directory / "app.db").write_bytes(PAGES)
    (directory / "sub").mkdir()
    (directory / "sub" / "more.db").write_bytes(PAGES[::-1])
    (directory / "other").write_bytes(b"not asked for")
    return directory


class AnyProviderContract:
    """What holds for every provider, also for one that copies nothing; needs the fixtures of ``ProviderContract``."""

    @pytest.fixture
    def copy(self, directory: Path) -> Path:
        return filled(directory)

    def test_it_suits_and_leaves_nothing(self, provider: SnapshotProvider, copy: Path) -> None:
        before = listing(copy)
        answer = provider.suits(copy)
        assert answer.suits, answer.because
        assert answer.because
        assert listing(copy) == before

    def test_a_directory_that_is_not_there_does_not_suit(self, provider: SnapshotProvider, copy: Path) -> None:
        answer = provider.suits(copy / "nowhere")
        assert not answer.suits
        assert answer.because

    def test_discard_leaves_nothing_and_may_be_repeated(self, provider: SnapshotProvider, copy: Path) -> None:
        before = listing(copy)
        snapshot = provider.take(copy, ["app.db"], "L1")
        provider.discard(snapshot)
        assert listing(copy) == before
        provider.discard(snapshot)

    def test_discard_removes_nothing_else(self, provider: SnapshotProvider, copy: Path) -> None:
        before = listing(copy)
        for wrong in (
            Snapshot(provider.name, "L1", copy / "sub", copy),
            Snapshot("another", "L1", copy / ".backupd-snapshot" / "L1.another", copy),
        ):
            with pytest.raises(ValueError, match="not a snapshot"):
                provider.discard(wrong)
        assert listing(copy) == before

    @pytest.mark.parametrize(
        "name", ["/etc/passwd", "../app.db", "", "sub/../../x", ".backupd-snapshot/x", "pgsql_tmp.backupd-snapshot/x"]
    )
    def test_a_name_that_climbs_out_is_a_bug(self, provider: SnapshotProvider, copy: Path, name: str) -> None:
        with pytest.raises(ValueError, match="not a file of the copy"):
            provider.take(copy, [name], "L1")

    @pytest.mark.parametrize("label", ["", "../L", ".hidden", "a/b"])
    def test_a_label_that_climbs_out_is_a_bug(self, provider: SnapshotProvider, copy: Path, label: str) -> None:
        with pytest.raises(ValueError, match="not a label"):
            provider.take(copy, ["app.db"], label)

    def test_no_leftovers_where_nothing_was(self, provider: SnapshotProvider, copy: Path) -> None:
        assert list(provider.leftovers(copy)) == []
        assert list(provider.leftovers(copy / "nowhere")) == []


class InPlaceContract(AnyProviderContract):
    """A provider that copies nothing: what it answers with is the copy itself, and nothing is ever removed."""

    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        return tmp_path

    def test_the_snapshot_is_the_copy_itself(self, provider: SnapshotProvider, copy: Path) -> None:
        before = listing(copy)
        snapshot = provider.take(copy, ["app.db", "sub/more.db"], "L1")
        assert ProviderFeature.IN_PLACE in provider.features
        assert snapshot == Snapshot(provider.name, "L1", copy, copy)
        assert listing(copy) == before
        provider.discard(snapshot)
        assert listing(copy) == before
        assert (copy / "app.db").read_bytes() == PAGES
        assert provider.leftovers(copy) == ()

    def test_a_directory_that_is_not_there_is_told(self, provider: SnapshotProvider, copy: Path) -> None:
        with pytest.raises(NotHealthy) as caught:
            provider.take(copy / "nowhere", ["app.db"], "L1")
        assert len(caught.value.lines()) == 3

    def test_dying_at_every_step_leaves_the_copy_as_it_was(self, provider: SnapshotProvider, copy: Path) -> None:
        before = listing(copy)

        def walk() -> None:
            provider.discard(provider.take(copy, ["app.db", "sub/more.db"], "L1"))

        number = 1
        while dies_at(number, walk, "providers."):
            number += 1
            assert listing(copy) == before
        assert listing(copy) == before


class ProviderContract(AnyProviderContract):
    """Needs the fixtures ``provider`` and ``directory`` (an empty directory that suits it)."""

    def test_the_snapshot_keeps_the_moment(self, provider: SnapshotProvider, copy: Path) -> None:
        snapshot = provider.take(copy, ["app.db", "sub/more.db"], "L1")
        with (copy / "app.db").open("r+b") as file:
            file.seek(4096)
            file.write(b"replay goes on" * 1000)
        (copy / "sub" / "more.db").unlink()
        assert (snapshot.directory / "app.db").read_bytes() == PAGES
        assert (snapshot.directory / "sub" / "more.db").read_bytes() == PAGES[::-1]
        assert (snapshot.provider, snapshot.label, snapshot.source) == (provider.name, "L1", copy)
        provider.discard(snapshot)

    def test_a_server_s_own_backup_passes_it_over(self, provider: SnapshotProvider, copy: Path) -> None:
        """pg_basebackup takes every name of a data directory but those, and fails at one that it may not read."""
        (copy / "PG_VERSION").write_text("16\n")
        before = listing(copy)
        snapshot = provider.take(copy, ["app.db", "PG_VERSION"], "L1")
        assert all(name in before or name.startswith("pgsql_tmp") for name in listing(copy))
        assert provider.leftovers(copy) == [snapshot]
        provider.discard(snapshot)
        assert listing(copy) == before

    def test_a_cluster_s_many_files_in_their_directories(self, provider: SnapshotProvider, copy: Path) -> None:
        names = [f"base/{16384 + number // 400}/{number}" for number in range(2000)]
        for above in sorted({(copy / name).parent for name in names}):
            above.mkdir(parents=True)
        for number, name in enumerate(names):
            (copy / name).write_bytes(b"%08d" % number)
        os.sync()
        seconds = []
        for label in ("L1", "L2", "L3"):
            began = time.monotonic()
            snapshot = provider.take(copy, names, label)
            seconds.append(time.monotonic() - began)
            found = [(snapshot.directory / name).read_bytes() for name in names]
            assert found == [b"%08d" % number for number in range(2000)]
            provider.discard(snapshot)
        if ProviderFeature.SHARES_BLOCKS in provider.features:
            assert min(seconds) < 1.0  # about 0.1 s on a machine that does nothing else; replay rests meanwhile
        shutil.rmtree(copy / "base")

    def test_an_empty_file_and_a_file_of_holes(self, provider: SnapshotProvider, copy: Path) -> None:
        (copy / "empty").write_bytes(b"")
        with (copy / "holes").open("wb") as file:
            file.seek(1 << 20)
            file.write(b"middle")
            file.truncate(8 << 20)
        snapshot = provider.take(copy, ["empty", "holes"], "L1")
        assert (snapshot.directory / "empty").read_bytes() == b""
        assert (snapshot.directory / "holes").read_bytes() == (copy / "holes").read_bytes()
        assert (snapshot.directory / "holes").stat().st_blocks * 512 < 1 << 20
        provider.discard(snapshot)

    def test_no_other_user_may_read_it(self, provider: SnapshotProvider, copy: Path) -> None:
        (copy / "app.db").chmod(0o644)
        snapshot = provider.take(copy, ["app.db"], "L1")
        assert snapshot.directory.parent.stat().st_mode & 0o777 == 0o700
        if ProviderFeature.READ_ONLY not in provider.features:
            assert snapshot.directory.stat().st_mode & 0o777 == 0o700
            assert (snapshot.directory / "app.db").stat().st_mode & 0o777 == 0o600
        provider.discard(snapshot)

    def test_read_only_means_it(self, provider: SnapshotProvider, copy: Path) -> None:
        if ProviderFeature.READ_ONLY not in provider.features:
            pytest.skip(f"{provider.name} does not promise it")
        snapshot = provider.take(copy, ["app.db"], "L1")
        with pytest.raises(OSError, match="Read-only"):
            (snapshot.directory / "app.db").open("r+b")
        provider.discard(snapshot)

    def test_sharing_blocks_means_it(self, provider: SnapshotProvider, copy: Path) -> None:
        if ProviderFeature.SHARES_BLOCKS not in provider.features:
            pytest.skip(f"{provider.name} does not promise it")
        size_bytes = 40 << 20
        (copy / "big").write_bytes(os.urandom(1 << 20) * (size_bytes >> 20))
        os.sync()
        free_before = os.statvfs(copy).f_bfree * os.statvfs(copy).f_frsize
        snapshot = provider.take(copy, ["big"], "L1")
        os.sync()
        free_after = os.statvfs(copy).f_bfree * os.statvfs(copy).f_frsize
        provider.discard(snapshot)
        assert free_before - free_after < size_bytes // 4

    def test_a_missing_file_is_told_and_nothing_is_left(self, provider: SnapshotProvider, copy: Path) -> None:
        before = listing(copy)
        with pytest.raises(NotHealthy) as caught:
            provider.take(copy, ["app.db", "gone.db"], "L1")
        assert "gone.db" in str(caught.value)
        assert len(caught.value.lines()) == 3
        assert listing(copy) == before

    def test_a_taken_label_is_not_overwritten(self, provider: SnapshotProvider, copy: Path) -> None:
        first = provider.take(copy, ["app.db"], "L1")
        (copy / "app.db").write_bytes(b"later")
        with pytest.raises(NotHealthy):
            provider.take(copy, ["app.db"], "L1")
        assert (first.directory / "app.db").read_bytes() == PAGES
        provider.discard(first)

    def test_two_snapshots_stand_side_by_side(self, provider: SnapshotProvider, copy: Path) -> None:
        before = listing(copy)
        first, second = (provider.take(copy, ["app.db"], label) for label in ("L1", "L2"))
        assert provider.leftovers(copy) == [first, second]
        provider.discard(first)
        assert (second.directory / "app.db").read_bytes() == PAGES
        provider.discard(second)
        assert listing(copy) == before

    def test_what_a_living_process_tries_is_no_leftover(self, provider: SnapshotProvider, copy: Path) -> None:
        """The copies of two databases may lie in one directory, and both have runs that try and that tidy up."""
        before = listing(copy)
        alive, dead = trial_label(), "try-4194304-1-0123abcd"
        tried = [provider.take(copy, [], label) for label in (alive, dead)]
        assert [each.label for each in provider.leftovers(copy)] == [dead]
        for each in tried:
            provider.discard(each)
        assert listing(copy) == before

    def test_leftovers_of_other_providers_are_theirs(self, provider: SnapshotProvider, copy: Path) -> None:
        (copy / ".backupd-snapshot" / "L1.another").mkdir(parents=True)
        assert provider.leftovers(copy) == []

    def test_failing_at_every_step_leaves_nothing(self, provider: SnapshotProvider, copy: Path) -> None:
        before = listing(copy)
        number = 0
        while True:
            number += 1
            steps.arm("fail", number, "providers.")
            try:
                provider.discard(provider.take(copy, ["app.db", "sub/more.db"], f"L{number}"))
            except InjectedFault:
                steps.disarm()
                for left in provider.leftovers(copy):
                    provider.discard(left)
                assert listing(copy) == before, f"step {number}"
                continue
            assert steps.disarm() < number
            break
        assert number > 3

    def test_dying_at_every_step_is_cleaned_up_by_the_next_start(self, provider: SnapshotProvider, copy: Path) -> None:
        before = listing(copy)

        def walk() -> None:
            assert provider.suits(copy).suits
            provider.discard(provider.take(copy, ["app.db", "sub/more.db"], "L1"))

        number, died = 0, True
        while died:
            number += 1
            died = dies_at(number, walk, "providers.")
            for left in provider.leftovers(copy):
                provider.discard(left)
            remains = [name for name in listing(copy) if name not in before]
            assert remains in ([], [".backupd-snapshot"]), f"step {number}"
        assert number > 5
