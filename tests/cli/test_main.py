"""Exit statuses and the three lines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backupd import errors
from backupd.cli import house, main
from backupd.cli.main import run


def three_lines(text: str) -> list[str]:
    lines = text.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "because", "next"], text
    return lines


@pytest.mark.parametrize(
    "words",
    [
        ["bakup"],
        ["backup"],
        ["backup", "orders", "--type", "huge"],
        ["status", "--nonsense"],
        ["list", "a", "b"],
        ["restore", "orders", "--at", "2026-01-01", "--to", "a/1"],
        ["restore", "orders", "--to", "nowhere"],
        ["restore", "orders", "--at", "teatime"],
        ["init", "/tmp/x", "--database", "o", "--copy", "a", "--archive", "file:///b"],
        ["policy", "plan", "--days", "none"],
    ],
)
def test_wrong_words_are_three_lines_and_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    three_lines(captured.err)


def test_a_wrong_verb_is_answered_with_the_nearest_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    run(["bakup"])
    assert "backup" in three_lines(capsys.readouterr().err)[0]


def test_what_comes_later_refuses_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["copy", "switchover", "orders"]) == 2
    assert "comes in a later version" in three_lines(capsys.readouterr().err)[0]


def test_with_json_the_error_is_an_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["backup", "--json"]) == 2
    captured = capsys.readouterr()
    three_lines(captured.err)
    error = json.loads(captured.out)["error"]
    assert set(error) == {"problem", "because", "next", "exit_status"}
    assert error["exit_status"] == 2


FAMILY = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BackupdError)]


@pytest.mark.parametrize("kind", FAMILY)
def test_each_failure_leaves_with_its_own_status(
    kind: type[errors.BackupdError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(option: str | None) -> object:
        raise kind("it broke", because="it was old", next_step="buy a new one", part="spring")

    monkeypatch.setattr(house, "opened", fail)
    assert run(["status", "--json"]) == kind.exit_status
    captured = capsys.readouterr()
    assert captured.err == "error: it broke\nbecause: it was old\nnext: buy a new one\n"
    assert json.loads(captured.out)["error"]["details"] == {"part": "spring"}


def test_a_bug_is_shown_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(option: str | None) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(house, "opened", fail)
    with pytest.raises(ZeroDivisionError):
        run(["status"])


def test_control_c_is_three_lines_and_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(option: str | None) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(house, "opened", interrupted)
    assert run(["status"]) == 130
    assert "interrupted" in three_lines(capsys.readouterr().err.strip())[0]


WAITING = """
import signal, sys, time
signal.signal(signal.SIGHUP, getattr(signal, sys.argv.pop()))  # the tests themselves may run under nohup
from backupd.cli import house, main
class House:
    def __enter__(self):
        try:
            print("waiting", flush=True)
            time.sleep(60)
        finally:
            print("undone", flush=True)
    def __exit__(self, *facts):
        return None
house.opened = lambda option: House()
main.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_undoes_and_leaves_with_130(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, "status", "SIG_DFL"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == "undone\n"
    assert number.name in three_lines(err.strip())[1]


def test_a_hangup_under_nohup_is_ignored() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, "status", "SIG_IGN"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert "SIGTERM" in three_lines(err.strip())[1]


def test_a_closed_pipe_is_no_failure(tmp_path: Path) -> None:
    command = f"{sys.executable} -m backupd.cli.main --help | head -c 5; echo ${{PIPESTATUS[0]}}"
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert answer.stdout.endswith("0\n")
    assert answer.stderr == ""


def test_the_config_may_stand_before_the_verb_or_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BACKUPD_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    missing = tmp_path / "no.toml"
    for words in (["--config", str(missing), "status"], ["status", "--config", str(missing)]):
        assert run(words) == 3
        assert str(missing) in capsys.readouterr().err
    monkeypatch.delenv("BACKUPD_CONFIG", raising=False)
    assert run(["status"]) == 3
    assert "neither --config" in capsys.readouterr().err
    monkeypatch.setenv("BACKUPD_CONFIG", str(missing))
    assert run(["status"]) == 3
    assert str(missing) in capsys.readouterr().err


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("backupctl ")


def test_main_is_the_installed_command() -> None:
    text = (Path(main.__file__).parents[2] / "pyproject.toml").read_text()
    assert 'backupctl = "backupd.cli.main:main"' in text
    assert os.access(main.__file__, os.R_OK)
