"""Files that include others: the policy's own keys win, and a problem is named where it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.errors import ConfigInvalid
from backupd.policy.load import load_policies, load_policy, load_policy_of, load_service_config
from backupd.policy.skim import skim
from backupd.policy.written import line_of, read_written

OWN = """\
include = [{include}]
database = "orders"
engine = "sqlite"
archive = "file:///backups"
[copies.a]
path = "/data/app.db"
[copies.b]
path = "/data/passive/app.db"
"""


def policy(path: Path, *includes: str, more: str = "", database: str = "orders") -> Path:
    named = ", ".join(f'"{include}"' for include in includes)
    text = OWN.format(include=named).replace("orders", database).replace("/app.db", f"/{database}.db")
    return written(path, text + more)


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    return tmp_path


def test_tables_are_merged_key_by_key_and_the_policy_s_own_keys_win(repository: Path) -> None:
    common = '[retention]\nkeep_days = 7\nkeep_fulls_min = 3\n[schedule]\nfull = "sun 01:00"\n'
    written(repository / "defaults/common.toml", common)
    path = policy(repository / "policies/orders.toml", "../defaults/common.toml", more="[retention]\nkeep_days = 28\n")
    loaded = load_policy(path)
    assert (loaded.policy.retention.keep_days, loaded.policy.retention.keep_fulls_min) == (28, 3)
    assert loaded.policy.schedule.full == "sun 01:00"
    assert loaded.files == (path, repository / "defaults/common.toml")


def test_a_later_include_wins_over_an_earlier_and_an_including_file_over_what_it_includes(repository: Path) -> None:
    written(repository / "d/all.toml", "[freeze]\nseconds_max = 1\nattempts_max = 1\n[stamp]\ntimeout_seconds = 1\n")
    written(repository / "d/site.toml", 'include = ["all.toml"]\n[freeze]\nseconds_max = 2\nattempts_max = 2\n')
    written(repository / "d/team.toml", "[freeze]\nseconds_max = 3\n")
    path = policy(repository / "policies/orders.toml", "../d/site.toml", "../d/team.toml")
    loaded = load_policy(path).policy
    assert (loaded.freeze.seconds_max, loaded.freeze.attempts_max, loaded.stamp.timeout_seconds) == (3, 2, 1)


def test_a_list_is_one_value_and_is_not_merged(repository: Path) -> None:
    written(repository / "d/x.toml", '[restore]\nstop_command = ["a", "b"]\n')
    path = policy(repository / "p/orders.toml", "../d/x.toml", more='[restore]\nstop_command = ["c"]\n')
    assert load_policy(path).policy.restore.stop_command == ["c"]


def test_a_problem_between_two_files_is_named_where_the_value_that_counts_is_written(repository: Path) -> None:
    written(repository / "d/x.toml", "[freeze]\nseconds_max = 20\n\n[retention]\nkeep_days = 0\n")
    path = policy(repository / "p/orders.toml", "../d/x.toml", more="[freeze]\nseconds_max = 0\n")
    with pytest.raises(ConfigInvalid) as caught:
        load_policy(path)
    found = [(Path(str(one["file"])).name, one["line"], one["place"]) for one in caught.value.details["problems"]]
    assert found == [("orders.toml", 10, "freeze.seconds_max"), ("x.toml", 5, "retention.keep_days")]


def test_folders_below_the_policies_are_no_policies(tmp_path: Path) -> None:
    written(tmp_path / "policies/defaults/common.toml", "[retention]\nkeep_days = 7\n")
    policy(tmp_path / "policies/orders.toml", "defaults/common.toml")
    assert list(load_policies(tmp_path / "policies")) == ["orders"]


def test_without_git_an_include_stays_inside_the_policies_folder(tmp_path: Path) -> None:
    written(tmp_path / "defaults/common.toml", "")
    refused(policy(tmp_path / "policies/orders.toml", "../defaults/common.toml"), "lies outside")


def test_a_link_does_not_lead_out_of_the_repository(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = written(tmp_path_factory.mktemp("outside") / "secret.toml", "[freeze]\nseconds_max = 3\n")
    (repository / "d").mkdir()
    (repository / "d/link.toml").symlink_to(outside)
    refused(policy(repository / "p/orders.toml", "../d/link.toml"), "lies outside")


def test_a_chain_of_includes_has_an_end(repository: Path) -> None:
    for depth in range(1, 6):
        written(repository / f"d/{depth}.toml", f'include = ["{depth + 1}.toml"]\n')
    written(repository / "d/6.toml", "")
    refused(policy(repository / "p/orders.toml", "../d/1.toml"), "deep; at most 4")
    policy(repository / "p/orders.toml", "../d/3.toml")
    assert load_policy(repository / "p/orders.toml")


def test_two_ways_to_one_file_are_no_loop(repository: Path) -> None:
    written(repository / "d/all.toml", "[freeze]\nseconds_max = 1\n")
    for name in ("one", "two"):
        written(repository / f"d/{name}.toml", 'include = ["all.toml"]\n')
    path = policy(repository / "p/orders.toml", "../d/one.toml", "../d/two.toml")
    assert load_policy(path).policy.freeze.seconds_max == 1


def test_a_database_s_copies_are_seen_through_the_includes_of_another_policy(tmp_path: Path) -> None:
    """What is only skimmed must not hide in a file of defaults."""
    written(tmp_path / "backupd.toml", "")
    policy(tmp_path / "policies/orders.toml")
    shared = '[copies.b]\npath = "/data/orders.db"\n'
    written(tmp_path / "policies/defaults/copies.toml", shared)
    text = policy(tmp_path / "policies/shop.toml", "defaults/copies.toml", database="shop").read_text()
    (tmp_path / "policies/shop.toml").write_text(text.replace('[copies.b]\npath = "/data/passive/shop.db"\n', ""))
    with pytest.raises(ConfigInvalid, match="can belong to one database only"):
        load_policy_of(load_service_config(tmp_path / "backupd.toml"), "shop")


@pytest.mark.parametrize("more", ["", '[copies.b]\npath = "/data/other.db"\n', 'include = ["more.toml"]\n'])
@pytest.mark.parametrize(
    "line", ['include = ["d/x.toml"]\n', "include=[ 'd/x.toml' , ]\n", 'include = [\n"d/x.toml",\n]\n']
)
def test_skimming_sees_through_includes(more: str, line: str, tmp_path: Path) -> None:
    written(tmp_path / "d/more.toml", '[copies.b]\npath = "/data/more.db"\n')
    written(tmp_path / "d/x.toml", more + "[freeze]\nseconds_max = 3\n")
    own = OWN.format(include="").partition("\n")[2].partition("[copies.b]")[0]
    path = written(tmp_path / "orders.toml", line + own)
    found = skim(path)
    assert found.database == "orders"
    expected = {"/data/other.db"} if "other" in more else {"/data/more.db"} if more else set()
    assert set(found.places) == {"/data/app.db"} | expected


def test_an_included_file_is_read_once_for_all_that_include_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node may have ten thousand policies with one file of defaults, and a command about one skims them all."""
    written(tmp_path / "d/x.toml", "[freeze]\nseconds_max = 3\n")
    for number in range(20):
        policy(tmp_path / f"p{number}.toml", "d/x.toml", database=f"db{number}")
    read: list[str] = []
    real = Path.read_text

    def counted(path: Path, **options: str) -> str:
        read.append(path.name)
        return real(path, **options)

    monkeypatch.setattr(Path, "read_text", counted)
    dull: dict[str, bool] = {}
    assert {skim(path, dull).database for path in sorted(tmp_path.glob("*.toml"))} == {f"db{n}" for n in range(20)}
    assert read.count("x.toml") == 1


@pytest.mark.parametrize(
    ("text", "place", "line"),
    [
        ("a = 1\n[t]\nb = 2\n", "t.b", 3),
        ("a = 1\n[t]\nb = 2\n", "t.c", 2),
        ("[t]\nb.c = 2\n", "t.b.c", 2),
        ('[t."x y"]\nb = 1\n', "t.x y.b", 2),
        ("[[t]]\nb = 1\n[[t]]\nb = 2\n", "t.1.b", 4),
        ('a = """\n[t]\nb = 1\n"""\n[t]\nb = 2\n', "t.b", 6),
        ("t = {b = 1}\n", "t.b", 1),
        ("a = 1\n", "none", 1),
        ("", "none", 0),
    ],
)
def test_the_line_of_a_place(text: str, place: str, line: int) -> None:
    assert line_of(text, place.split(".")) == line


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"a = 1\n\xff")
    found, problems = read_written(tmp_path / "x.toml")
    assert found is None
    assert [(problem.line, problem.sentence) for problem in problems] == [(2, "it is not UTF-8 text; save it as UTF-8")]


def refused(path: Path, why: str) -> None:
    with pytest.raises(ConfigInvalid, match=why):
        load_policy(path)
