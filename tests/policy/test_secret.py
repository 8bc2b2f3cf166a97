"""A secret is named by where it lies, read in one place, and never repeated in an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from backupd.errors import BackupdError, ConfigInvalid, NotHealthy
from backupd.policy.problems import problems_of
from backupd.policy.secret import Secret, SecretKind, SecretReference, parse_secret_reference, read_secret
from backupd.policy.sections import Section

SECRET = "hunter2-geheim"


class Table(Section):
    """A table with one secret."""

    token: Secret | None = None


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("env:BACKUPD_TOKEN", SecretKind.ENV, "BACKUPD_TOKEN"),
        ("file:/etc/backupd/token", SecretKind.FILE, "/etc/backupd/token"),
        ("file:///etc/backupd/token", SecretKind.FILE, "/etc/backupd/token"),
        ("credential:page.token", SecretKind.CREDENTIAL, "page.token"),
    ],
)
def test_the_three_forms_are_read_and_written_the_same(text: str, kind: SecretKind, name: str) -> None:
    reference = parse_secret_reference(text)
    assert (reference.kind, reference.name) == (kind, name)
    assert parse_secret_reference(str(reference)) == reference
    assert Table(token=reference) == Table.model_validate({"token": text})
    assert Table(token=reference).model_dump(mode="json") == {"token": str(reference)}


@pytest.mark.parametrize(
    "value",
    [
        SECRET,
        f"https://user:{SECRET}@example.org/",
        f"env:{SECRET}",
        f"file:{SECRET}",
        f"file://{SECRET}/x",
        f"file:/{SECRET}\0",
        f"credential:a/{SECRET}",
        "credential:..",
        "env:",
        "",
        12345678,
        ["env:A"],
        {"token": SECRET},
    ],
)
def test_a_secret_in_plain_is_refused_without_being_repeated_and_the_right_form_is_said(value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Table.model_validate({"token": value})
    found = problems_of(caught.value, Table, file=Path("x.toml"), text="token = 1", content={})
    assert [(problem.place, problem.line) for problem in found] == [("token", 1)]
    assert SECRET not in str(found[0])
    assert "12345678" not in str(found[0])
    assert "env:" in str(found[0]) or "file:/" in str(found[0]) or "credential:" in str(found[0])


def test_the_schema_for_editors_knows_the_three_forms() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = TypeAdapter(Secret).json_schema()
    jsonschema.validate("env:TOKEN", schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(SECRET, schema)


def test_the_environment_gives_its_variable() -> None:
    assert read_secret(parse_secret_reference("env:TOKEN"), {"TOKEN": f" {SECRET}\n"}) == SECRET


def test_a_private_file_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "token", SECRET + "\n", 0o640)
    assert read_secret(parse_secret_reference(f"file:{path}")) == SECRET


def test_systemd_s_credentials_are_found_whatever_their_mode(tmp_path: Path) -> None:
    written(tmp_path / "page-token", SECRET, 0o444)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert read_secret(parse_secret_reference("credential:page-token"), environ) == SECRET


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_a_file_that_everybody_may_read_or_write_is_refused_with_the_command_that_helps(
    mode: int, tmp_path: Path
) -> None:
    path = written(tmp_path / "token", SECRET, mode)
    error = refused(f"file:{path}", ConfigInvalid)
    assert f"mode {mode:04o}" in error.because
    assert error.next_step == f"chmod 600 {path}"


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    assert "no file" in refused(f"file:{tmp_path}/none", ConfigInvalid).because
    assert "NONE" in refused("env:NONE", ConfigInvalid).because
    assert "LoadCredential=none:" in refused("credential:none", ConfigInvalid).next_step
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert str(tmp_path / "none") in refused("credential:none", ConfigInvalid, environ).because


@pytest.mark.parametrize("text", ["", " \n", f"{SECRET}\nsecond", f"{SECRET}\x00", f"{SECRET}\r\nX-Header: 1"])
def test_what_is_not_one_line_of_text_is_refused(text: str, tmp_path: Path) -> None:
    refused(f"file:{written(tmp_path / 'token', text, 0o600)}", ConfigInvalid)
    refused("env:TOKEN", ConfigInvalid, {"TOKEN": text})


def test_what_is_no_file_or_no_text_or_too_long_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    refused(f"file:{tmp_path}/pipe", ConfigInvalid)
    refused(f"file:{tmp_path}", ConfigInvalid)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "long").write_bytes(b"x" * (64 * 1024 + 1))
    for name in ("bytes", "long"):
        (tmp_path / name).chmod(0o600)
        refused(f"file:{tmp_path / name}", ConfigInvalid)


def test_a_file_that_is_there_and_cannot_be_read_is_not_a_mistake_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    refused(f"file:{tmp_path}/loop", NotHealthy)


def written(path: Path, text: str, mode: int) -> Path:
    path.write_text(text, newline="")
    path.chmod(mode)
    return path


def refused(text: str, kind: type[BackupdError], environ: dict[str, str] | None = None) -> BackupdError:
    reference = parse_secret_reference(text)
    assert isinstance(reference, SecretReference)
    with pytest.raises(kind) as caught:
        read_secret(reference, {} if environ is None else environ)
    assert type(caught.value) is kind
    assert str(reference) in caught.value.problem
    assert SECRET not in " ".join(caught.value.lines())
    assert caught.value.__cause__ is None
    return caught.value
