"""Policies follow a real repository: whole, checked and signed, or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from backupd.bootstrap import open_house
from backupd.errors import Busy, ConfigInvalid, NotHealthy, Refused
from backupd.policy.follow import Followed, PolicyFollower, follower_of
from backupd.policy.git import policy_commit
from backupd.policy.load import load_policies, load_policy, load_service_config
from backupd.policy.policies_table import PolicyRepository

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

POLICY = """\
include = ["../defaults/common.toml"]
database = "{name}"
engine = "sqlite"
archive = "file:///backups/{name}"
[copies.a]
path = "/data/{name}.db"
[copies.b]
path = "/data/passive/{name}.db"
"""


class Origin:
    """The repository that others push to."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self.git("init", "-q", "-b", "main")
        self.settings: tuple[str, ...] = ()
        self.write("defaults/common.toml", "[retention]\nkeep_days = 7\n")
        self.write("policies/orders.toml", POLICY.format(name="orders"))
        self.write("README.md", "not for a service")

    def git(self, *arguments: str, **environment: str) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", "-C", str(self.place), *identity, *arguments],
            capture_output=True,
            check=True,
            text=True,
            env={**os.environ, **environment},
        )
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, *options: str, sign: bool = False) -> str:
        how = (*self.settings, "commit", "-q", "--allow-empty", "-m", "change", *(["-S"] if sign else []), *options)
        self.git("add", "-A")
        self.git(*how)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    made = Origin(tmp_path / "origin")
    made.commit()
    return made


def follower(origin: Origin, **options: Any) -> PolicyFollower:
    wanted = {"repository": f"file://{origin.place}", **options}
    return PolicyFollower(PolicyRepository.model_validate(wanted), origin.place.parent / "state")


def refused(found: Followed, kind: type[Exception], why: str) -> None:
    assert isinstance(found.problem, kind), found.problem
    assert why in found.problem.because, found.problem
    assert not found.changed
    alarm = found.alarm()
    assert alarm is not None
    assert (alarm.code, alarm.next_step) == ("policies-not-followed", found.problem.next_step)


def test_the_first_fetch_brings_the_policies_in(origin: Origin) -> None:
    follows = follower(origin)
    assert follows.in_force() is None
    head = origin.git("rev-parse", "HEAD")
    found = follows.fetch()
    assert found == Followed(head, None, head)
    assert found.changed
    assert found.alarm() is None
    assert load_policies(follows.policies_dir)["orders"].policy.retention.keep_days == 7
    assert not list(follows.policies_dir.parent.rglob("README.md"))
    assert not follows.fetch().changed


def test_a_push_comes_into_force_and_a_reader_of_the_old_one_is_not_disturbed(origin: Origin) -> None:
    follows = follower(origin)
    follows.fetch()
    old = follows.policies_dir
    origin.write("policies/orders.toml", POLICY.format(name="orders") + "[freeze]\nseconds_max = 7\n")
    origin.write("policies/shop.toml", POLICY.format(name="shop"))
    head = origin.commit()
    found = follows.fetch()
    assert (found.changed, found.commit) == (True, head)
    assert sorted(load_policies(follows.policies_dir)) == ["orders", "shop"]
    assert sorted(load_policies(old)) == ["orders"]


def test_a_backup_s_record_names_the_newest_commit_of_its_policy_and_includes(origin: Origin) -> None:
    first = origin.git("rev-parse", "HEAD")
    origin.write("defaults/common.toml", "[retention]\nkeep_days = 8\n")
    second = origin.commit()
    origin.write("policies/shop.toml", POLICY.format(name="shop"))
    origin.commit()
    follows = follower(origin)
    follows.fetch()
    loaded = load_policy(follows.policies_dir / "orders.toml")
    assert policy_commit(loaded.path) == first
    assert policy_commit(loaded.path, loaded.files[1:]) == second


def test_an_invalid_policy_does_not_come_into_force_and_is_named_with_its_line(origin: Origin) -> None:
    follows = follower(origin)
    good = follows.fetch().commit
    origin.write("defaults/common.toml", "[retention]\nkeepdays = 7\n")
    bad = origin.commit()
    found = follows.fetch()
    refused(found, ConfigInvalid, f"{bad[:12]}:defaults/common.toml:2: retention.keepdays")
    assert (found.commit, found.newest) == (good, bad)
    assert load_policies(follows.policies_dir)["orders"].policy.retention.keep_days == 7
    assert not (follows.policies_dir.parents[1] / bad).exists()
    origin.write("defaults/common.toml", "[retention]\nkeep_days = 9\n")
    assert follows.fetch().problem is not None
    assert origin.commit() == follows.fetch().commit


def test_a_repository_that_is_away_changes_nothing(origin: Origin) -> None:
    follows = follower(origin)
    good = follows.fetch().commit
    shutil.move(origin.place, origin.place.with_name("away"))
    found = follows.fetch()
    refused(found, NotHealthy, str(origin.place))
    assert (found.commit, found.newest) == (good, None)
    assert load_policies(follows.policies_dir)


def test_a_folder_without_policies_would_stop_every_backup_and_is_refused(origin: Origin) -> None:
    refused(follower(origin, path="policy").fetch(), ConfigInvalid, "without policies nothing is backed up")
    follows = follower(origin)
    follows.fetch()
    shutil.rmtree(origin.place / "policies")
    origin.commit()
    refused(follows.fetch(), ConfigInvalid, "without policies nothing is backed up")


def test_another_ref_and_another_folder_are_followed(origin: Origin) -> None:
    origin.git("checkout", "-q", "-b", "site/north")
    origin.write("north/orders.toml", POLICY.format(name="orders"))
    head = origin.commit()
    origin.git("tag", "-m", "live", "live")
    assert follower(origin).fetch().commit != head
    for ref in ("site/north", "refs/heads/site/north", "live"):
        follows = follower(origin, ref=ref, path="north")
        assert (follows.fetch().problem, follows.in_force()) == (None, head)
        assert follows.policies_dir.name == "north"
    assert follower(origin, ref="none").fetch().problem is not None


def test_a_branch_that_is_rewritten_is_followed_where_no_signature_is_asked_for(origin: Origin) -> None:
    follows = follower(origin)
    follows.fetch()
    origin.write("policies/orders.toml", POLICY.format(name="orders") + "[freeze]\nseconds_max = 7\n")
    head = origin.commit("--amend")
    assert follows.fetch().commit == head


def test_a_dry_run_fetches_and_judges_and_changes_nothing(origin: Origin) -> None:
    follows = follower(origin)
    head = origin.git("rev-parse", "HEAD")
    assert follows.fetch(switch=False) == Followed(None, None, head)
    assert not follows.policies_dir.exists()
    assert follows.fetch().commit == head


def test_older_commits_are_removed_in_the_end(origin: Origin) -> None:
    follows = follower(origin)
    for number in range(1, 7):
        origin.write("policies/orders.toml", POLICY.format(name="orders") + f"[freeze]\nseconds_max = {number}\n")
        head = origin.commit()
        assert follows.fetch().commit == head
    assert len(list(follows.policies_dir.parents[1].iterdir())) == 3


def test_a_leftover_of_a_dead_fetch_is_no_obstacle(origin: Origin) -> None:
    head = origin.git("rev-parse", "HEAD")
    commits = origin.place.parent / "state" / "policies.followed" / "commits"
    (commits / head / "policies").mkdir(parents=True)
    (commits / f".{head}.new").mkdir()
    (commits.parent / ".current.new").symlink_to("nowhere")
    follows = follower(origin)
    assert follows.fetch().commit == head
    assert load_policies(follows.policies_dir)


def test_readers_see_one_commit_or_the_other_while_it_changes(origin: Origin) -> None:
    """Every policy of a commit says the same number; a mixture would show two."""
    names = [f"db{number}" for number in range(8)]

    def write(number: int) -> None:
        for name in names:
            origin.write(f"policies/{name}.toml", POLICY.format(name=name) + f"[freeze]\nseconds_max = {number}\n")
        origin.write("policies/orders.toml", POLICY.format(name="orders") + f"[freeze]\nseconds_max = {number}\n")
        origin.commit()

    write(1)
    follows = follower(origin)
    follows.fetch()
    seen: list[set[float]] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            loaded = load_policies(follows.policies_dir)
            seen.append({one.policy.freeze.seconds_max for one in loaded.values()})

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in (2, 3):
            write(number)
            assert follows.fetch().problem is None
    finally:
        done.set()
        reader.join()
    assert seen
    assert all(len(numbers) == 1 for numbers in seen), seen


def test_two_fetches_at_once_are_one(origin: Origin) -> None:
    import fcntl

    follows = follower(origin)
    follows.fetch()
    with open(origin.place.parent / "state/policies.followed/lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(follows.fetch(), Busy, "another process holds")


def test_hooks_and_filters_of_the_repository_are_never_run(origin: Origin, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    origin.write(".gitattributes", "*.toml filter=x export-subst\n")
    origin.write("policies/orders.toml", POLICY.format(name="orders") + "# $Format:%H$\n")
    origin.commit()
    follows = follower(origin)
    follows.fetch()
    hooks = origin.place.parent / "state/policies.followed/repository.git/hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("reference-transaction", "post-checkout", "pre-auto-gc"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (hooks / name).chmod(0o755)
    origin.commit()
    assert follows.fetch().changed
    assert not mark.exists()
    assert "$Format:%H$" in (follows.policies_dir / "orders.toml").read_text()


def test_it_is_fetched_at_once_and_then_every_so_often(origin: Origin) -> None:
    follows = follower(origin, every="1min")
    first = follows.tick(1000.0)
    assert first is not None
    assert first.changed
    assert follows.tick(1059.0) is None
    again = follows.tick(1060.0)
    assert again is not None
    assert not again.changed


def test_the_config_leads_to_what_is_in_force(origin: Origin, tmp_path: Path) -> None:
    config = tmp_path / "backupd.toml"
    config.write_text(f'[policies]\nrepository = "{origin.place}"\n')
    loaded = load_service_config(config)
    with pytest.raises(ConfigInvalid, match="nothing was fetched yet"):
        load_policies(loaded.policies_dir)
    follows = follower_of(loaded)
    assert follows is not None
    commit = follows.fetch().commit
    assert commit is not None
    loaded = load_service_config(config)
    assert loaded.policies_dir == tmp_path / "state/policies.followed/commits" / commit / "policies"
    assert list(load_policies(loaded.policies_dir)) == ["orders"]
    config.write_text("")
    assert follower_of(load_service_config(config)) is None


class TestSignedBySsh:
    @pytest.fixture
    def signed(self, origin: Origin, tmp_path: Path) -> Origin:
        if shutil.which("ssh-keygen") is None:
            pytest.skip("ssh-keygen is not installed")
        for name in ("ours", "theirs"):
            key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(tmp_path / name)]
            subprocess.run(key, check=True)
        (tmp_path / "signers").write_text(f"ops@example.org {(tmp_path / 'ours.pub').read_text()}")
        self.sign_with(origin, "ours")
        origin.commit(sign=True)
        return origin

    def sign_with(self, origin: Origin, name: str) -> None:
        key = origin.place.parent / f"{name}.pub"
        origin.settings = ("-c", "gpg.format=ssh", "-c", f"user.signingkey={key}")

    def test_only_what_an_allowed_signer_has_signed_comes_into_force(self, signed: Origin) -> None:
        follows = follower(signed, signed_by=str(signed.place.parent / "signers"))
        good = follows.fetch()
        assert good.problem is None
        assert good.changed
        signed.commit()
        refused(follows.fetch(), Refused, "it has no signature")
        self.sign_with(signed, "theirs")
        signed.commit(sign=True)
        refused(follows.fetch(), Refused, "git says: ")
        self.sign_with(signed, "ours")
        on_top = signed.commit(sign=True)
        assert follows.fetch().commit == on_top

    def test_going_back_to_an_older_signed_commit_is_refused(self, signed: Origin) -> None:
        follows = follower(signed, signed_by=str(signed.place.parent / "signers"))
        old = signed.git("rev-parse", "HEAD")
        newer = signed.commit(sign=True)
        assert follows.fetch().commit == newer
        signed.git("reset", "-q", "--hard", old)
        found = follows.fetch()
        refused(found, Refused, "is not among its ancestors")
        assert found.commit == newer

    def test_a_missing_file_of_signers_lets_nothing_pass(self, signed: Origin) -> None:
        refused(follower(signed, signed_by="/nowhere/signers").fetch(), Refused, "there is no /nowhere/signers")

    def test_signatures_asked_for_later_are_asked_of_what_is_in_force_too(self, signed: Origin) -> None:
        signed.commit()
        assert follower(signed).fetch().problem is None
        refused(follower(signed, signed_by=str(signed.place.parent / "signers")).fetch(), Refused, "no signature")

    @pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
    def test_a_gpg_signature_of_the_user_s_own_keyring_is_none_of_ours(
        self, signed: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = gpg_home(tmp_path)
        monkeypatch.setenv("GNUPGHOME", str(home))
        signed.settings = ("-c", "gpg.format=openpgp", "-c", "user.signingkey=ops@example.org")
        signed.commit(sign=True)
        try:
            found = follower(signed, signed_by=str(tmp_path / "signers")).fetch()
            assert isinstance(found.problem, Refused)
            assert follower(signed, signed_by=f"gpg:{home}").fetch().changed
        finally:
            stop_agent(home)

    @pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
    def test_with_gpg_neither_an_ssh_signature_nor_an_unknown_key_counts(
        self, signed: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = tmp_path / "gitconfig"  # of the user who runs this, and trusts more people
        own.write_text(f'[gpg "ssh"]\nallowedSignersFile = {tmp_path / "signers"}\n')
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(own))
        home, other = gpg_home(tmp_path), gpg_home(tmp_path, "other")
        try:
            assert isinstance(follower(signed, signed_by=f"gpg:{home}").fetch().problem, Refused)
            signed.settings = ("-c", "gpg.format=openpgp", "-c", "user.signingkey=ops@example.org")
            with monkeypatch.context() as theirs:
                theirs.setenv("GNUPGHOME", str(other))
                signed.commit(sign=True)
            assert isinstance(follower(signed, signed_by=f"gpg:{home}").fetch().problem, Refused)
            assert follower(signed, signed_by=f"gpg:{other}").fetch().changed
        finally:
            stop_agent(home)
            stop_agent(other)


def gpg_home(tmp_path: Path, name: str = "gpg") -> Path:
    """Short enough for the agent's socket."""
    import tempfile

    home = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    words = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", "", "--quick-generate-key"]
    subprocess.run([*words, "ops@example.org", "ed25519", "sign", "never"], check=True, capture_output=True)
    return home


def stop_agent(home: Path) -> None:
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize(
    ("table", "place", "why"),
    [
        ('repository = "http://example.org/x.git"', "policies.repository", "nobody vouches"),
        ('repository = "git://example.org/x.git"', "policies.repository", "nobody vouches"),
        ('repository = "https://me:geheim@example.org/x.git"', "policies.repository", "it holds a secret"),
        ('repository = "https://geheim@example.org/x.git"', "policies.repository", "it holds a secret"),
        ('repository = "ext::sh -c id"', "policies.repository", "is not the address"),
        ('repository = "--upload-pack=id"', "policies.repository", "is not the address"),
        ('repository = "ssh://-oProxyCommand=id/x"', "policies.repository", "is not the address"),
        ('repository = "x.git"', "policies.repository", "is not the address"),
        ("", "policies.repository", "it is missing"),
        ('repository = "/srv/x.git"\nref = "--all"', "policies.ref", "is not a branch or tag"),
        ('repository = "/srv/x.git"\nref = "main:other"', "policies.ref", "is not a branch or tag"),
        ('repository = "/srv/x.git"\npath = "../x"', "policies.path", "is not a folder"),
        ('repository = "/srv/x.git"\npath = "/x"', "policies.path", "is not a folder"),
        ('repository = "/srv/x.git"\nevery = "1s"', "policies.every", "at least 10s"),
        ('repository = "/srv/x.git"\nsigned_by = "signers"', "policies.signed_by", "is not an absolute path"),
        ('repository = "/srv/x.git"\nbranch = "main"', "policies.branch", "there is no such key"),
        ('repository = "/srv/x.git"\ntoken = "geheim"', "policies.token", "a secret never stands in a file"),
    ],
)
def test_what_cannot_be_followed_is_refused_where_it_is_written(
    table: str, place: str, why: str, tmp_path: Path
) -> None:
    config = tmp_path / "backupd.toml"
    config.write_text(f"[policies]\n{table}\n")
    with pytest.raises(ConfigInvalid) as caught:
        load_service_config(config)
    (problem,) = caught.value.details["problems"]
    assert problem["place"] == place
    assert why in problem["problem"]
    assert problem["line"] >= 1
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://git.example.org/ops/policies.git",
        "git@git.example.org:ops/policies.git",
        "ssh://git@git.example.org:2222/ops/policies.git",
        "file:///srv/git/policies.git",
        "/srv/git/policies.git",
    ],
)
def test_the_usual_addresses_are_taken(address: str, tmp_path: Path) -> None:
    (tmp_path / "backupd.toml").write_text(f'[policies]\nrepository = "{address}"\n')
    follow = load_service_config(tmp_path / "backupd.toml").follow
    assert follow is not None
    assert follow.repository == address


def test_two_places_of_policies_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "backupd.toml").write_text('[service]\npolicies_dir = "p"\n[policies]\nrepository = "/srv/x.git"\n')
    with pytest.raises(ConfigInvalid, match=r"backupd\.toml:2: service\.policies_dir: policies come from"):
        load_service_config(tmp_path / "backupd.toml")


def test_the_house_goes_over_to_what_came_into_force_and_names_only_what_is_another_policy(
    origin: Origin, tmp_path: Path
) -> None:
    origin.write("policies/shop.toml", POLICY.format(name="shop"))
    origin.commit()
    config = tmp_path / "backupd.toml"
    config.write_text(f'[policies]\nrepository = "{origin.place}"\n')
    follows = follower_of(load_service_config(config))
    assert follows is not None
    follows.fetch()
    house = open_house(config)
    assert house.databases() == ("orders", "shop")
    origin.write("policies/shop.toml", POLICY.format(name="shop") + "[freeze]\nseconds_max = 7\n")
    origin.write("policies/orders.toml", "# only a remark\n" + POLICY.format(name="orders"))
    origin.commit()
    assert follows.fetch().changed
    assert house.reload() == ("shop",)
    assert house.config.policies_dir == follows.policies_dir
    assert house.loaded("orders").path.parent == follows.policies_dir
