"""Where the gateway looks for hosts."""

from pathlib import Path

import pytest

from gateway.addresses import Name, Places
from gateway.settings import gateway_settings
from services.runtime.errors import InvalidInput


def test_without_a_word_each_service_is_on_this_machine() -> None:
    found = gateway_settings([])
    assert found.places["asr"] == Places(("127.0.0.1:7401",))
    assert found.places["render"] == Places(("127.0.0.1:7405",))
    assert found.etcd_access() is None


def test_with_etcd_only_named_hosts_are_fixed() -> None:
    found = gateway_settings(["--etcd", "one:2379,two:2379", "--tts", "a:1,dns:b:2"])
    assert found.places["tts"] == Places(("a:1",), (Name("b", 2),))
    assert found.places["llm"] == Places()
    access = found.etcd_access()
    assert access
    assert access.endpoints == ("one:2379", "two:2379")


def test_the_password_comes_from_a_file_and_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    found = gateway_settings(["--etcd", "one:2379", "--etcd-user", "me", "--etcd-password-file", str(file)])
    access = found.etcd_access()
    assert access
    assert access.password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(access) + repr(found)


def test_a_password_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    found = gateway_settings(["--etcd", "one:2379", "--etcd-password-file", str(tmp_path / "nothing")])
    with pytest.raises(InvalidInput, match="etcd_password_file"):
        found.etcd_access()


@pytest.mark.parametrize("option", ["--tts=nowhere", "--llm=dns:name", "--metrics=here"])
def test_what_cannot_be_an_address_ends_the_process(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        gateway_settings([option])
    assert caught.value.code == 2
    assert option.split("=", maxsplit=1)[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://me:hush@db/outcomes", "is of another kind"),
        ("postgresql://me:hush@db/outcomes?passfile=x", "has the option 'passfile'"),
        ("postgresql://me:hush@db", "names no database"),
        ("sqlite://", "names no database"),
        ("hush", "cannot be read"),
    ],
)
def test_a_store_of_outcomes_that_cannot_be_is_refused_without_its_password(
    url: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        gateway_settings(["--outcomes-folder", "x", "--outcomes-url", url])
    said = capsys.readouterr().err
    assert f"--outcomes-url: Value error, outcomes_url: {problem}" in said
    assert "; expected postgresql://user@host:5432/database" in said
    assert "hush" not in said


def test_the_address_of_the_store_is_not_in_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TALKMESH_GATEWAY_OUTCOMES_URL", "postgresql://me:hush@db/outcomes")
    with pytest.raises(SystemExit):
        gateway_settings(["--help"])
    said = capsys.readouterr().out
    assert "hush" not in said
    assert "(default:127.0.0.1:7400)" in "".join(said.split())
    assert "hush" not in repr(gateway_settings(["--outcomes-folder", "x"]))


def test_a_store_needs_a_folder_for_what_waits(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gateway_settings(["--outcomes-url", "postgresql://me:hush@db/outcomes"])
    said = capsys.readouterr().err
    assert "--outcomes-url: Value error, is given without outcomes_folder" in said
    assert "hush" not in said
