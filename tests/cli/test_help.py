"""Every verb has help, and every example in it is a command line that the app takes."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from backupd.cli.main import VERBS, app, run


def verbs() -> Iterator[tuple[str, Any]]:
    def walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for name, below in command.commands.items():
                yield from walk(f"{path} {name}".strip(), below)
        else:
            yield path, command

    return walk("", typer.main.get_command(app))


def examples_of(help_text: str) -> list[str]:
    lines = help_text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("backupctl ")]


DESIGNED = {
    *(
        "demo",
        "init",
        "policy check",
        "policy schema",
        "policy plan",
        "policy diff",
        "policy fetch",
        "check",
        "status",
        "backup",
        "list",
        "show",
        "timeline",
    ),
    *("verify", "restore", "drill", "explain truncation", "explain retention", "explain schedule", "truncate", "prune"),
    *("hold", "release", "holds", "copy suspend", "copy resume", "copy seed", "copy switchover", "copy-archive"),
    *("recover", "metrics", "alarms", "alarm test"),
}


def test_the_app_has_every_verb_of_the_design_and_lists_it() -> None:
    found = dict(verbs())
    assert set(found) == DESIGNED
    assert {name.split()[0] for name in DESIGNED} == set(VERBS)


@pytest.mark.parametrize("verb", sorted(DESIGNED))
def test_each_verb_has_help_with_an_example_that_parses(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*verb.split(), "--help"]) == 0
    help_text = capsys.readouterr().out
    examples = examples_of(help_text)
    assert examples, help_text
    command = dict(verbs())[verb]
    for example in examples:
        words = shlex.split(example, comments=True)
        for end in ("|", ">"):
            words = words[: words.index(end)] if end in words else words
        assert words[1 : 1 + len(verb.split())] == verb.split()
        command.make_context(verb, words[1 + len(verb.split()) :])


READS = {
    "check",
    "status",
    "list",
    "show",
    "timeline",
    "verify",
    "holds",
    "policy check",
    "policy plan",
    "policy diff",
} | {
    "alarms",
    "alarm test",
    *(verb for verb in DESIGNED if verb.startswith("explain")),
}


@pytest.mark.parametrize(("verb", "command"), sorted(verbs()))
def test_reading_verbs_take_json_and_changing_verbs_take_dry_run(verb: str, command: Any) -> None:
    options = {name for parameter in command.params for name in parameter.opts}
    if verb in READS:
        assert "--json" in options
        assert "--dry-run" not in options
    elif verb not in {"policy schema", "demo", "metrics"}:  # metrics: their form is Prometheus' own
        assert {"--json", "--dry-run"} <= options


def test_nothing_alone_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    assert "Exit status: 0 done" in capsys.readouterr().out
    assert run(["copy"]) == 0
    assert "suspend" in capsys.readouterr().out


HEAVY = ("numpy", "pydantic", "zstandard", "boto3", "rich", "sqlite3", "xxhash", "blake3")


@pytest.mark.parametrize("module", ["backupd.cli.main", "backupd.service.main"])
def test_the_front_doors_import_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from backupd.cli.main import run; run(['--help']); "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"
