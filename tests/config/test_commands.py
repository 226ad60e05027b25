"""init, show-config and dsn as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.config.example import raw
from twinstar.cli.dsn import dsn
from twinstar.cli.init import init
from twinstar.cli.show_config import masked, show_config
from twinstar.config.load import load
from twinstar.config.managed import places
from twinstar.config.secrets import Secret, Secrets
from twinstar.model.errors import TwinstarError, UsageError
from twinstar.ports.free_ports import find_free_ports

APP = typer.Typer()
for command in (init, show_config, dsn):
    APP.command(command.__name__.replace("_", "-"))(command)

REMOTE = ["--node", "n1=10.0.0.1", "--node", "n2=10.0.0.2", "--node", "n3=[fd00::3]"]
ETCD = ["--etcd", "http://127.0.0.1:2379"]


def run(*arguments: str | Path) -> str:
    """What the command printed. Raises what it raised."""
    result = CliRunner().invoke(APP, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def run_json(*arguments: str | Path) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_init_writes_a_file_that_loads_and_every_secret(tmp_path: Path) -> None:
    file = tmp_path / "twinstar.yaml"
    said = run("init", file)
    config = load(file)
    assert [node.name for node in config.nodes] == ["n1", "n2", "n3"]
    assert Secrets(config.secrets, {}).missing() == []
    assert config.tls is None
    assert "twinstar up" in said
    assert not any(Secrets(config.secrets, {}).read(name) in said for name in Secret)


def test_init_overwrites_nothing_unless_told(tmp_path: Path) -> None:
    file = tmp_path / "twinstar.yaml"
    run("init", file)
    wire, text = Secrets(tmp_path / "secrets", {}).read("wire"), file.read_text()
    with pytest.raises(UsageError, match="exists already: use --renew"):
        run("init", file)
    (tmp_path / "secrets" / "api_token").unlink()
    assert run_json("init", file, "--renew")["written"] == [f"{tmp_path}/secrets/ (api_token)"]
    assert file.read_text() == text
    run("init", file, "--force", "--cluster", "other")
    assert load(file).cluster == "other"
    assert Secrets(tmp_path / "secrets", {}).read("wire") == wire


def test_init_for_several_machines_makes_certificates(tmp_path: Path) -> None:
    file = tmp_path / "twinstar.yaml"
    done = run_json("init", file, *REMOTE, *ETCD)
    config = load(file)
    assert [node.host for node in config.nodes] == ["10.0.0.1", "10.0.0.2", "fd00::3"]
    assert config.tls is not None
    assert config.tls.authority.exists()
    assert any("authority.key" in step for step in done["next"])
    assert run_json("init", file, "--renew")["written"] == []


def test_init_for_machines_runs_a_store_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "twinstar.yaml"
    done = run_json("init", file, *REMOTE[:4], "--witness", "w1=10.0.0.3", "--policy", "block")
    config = load(file)
    assert config.store.managed is not None
    assert [(place.name, str(place.client)) for place in places(config)] == [
        ("n1", "10.0.0.1:2379"),
        ("n2", "10.0.0.2:2379"),
        ("w1", "10.0.0.3:2379"),
    ]
    assert (tmp_path / "certificates" / "w1.crt").exists()
    assert any("twinstar store keep" in step for step in done["next"])


def test_init_without_tls_has_to_be_asked_for(tmp_path: Path) -> None:
    run("init", tmp_path / "twinstar.yaml", *REMOTE, *ETCD, "--insecure")
    config = load(tmp_path / "twinstar.yaml")
    assert (config.insecure, config.tls) == (True, None)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--nodes", "2"], "Say --policy block or --policy degrade"),
        ([*REMOTE[:4], "--policy", "block"], "two members, .* add a witness"),
        ([*REMOTE, "--witness", "w1"], "write --witness NAME=HOST"),
        (["--node", "10.0.0.1", *ETCD], "write --node NAME=HOST"),
        (["--nodes", "1"], "needs a second node"),
        (["--host", "192.0.2.1"], "192.0.2.1 is no address to listen on here"),
        (["--cluster", "Not Good"], "`cluster` is 'Not Good'"),
        (["--preset", "quick"], "`preset` is 'quick'"),
    ],
)
def test_init_refuses_before_it_writes(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    with pytest.raises(TwinstarError, match=sentence):
        run("init", tmp_path / "twinstar.yaml", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_two_nodes_with_a_policy(tmp_path: Path) -> None:
    run("init", tmp_path / "twinstar.yaml", "--nodes", "2", "--policy", "degrade")
    assert load(tmp_path / "twinstar.yaml").policy == "degrade"


def test_show_config_says_where_each_value_comes_from_and_hides_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "twinstar.yaml"
    run("init", file)
    monkeypatch.setenv("TWINSTAR_SECRET_API_TOKEN", "from outside")
    (tmp_path / "secrets" / "wire").unlink()
    text, document = run("show-config", "--config", file), run_json("show-config", "--config", file)
    secrets = Secrets(tmp_path / "secrets")
    assert not any(secrets.read(name) in text for name in Secret if name != Secret.WIRE)
    assert "timing.heartbeat_ms: 250" in text
    assert document["values"]["timing.heartbeat_ms"] == {"value": 250, "origin": "preset"}
    assert document["secrets"]["api_token"] == "environment"
    assert document["secrets"]["wire"] == "missing"
    assert document["secrets"]["app_password"] == "file"


def test_passwords_inside_of_values_are_masked() -> None:
    line = 'host all all 10.0.0.0/8 ldap ldapserver=x ldapbindpasswd="s e c" ldapbinddn=y'
    assert masked((line,)) == ["host all all 10.0.0.0/8 ldap ldapserver=x ldapbindpasswd=******** ldapbinddn=y"]


def test_dsn_prints_what_a_client_can_use(tmp_path: Path) -> None:
    file = tmp_path / "twinstar.yaml"
    file.write_text(json.dumps(raw(secrets=str(tmp_path / "secrets"))))
    Secrets(tmp_path / "secrets", {}).make()
    document = run_json("dsn", "--config", file)
    assert run("dsn", "--config", file).strip() == document["write"]
    assert run("dsn", "--config", file, "--read").strip() == document["read"]
    assert "5010,127.0.0.1:5020" in run("dsn", "--config", file, "--multi-host")
    assert set(document["members"]) == {"n1", "n2", "n3"}
    assert Path(document["passfile"]).exists()


def test_free_ports_are_distinct_and_free(tmp_path: Path) -> None:
    import socket

    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        ports = find_free_ports(host, 15)
        assert len(set(ports)) == 15
        for port in ports:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(family, kind) as probe:
                    probe.bind((host, port))
