"""A store that Twinstar runs, out of the configuration: the same members for everybody, the near one first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.config.example import example
from twinstar.config.certificates import names_and_hosts
from twinstar.config.managed import keeper_settings, places, store_settings
from twinstar.model.errors import UsageError
from twinstar.store.managed.settings import KeeperSettings

WITNESS = {"name": "w1", "host": "127.0.0.9", "agent_port": 7432, "guard_port": 7433, "directory": "/srv/w1"}
TLS = {"certificate": "{name}.crt", "key": "{name}.key", "authority": "authority.crt"}


def managed(program: Path | None = None, **changes: Any) -> Any:
    store = {"managed": {"port": 2379, "program": str(program) if program else None}}
    return example(2, policy="degrade", store=store, witnesses=[WITNESS], **changes)


def test_members_on_one_host_have_ports_of_their_own() -> None:
    config = managed()
    assert [(place.name, str(place.client), str(place.peer)) for place in places(config)] == [
        ("n1", "127.0.0.1:2379", "127.0.0.1:2380"),
        ("n2", "127.0.0.1:2381", "127.0.0.1:2382"),
        ("w1", "127.0.0.9:2379", "127.0.0.9:2380"),
    ]
    assert config.store.kind == "managed"


def test_a_client_asks_the_member_beside_it_first() -> None:
    plain, secured = managed(), managed(tls=TLS)
    own = store_settings(plain, "n2").etcd
    assert own is not None
    assert own.endpoints == ("http://127.0.0.1:2381", "http://127.0.0.1:2379", "http://127.0.0.9:2379")
    tool = store_settings(secured, "client").etcd
    assert tool is not None
    assert (tool.endpoints[0], tool.tls) == ("https://127.0.0.1:2379", secured.tls)


def test_a_keeper_is_told_of_all_members_and_its_own_files(tmp_path: Path) -> None:
    program = tmp_path / "etcd"
    program.touch()
    told = KeeperSettings.from_json(keeper_settings(managed(program, tls=TLS), "w1"))
    assert (told.name, told.folder, told.founder, [each.name for each in told.others]) == (
        "w1", "/srv/w1/store", False, ["n1", "n2"],
    )  # fmt: skip
    assert told.tls is not None
    assert told.tls.certificate.endswith("/w1.crt")
    assert KeeperSettings.from_json(told.to_json()) == told


def test_another_cluster_or_other_members_are_another_token(tmp_path: Path) -> None:
    program = tmp_path / "etcd"
    program.touch()
    text = keeper_settings(managed(program), "n1")
    told = KeeperSettings.from_json(text)
    fewer = json.loads(text)
    fewer["members"].pop()
    assert len({told.token(b"one"), told.token(b"two"), KeeperSettings.from_json(json.dumps(fewer)).token(b"one")}) == 3


def test_what_no_keeper_can_be_started_with_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="n9 has no member of the store: those that have one are n1, n2, w1"):
        keeper_settings(managed(), "n9")
    with pytest.raises(UsageError, match=r"etcd is not installed at .*: install it"):
        keeper_settings(managed(tmp_path / "none"), "n1")
    with pytest.raises(UsageError, match="write them again"):
        KeeperSettings.from_json("{}")


def test_a_witness_has_a_certificate() -> None:
    assert names_and_hosts(managed(tls=TLS))["w1"][:2] == ["127.0.0.9", "w1"]
