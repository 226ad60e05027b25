"""Defaults that follow from other values, each node's own part, and where each value comes from."""

from __future__ import annotations

import json

import pytest

from tests.config.example import example, node
from twinstar.config.derive import (
    copies,
    guard_settings,
    lease_times,
    node_settings,
    policy,
    required,
    store_tls,
    timings,
    tls_of,
)
from twinstar.config.effective import Effective, effective
from twinstar.guard.settings import GuardSettings
from twinstar.model.errors import UsageError


@pytest.mark.parametrize(("nodes", "expected"), [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)])
def test_half_of_the_data_nodes_must_confirm(nodes: int, expected: int) -> None:
    assert required(example(nodes, policy="block")) == expected


def test_a_node_without_failover_is_no_copy() -> None:
    config = example(nodes=[node(1), node(2), node(3), node(4, tags={"nofailover": True})])
    assert copies(config) == {"n1", "n2", "n3"}
    assert required(config) == 1
    assert not node_settings(config, "n4").may_lead


def test_async_waits_for_nobody() -> None:
    config = example(durability="async", lease_ms=2000)
    assert required(config) == 0
    assert lease_times(config).renewal_ms == 400
    assert node_settings(config, "n1").lease == lease_times(config)


def test_policy_is_block_unless_written() -> None:
    assert (policy(example()), policy(example(policy="degrade"))) == ("block", "degrade")


def test_an_override_takes_what_derives_from_it_along() -> None:
    plain, changed = timings(example(preset="fast")), timings(example(preset="fast", timing={"heartbeat_ms": 50}))
    assert (plain.heartbeat_ms, changed.heartbeat_ms) == (100, 50)
    assert changed.suspicion_ms < plain.suspicion_ms


def test_a_node_binds_its_own_address_and_is_reached_at_another() -> None:
    config = example(insecure=True, nodes=[node(1, bind="127.0.0.9"), node(2), node(3)])
    settings = node_settings(config, "n1")
    assert str(settings.bind.api) == "127.0.0.9:5011"
    assert str(settings.peers["n1"].api) == "127.0.0.1:5011"
    with pytest.raises(UsageError, match="choose one of n1, n2, n3"):
        node_settings(config, "n9")


def test_certificates_are_found_by_name() -> None:
    files = {"certificate": "/c/{name}.crt", "key": "/c/{name}.key", "authority": "/c/authority.crt"}
    etcd = {"etcd": {"endpoints": ["https://127.0.0.1:2379"], "tls": files}}
    config = example(tls=files, store=etcd)
    for found in (tls_of(config, "n2"), store_tls(config, "n2")):
        assert found is not None
        assert (str(found.certificate), str(found.authority)) == ("/c/n2.crt", "/c/authority.crt")
    assert tls_of(example(), "n2") is None
    assert store_tls(example(), "n2") is None


def test_the_guards_document_is_one_that_it_reads() -> None:
    settings = GuardSettings.from_json(guard_settings(example(preset="fast"), "n2"))
    assert (settings.member, str(settings.bind), settings.data_directory) == ("n2", "127.0.0.1:5023", "/srv/n2/data")
    assert [peer.member for peer in settings.peers] == ["n1", "n3"]
    assert (settings.durability, settings.lease_ms) == ("quorum", 0)
    assert GuardSettings.from_json(guard_settings(example(durability="async"), "n1")).lease_ms == 10_000


def test_each_value_in_effect_has_its_origin() -> None:
    shown = effective(
        example(lease_ms=10_000, timing={"suspicion_ms": 2000}, postgresql={"parameters": {"jit": False}})
    )
    assert shown["cluster"] == Effective("demo", "file")
    assert shown["lease_ms"] == Effective(10_000, "file"), "written, although it is the default"
    assert shown["maximum_lag_bytes"].origin == "default"
    assert shown["required"] == Effective(1, "derived")
    assert shown["timing.heartbeat_ms"] == Effective(250, "preset")
    assert shown["timing.suspicion_ms"] == Effective(2000, "file")
    assert shown["postgresql.parameters.jit"] == Effective("off", "file")
    assert shown["nodes[1].port"] == Effective(5020, "file")
    json.dumps({key: str(entry.value) for key, entry in shown.items()})
