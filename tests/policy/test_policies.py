"""Every policy that we show works as it stands; every invalid one is refused with its own sentence."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from backupd.cli.main import run
from backupd.errors import ConfigInvalid
from backupd.model.rules import Task
from backupd.policy.load import load_policies, load_policy
from backupd.policy.schema import policy_json_schema
from backupd.policy.skim import skim

ROOT = Path(__file__).parents[2]
SHOWN = sorted((ROOT / "policies").glob("*.toml"))
INVALID = sorted((ROOT / "tests" / "policies_invalid").glob("*.toml"))

SECRETS = re.compile("geheim|AKIA|hunter2", re.IGNORECASE)
KEYS = {"file", "line", "place", "problem"}


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.stem)
def test_a_shown_policy_works_as_it_stands(path: Path) -> None:
    loaded = load_policy(path)
    assert Task.FULL in loaded.policy.schedule_rules().calendars
    assert not loaded.policy.retention_rules().is_empty
    # The only thing odd about an example is that it is named after its idea.
    assert all("would be easier to find" in warning for warning in loaded.warnings)


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.stem)
def test_a_shown_policy_fits_the_json_schema(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    content = tomllib.loads(path.read_text())
    jsonschema.validate(content, policy_json_schema())
    content["retention"]["keep_day"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, policy_json_schema())


def test_the_shown_policies_can_stand_beside_each_other() -> None:
    assert len(load_policies(ROOT / "policies")) == len(SHOWN)


def test_the_default_is_weekly_full_and_daily_incremental() -> None:
    content = tomllib.loads((ROOT / "policies" / "weekly-full-daily-incremental.toml").read_text())
    assert content["schedule"] == {"timezone": "UTC", "full": "sun 02:00", "incremental": "mon..sat 02:00"}


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_policy_is_refused_with_its_sentence(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, _, _ = path.read_text().partition("\n")
    expected = first.removeprefix("# expect: ")
    with pytest.raises(ConfigInvalid) as caught:
        load_policy(path)
    assert caught.value.because.replace(f"{path.parent}/", "") == expected
    assert caught.value.next_step == f"edit {path}, then backupctl policy check {path}"
    assert run(["policy", "check", str(path)]) == 3
    said = capsys.readouterr()
    problems = caught.value.details["problems"]
    assert problems
    for problem in problems:
        line = f"{problem['file']}:{problem['line']}: {problem['place']}".rstrip(": ")
        assert line in said.out
        assert problem["line"] >= 1
    assert [line.split(":")[0] for line in said.err.splitlines()] == ["error", "because", "next"]
    assert not SECRETS.search(said.out + said.err)


def test_policy_check_says_the_same_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "check", "--json", str(INVALID[0].parent)]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["files"]) == len(INVALID)
    assert all(row["problems"] and set(row["problems"][0]) == KEYS for row in answer["files"])


def test_the_line_of_every_problem_is_the_one_that_it_is_about() -> None:
    """A number alone could be any; the line holds the last word of the place, or begins the table that lacks it."""
    for path in INVALID:
        for match in re.finditer(
            r"([\w/-]+\.toml):(\d+): ([\w.-]+): (it is missing)?", path.read_text().partition("\n")[0]
        ):
            text = (path.parent / match[1]).read_text().splitlines()[int(match[2]) - 1]
            words = [word for word in match[3].split(".") if not word.isdecimal()]
            header = f"[{'.'.join(words[:-1])}]"  # of the table that lacks the key
            assert words[-1] in text or text == header or (match[4] and len(words) == 1), f"{path.name}: {text}"


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.stem)
def test_skimming_sees_what_reading_sees(path: Path) -> None:
    content = tomllib.loads(path.read_text())
    found = skim(path)
    assert found.database == content["database"]
    places = {table.get("path") or table["data_directory"] for table in content["copies"].values()}
    assert places <= set(found.places)


@pytest.mark.parametrize(
    "text",
    [
        'database = "o\\u0072ders"\n[copies.a]\npath = "/data/\\u0061.db"',
        '"database" = "orders"\ncopies = {a = {path = "/data/a.db"}}',
        'database = "orders"\n[copies.a]\npath = """/data/a.db"""',
        " database='orders'\n[copies.a]\npath='/data/a.db'",
    ],
)
def test_skimming_is_not_fooled_by_another_way_to_write_it(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    assert (skim(path).database, skim(path).places[:1]) == ("orders", ("/data/a.db",))
