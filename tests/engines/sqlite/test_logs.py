"""Log files: what is written comes back, what is damaged is named, what does not follow is refused."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from backupd import steps
from backupd.engines.sqlite import wal
from backupd.engines.sqlite.inspect import Inspector, chain_end
from backupd.engines.sqlite.log_source import SameHost
from backupd.engines.sqlite.logcheck import verify_log
from backupd.engines.sqlite.logdir import LogDir
from backupd.engines.sqlite.logfile import LogWriter, delta_frames, read_control, read_header, to_log_file
from backupd.engines.sqlite.logheader import HEADER_BYTES, LogHeader, LogKindCode
from backupd.errors import DamageFound, InjectedFault, NotFound, NotHealthy
from backupd.model.records import LogKind
from tests.engines.sqlite.cutting import Active


@pytest.fixture
def active(tmp_path: Path) -> Active:
    made = Active(tmp_path / "a")
    made.write()
    made.seed()
    for _ in range(3):
        made.write(20)
        made.cut()
    return made


@pytest.fixture
def inspector(tmp_path: Path, active: Active) -> Inspector:
    found = Inspector(LogDir(tmp_path / "b" / "log"), None)
    found.receive(active.history, 1, SameHost(active.logs.root).fetch, seed=True)
    return found


def test_a_header_comes_back_whole() -> None:
    header = LogHeader(
        LogKindCode.DELTA, 65536, "0123456789abcdef", 7, 3, 100, 140, 1 << 31, (1 << 64) - 1,
        pages_before=9, checksum_before=8, salt1=1, salt2=2, wal_magic=wal.MAGIC_BIG, frame_first=3, frame_last=4,
        sums_in=(5, 6), sums_out=(7, 8), previous_digest=bytes(range(32)), first_commit_us=-1, last_commit_us=1 << 60,
        body_bytes=1 << 40, marks_count=5, parent_history="fedcba9876543210", parent_offset=55,
    )  # fmt: skip
    assert len(header.pack()) == HEADER_BYTES
    assert LogHeader.unpack(header.pack()) == header


def test_a_cut_log_is_what_the_model_says(active: Active) -> None:
    closed = active.last
    assert closed is not None
    verified = verify_log(closed.path)
    assert (verified.header, verified.digest, verified.size_bytes) == (
        closed.header,
        closed.digest,
        closed.path.stat().st_size,
    )
    assert closed.path.stat().st_mode & 0o777 == 0o600
    log = to_log_file(closed.header, closed.digest, closed.size_bytes)
    assert log.kind is LogKind.FRAMES
    assert log.start < log.end
    assert log.first_commit_at is not None
    assert log.digest == closed.digest.hex()


def test_13_every_flipped_or_cut_byte_is_found(tmp_path: Path, active: Active) -> None:
    closed = active.last
    assert closed is not None
    data, bad = closed.path.read_bytes(), tmp_path / "bad"
    spots = [*range(0, 256, 5), 256, 270, 280, 300, 5000, len(data) - 48, len(data) - 33, len(data) - 1]
    for spot in spots:
        changed = bytearray(data)
        changed[spot] ^= 0x10
        bad.write_bytes(changed)
        with pytest.raises(DamageFound):
            verify_log(bad)
    for cut in (0, 10, 255, 256, 300, len(data) - 1):
        bad.write_bytes(data[:cut])
        with pytest.raises(DamageFound):
            verify_log(bad)
    bad.write_bytes(data + b"x")
    with pytest.raises(DamageFound, match="bytes and must have"):
        verify_log(bad)
    with pytest.raises(NotFound):
        verify_log(tmp_path / "none")


def rewritten(
    active: Active, tmp_path: Path, body: bytes, header: LogHeader, marks: list[tuple[int, int, int]]
) -> Path:
    """A log with a right digest over a wrong content."""
    writer = LogWriter(tmp_path / "lie", header.number)
    writer.append(body)
    for mark in marks:
        writer.mark(*mark)
    return writer.finish(header).path


def test_12_damage_before_the_digest_is_found_by_the_sums(tmp_path: Path, active: Active) -> None:
    closed = active.last
    assert closed is not None
    header, data = closed.header, closed.path.read_bytes()
    body = data[HEADER_BYTES : HEADER_BYTES + header.body_bytes]
    marks = [(header.entries, header.pages_after, 5)]
    verify_log(rewritten(active, tmp_path, body, header, marks))
    size = wal.frame_bytes(4096)
    flipped = bytearray(body)
    flipped[size + 100] ^= 1
    salted = bytearray(body)
    salted[8] ^= 1
    uncommitted = body[:-size]
    lies = {
        "WAL sums of entry 2": (bytes(flipped), header, marks),
        "salts differ": (bytes(salted), header, marks),
        "not end with a commit": (
            uncommitted,
            replace(header, end_offset=header.end_offset - 1, frame_last=header.frame_last - 1),
            [(header.entries - 1, header.pages_after, 5)],
        ),
        "its body has": (body, replace(header, end_offset=header.end_offset + 1), marks),
        "it says frames": (body, replace(header, frame_last=header.frame_last + 1), marks),
        "last commit leaves": (body, replace(header, pages_after=header.pages_after + 1), marks),
        "last WAL sums": (body, replace(header, sums_out=(1, 2)), marks),
        "lacks some": (body, replace(header, pages_before=1), marks),
        "not at a commit": (body, header, [(1, 1, 1), *marks]),
        "last mark is not its end": (body, header, []),
        "entry 1 do not match": (body, replace(header, sums_in=(0, 0)), marks),
    }
    for says, (content, top, ends) in lies.items():
        with pytest.raises(DamageFound, match=says):
            verify_log(rewritten(active, tmp_path, content, top, ends))


def test_15_growth_is_covered_commit_by_commit(tmp_path: Path, active: Active) -> None:
    # 4 -> 2 -> 4 pages: page 4 is there, but from before the file shrank.
    pages = bytes(4096)
    body = delta_frames([4], pages, 4) + delta_frames([1], pages, 2) + delta_frames([3], pages, 4)
    header = replace(active.header(LogKindCode.DELTA), pages_before=4, pages_after=4)
    header = replace(header, end_offset=header.start_offset + 3)
    with pytest.raises(DamageFound, match="commit 3 grows the database from 2 to 4"):
        verify_log(rewritten(active, tmp_path, body, header, [(3, 4, 1)]))
    body = body[: 2 * wal.frame_bytes(4096)] + delta_frames([4, 3], pages * 2, 4)
    header = replace(header, end_offset=header.start_offset + 4)
    verify_log(rewritten(active, tmp_path, body, header, [(4, 4, 1)]))


def test_13_a_damaged_transfer_is_fetched_again(active: Active, inspector: Inspector) -> None:
    source, fetched = SameHost(active.logs.root), []

    def noisy(history: str, number: int, target: Path) -> None:
        source.fetch(history, number, target)
        fetched.append(number)
        if len(fetched) < 3:
            with open(target, "r+b") as file:
                file.seek(1000)
                file.write(b"noise")

    assert inspector.receive(active.history, 2, noisy) is not None
    assert fetched == [2, 2, 2]
    assert inspector.retries == 2


def test_12_a_log_that_stays_damaged_says_reseed(tmp_path: Path, active: Active, inspector: Inspector) -> None:
    path = active.logs.history(active.history).path_of(2)
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamageFound, match="stayed damaged in 3 fetches") as caught:
        inspector.receive(active.history, 2, SameHost(active.logs.root).fetch)
    assert "backupctl copy seed" in caught.value.next_step
    assert inspector.logs.history(active.history).numbers() == [1]
    assert not list((inspector.logs.root / "tmp").iterdir())


def test_39_duplicates_change_nothing_and_reordered_logs_are_refused(active: Active, inspector: Inspector) -> None:
    fetch = SameHost(active.logs.root).fetch
    with pytest.raises(NotHealthy, match="does not follow") as caught:
        inspector.receive(active.history, 3, fetch)
    assert "its number is 3 and must be 2" in caught.value.because
    for number in (2, 3, 4):
        assert inspector.receive(active.history, number, fetch) is not None
        for again in range(1, number + 1):
            assert inspector.receive(active.history, again, fetch) is None
    with pytest.raises(NotFound):
        inspector.receive(active.history, 5, fetch)
    assert inspector.logs.history(active.history).numbers() == [1, 2, 3, 4]
    assert chain_end(inspector.logs, active.history) == inspector.end


def test_39_another_log_under_the_right_name_is_refused(active: Active, inspector: Inspector) -> None:
    logs = active.logs.history(active.history)
    shutil.copy(logs.path_of(3), logs.path_of(2))
    with pytest.raises(NotHealthy, match="is another log"):
        inspector.receive(active.history, 2, SameHost(active.logs.root).fetch)


def test_40_a_lower_epoch_is_refused(tmp_path: Path, active: Active, inspector: Inspector) -> None:
    fetch = SameHost(active.logs.root).fetch
    inspector.receive(active.history, 2, fetch)
    active.epoch = 0
    active.write()
    active.cut()
    inspector.receive(active.history, 3, fetch)
    inspector.receive(active.history, 4, fetch)
    with pytest.raises(NotHealthy, match="does not follow") as caught:
        inspector.receive(active.history, 5, fetch)
    assert "old active" in caught.value.because
    assert inspector.refused == 1
    lower = Active(tmp_path / "other", history="aa" * 8, epoch=0)
    lower.write()
    lower.seed()
    with pytest.raises(NotHealthy, match="does not follow"):
        inspector.receive(lower.history, 1, SameHost(lower.logs.root).fetch, seed=True)


def test_a_new_history_must_name_its_parent(active: Active, inspector: Inspector) -> None:
    fetch = SameHost(active.logs.root).fetch
    old = active.history
    for number in (2, 3):
        inspector.receive(old, number, fetch)
    active.write()
    active.fork("ab" * 8)
    with pytest.raises(NotHealthy) as caught:
        inspector.receive("ab" * 8, 1, fetch)
    assert "parent offset" in caught.value.because
    assert active.logs.successor(old, active.logs.history(old).header(4).end_offset) == "ab" * 8
    inspector.receive(old, 4, fetch)
    assert inspector.receive("ab" * 8, 1, fetch) is not None
    assert chain_end(inspector.logs, old) == inspector.end


@pytest.mark.parametrize("n", range(1, 5))
def test_inspection_that_fails_at_any_step_can_be_repeated(active: Active, inspector: Inspector, n: int) -> None:
    fetch = SameHost(active.logs.root).fetch
    steps.arm("fail", n, "inspect.")
    with pytest.raises(InjectedFault):
        inspector.receive(active.history, 2, fetch)
    steps.disarm()
    inspector.receive(active.history, 2, fetch)
    assert inspector.logs.history(active.history).numbers() == [1, 2]


def test_log_is_removed_oldest_first_and_never_the_newest(active: Active) -> None:
    logs = active.logs.history(active.history)
    (logs.directory / ".x.tmp").write_bytes(b"left")
    assert logs.sweep_tmp() == 1
    assert logs.numbers() == [1, 2, 3, 4]
    held = logs.held()
    assert held.count == 4
    assert held.size_bytes == sum(logs.path_of(n).stat().st_size for n in range(1, 5))
    assert logs.remove_through(logs.header(2).end_offset - 1)[0] == 1
    assert logs.numbers() == [2, 3, 4]
    assert [log.number for log, _ in logs.closed(logs.header(2).end_offset)] == [3, 4]
    assert logs.remove_through(1 << 60)[0] == 2
    assert logs.numbers() == [4]
    assert logs.remove_through(1 << 60) == (0, 0)
    steps.arm("fail", 1, "logdir.remove")
    assert logs.remove_through(1 << 60) == (0, 0)


def test_a_control_record_is_read_back(active: Active) -> None:
    closed = active.control({"stamp": {"type": "full"}})
    verify_log(closed.path)
    assert read_control(closed.path) == {"stamp": {"type": "full"}}
    assert read_header(closed.path).entries == 1


def test_an_unfinished_log_has_no_name(tmp_path: Path, active: Active) -> None:
    writer = LogWriter(tmp_path / "new", 1)
    writer.append(b"x")
    assert LogDir(tmp_path).history("new").numbers() == []
    writer.abandon()
    assert os.listdir(tmp_path / "new") == []
