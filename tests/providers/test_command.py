"""The administrator's command keeps the contract, and what a dead run left is released by the next one."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.errors import NotHealthy
from backupd.ports import ProviderFeature, Snapshot, SnapshotProvider
from backupd.providers.command import ExecProvider, SnapshotCommands
from tests.contracts.provider_contract import PAGES, ProviderContract, filled, listing

SCRIPT = Path(__file__).parents[2] / "contrib" / "snapshots" / "reflink.py"


def by_the_script(state_dir: Path, *, atomic: bool = False) -> ExecProvider:
    own = [sys.executable, "-IS", str(SCRIPT)]
    return ExecProvider(SnapshotCommands(own, own, 20.0, atomic), state_dir)


class ScriptContract(ProviderContract):
    @pytest.fixture
    def provider(self, tmp_path: Path) -> SnapshotProvider:
        return by_the_script(tmp_path / "state")

    def test_no_other_user_may_read_it(self, provider: SnapshotProvider, copy: Path) -> None:
        """The files keep their own modes; what keeps others out is the place of our script."""
        snapshot = provider.take(copy, ["app.db"], "L1")
        assert snapshot.directory.parent.stat().st_mode & 0o777 == 0o700
        provider.discard(snapshot)

    def test_nothing_is_left_beside_the_copy(self, provider: SnapshotProvider, copy: Path, tmp_path: Path) -> None:
        provider.discard(provider.take(copy, ["app.db"], "L1"))
        assert not (copy.parent / ".backupd-exec").exists()
        assert json.loads((tmp_path / "state" / "snapshot-commands.json").read_text()) == []


class TestScriptAnywhere(ScriptContract):
    @pytest.fixture
    def directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("BACKUPD_REFLINK", "auto")
        (tmp_path / "copy").mkdir()
        return tmp_path / "copy"


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.root
class TestScriptOnXfs(ScriptContract):
    @pytest.fixture
    def directory(self, xfs_mount: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        monkeypatch.delenv("BACKUPD_REFLINK", raising=False)
        directory = xfs_mount / "by-command"
        directory.mkdir()
        yield directory
        shutil.rmtree(directory)


def saying(tmp_path: Path, take: str, release: str = "pass", seconds_max: float = 20.0) -> ExecProvider:
    """A provider whose commands are these lines of Python; ``asked`` is the question."""
    head = "import json, sys, time; asked = json.load(sys.stdin)\n"
    commands = SnapshotCommands(
        [sys.executable, "-ISc", head + take], [sys.executable, "-ISc", head + release], seconds_max
    )
    return ExecProvider(commands, tmp_path / "state")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "copy").mkdir()
    return filled(tmp_path / "copy")


def test_the_question_and_the_handle_are_as_promised(tmp_path: Path, copy: Path) -> None:
    shutil.copytree(copy, tmp_path / "snap")
    note = f"open({str(tmp_path / 'asked')!r}, 'a').write(json.dumps(asked) + chr(10))"
    answer = f"json.dump({{'directory': {str(tmp_path / 'snap')!r}, 'handle': {{'id': 7}}}}, sys.stdout)"
    provider = saying(tmp_path, f"{note}\n{answer}", note)
    snapshot = provider.take(copy, ["app.db", "sub/more.db"], "L1")
    assert snapshot == Snapshot("exec", "L1", tmp_path / "snap", copy)
    assert provider.leftovers(copy) == [snapshot]
    provider.discard(snapshot)
    assert provider.leftovers(copy) == []
    questions = [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]
    assert questions == [
        {"action": "take", "directory": str(copy), "label": "L1", "names_count": 2},
        {"action": "release", "directory": str(copy), "label": "L1", "handle": '{"id": 7}'},
    ]


def test_it_is_atomic_only_when_the_administrator_says_so(tmp_path: Path) -> None:
    assert by_the_script(tmp_path).features == frozenset()
    assert by_the_script(tmp_path, atomic=True).features == {ProviderFeature.ATOMIC}


@pytest.mark.parametrize(
    ("take", "says"),
    [
        ("sys.exit('the pool is full')", "status 1: the pool is full"),
        ("print('taken')", "not one JSON object: 'taken'"),
        ("print('[1]')", "not one JSON object"),
        ("print('{' * 100000)", "not one JSON object"),
        ("pass", "the directory ''"),
        ("print(json.dumps({'directory': '/no/such/place', 'handle': 'x'}))", "'/no/such/place', and there is none"),
        ("print(json.dumps({'directory': asked['directory']}))", "not apart from the copy itself"),
        ("print(json.dumps({'directory': asked['directory'] + '/sub'}))", "not apart from the copy itself"),
        ("print(json.dumps({'directory': asked['directory'] + '/../copy'}))", "not apart from the copy itself"),
        ("print(json.dumps({'directory': sys.prefix}))", "lacks app.db and 1 more"),
        ("time.sleep(60)", "not done after 1 s and was killed"),
        ("import subprocess; subprocess.run(['sleep', '60'])", "not done after 1 s and was killed"),
    ],
)
def test_a_command_that_does_not_work_is_told_in_three_lines(tmp_path: Path, copy: Path, take: str, says: str) -> None:
    before = listing(copy)
    released = f"open({str(tmp_path / 'released')!r}, 'a').write(asked['label'])"
    provider = saying(tmp_path, take, released, seconds_max=1.0)
    began = time.monotonic()
    with pytest.raises(NotHealthy) as caught:
        provider.take(copy, ["app.db", "sub/more.db"], "L1")
    assert time.monotonic() - began < 10
    assert says in caught.value.because
    assert len(caught.value.lines()) == 3
    assert (tmp_path / "released").read_text() == "L1"
    assert provider.leftovers(copy) == []
    assert listing(copy) == before


def test_a_command_that_is_not_there_is_told(tmp_path: Path, copy: Path) -> None:
    provider = ExecProvider(SnapshotCommands(["/no/such/program"], ["/no/such/program"], 1.0), tmp_path / "state")
    answer = provider.suits(copy)
    assert not answer.suits
    assert "/no/such/program did not work: No such file" in answer.because


def test_a_daemon_that_keeps_the_output_open_does_not_hold_the_run(tmp_path: Path, copy: Path) -> None:
    shutil.copytree(copy, tmp_path / "snap")
    take = (
        "import subprocess; subprocess.Popen(['sleep', '5'], start_new_session=True)\n"
        f"print(json.dumps({{'directory': {str(tmp_path / 'snap')!r}, 'handle': 'x'}}))"
    )
    began = time.monotonic()
    provider = saying(tmp_path, take)
    provider.discard(provider.take(copy, ["app.db"], "L1"))
    assert time.monotonic() - began < 4


def test_what_could_not_be_released_stays_known(tmp_path: Path, copy: Path) -> None:
    provider = saying(tmp_path, "sys.exit('half done')", "sys.exit('busy')")
    with pytest.raises(NotHealthy, match="half done"):
        provider.take(copy, ["app.db"], "L1")
    (left,) = provider.leftovers(copy)
    with pytest.raises(NotHealthy, match="busy"):
        provider.discard(left)
    assert provider.leftovers(copy) == [left]
    assert provider.leftovers(tmp_path) == []
    mended = saying(tmp_path, "pass")
    assert mended.leftovers(copy) == [left]
    mended.discard(left)
    assert mended.leftovers(copy) == []


def test_a_state_file_that_is_broken_is_told(tmp_path: Path, copy: Path) -> None:
    provider = saying(tmp_path, "pass")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "snapshot-commands.json").write_text('[{"label": 1}]')
    with pytest.raises(NotHealthy) as caught:
        provider.leftovers(copy)
    assert "release them by hand" in caught.value.next_step


def test_zfs_may_show_its_snapshots_inside(tmp_path: Path, copy: Path) -> None:
    inside = copy / ".zfs" / "snapshot" / "L1"
    inside.mkdir(parents=True)
    (inside / "app.db").write_bytes(PAGES)
    provider = saying(tmp_path, f"print(json.dumps({{'directory': {str(inside)!r}}}))")
    snapshot = provider.take(copy, ["app.db"], "L1")
    assert snapshot.directory == inside
    provider.discard(snapshot)


def test_the_scripts_that_we_never_ran_say_so_and_at_least_compile() -> None:
    for name in ("zfs.py", "lvm.py"):
        text = (SCRIPT.parent / name).read_text()
        compile(text, name, "exec")
        assert '"""NOT RUN BY US' in text
        assert f"| `{name}` |" in (SCRIPT.parent / "README.md").read_text()
