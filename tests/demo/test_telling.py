"""How the demo tells its story: commands in lines that fit, reasons in words, and a place that goes away."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.demo import tell
from backupd.demo.commands import DemoFailed, expect, place_for, reason_of
from backupd.demo.postgres_shop import Orders, served_seconds
from backupd.demo.postgres_story import how_it_was_read, noticed, wal_words
from backupd.errors import Refused

INIT = "backupctl init ~demo/etc --database shop --copy 'a=host=127.0.0.1 port=1 user=p' --archive file://~demo/archive"


@pytest.mark.parametrize("columns", [40, 60, 80, 300])
def test_a_long_command_goes_on_in_the_next_line_as_a_shell_reads_it(columns: int) -> None:
    lines = tell.continued(INIT, columns)
    assert "".join(line.removesuffix("\\") for line in lines[:-1]) + lines[-1] == INIT
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert all(line.startswith("--") for line in lines[1:])
    longest = max(len(piece) for piece in INIT.split(" --")) + 4
    assert max(map(len, lines)) <= max(columns, longest)


def test_a_command_that_fits_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    tell.command(INIT)  # a pipe has room for all
    assert capsys.readouterr().out == f"   $ {INIT}\n"


def test_what_a_command_printed_is_wrapped_below_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tell, "width", lambda: 40)
    tell.quote("error: short\nnext: " + "a word or more " * 5 + "\n  COPY   ROLE", 3)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    assert lines[0] == "     error: short"
    assert lines[-1] == "       COPY   ROLE"
    assert len(lines) > 4
    assert all(line.startswith(" " * 7) for line in lines[2:])


def test_why_a_command_failed_is_told_by_its_own_words() -> None:
    assert reason_of("noise\nerror: no room\nbecause: the disk is full\nnext: make room") == "no room; the disk is full"
    assert reason_of("Traceback\nValueError: 3") == "ValueError: 3"


def test_a_claim_that_is_not_so_ends_the_demo() -> None:
    expect(True, "fine", "fine")
    with pytest.raises(DemoFailed) as failed:
        expect(False, "a claim", "it is not so")
    assert (failed.value.exit_status, len(failed.value.lines())) == (7, 3)


def test_a_scratch_place_goes_away_and_a_named_one_stays(tmp_path: Path) -> None:
    with place_for(None) as home:
        (home / "deep" / "down").mkdir(parents=True)
    assert not home.exists()
    kept = tmp_path / "new" / "kept"
    with place_for(kept, mode=0o711) as home:
        (home / "something").touch()
    assert home == kept
    assert kept.stat().st_mode & 0o777 == 0o711
    with pytest.raises(Refused, match="not empty"), place_for(kept):
        pass


def test_a_place_that_cannot_be_made_is_refused_in_three_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(Refused, match="cannot play the demo") as refused, place_for(place):
            pass
        assert len(refused.value.lines()) == 3

    def nowhere(**_: object) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.mkdtemp", nowhere)
    with pytest.raises(Refused, match="a scratch folder") as refused, place_for(None):
        pass
    assert "TMPDIR" in refused.value.next_step


def test_a_filesystem_without_snapshots_is_told_plainly() -> None:
    live = how_it_was_read("live", 0.0)
    assert live.startswith("replay ran on (live)")
    assert "on btrfs or XFS replay would stand still" in live
    assert how_it_was_read("live", None) == live
    assert how_it_was_read("btrfs", 0.314).startswith("replay stood still for 0.31 s (btrfs)")


def test_figures_are_told_for_people() -> None:
    before, after = {"a": 128 << 20, "b": 96 << 20}, {"a": 32 << 20, "b": 32 << 20}
    assert wal_words(before, after) == "a 128.0 MiB -> 32.0 MiB, b 96.0 MiB -> 32.0 MiB"
    assert noticed(12345, 0.0421) == "12,345 sales; the longest took 42 ms"
    assert Orders(1234, 5678, "x").words == "1,234 orders worth 56.78"


def test_a_sale_is_measured_without_the_time_that_it_waited_for_its_turn() -> None:
    assert served_seconds("0 199 2241000 0 1175850568 995598 2000000") == pytest.approx(0.241)
    assert served_seconds("0 199 2241 0 1175850568 995598 0 1") == pytest.approx(0.002241)
