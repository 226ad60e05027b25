"""An edited configuration: what a reload applies, what waits for a restart, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.config.example import example, many, node
from twinstar.config.changes import Takes, changes
from twinstar.config.effective import effective


def test_nothing_changed() -> None:
    assert changes(example(), example()) == []
    assert changes(example(), example(preset="balanced", required=1)) == [], "written out, but the same"


@pytest.mark.parametrize(
    ("edit", "key", "takes"),
    [
        ({"policy": "degrade"}, "policy", Takes.RELOAD),
        ({"required": 2}, "required", Takes.RELOAD),
        ({"postgresql": {"parameters": {"work_mem": "64MB"}}}, "postgresql.parameters.work_mem", Takes.RELOAD),
        ({"timing": {"voter_removal_ms": 20_000}}, "timing.voter_removal_ms", Takes.RELOAD),
        ({"timing": {"guard_grace_ms": 3_000}}, "timing.guard_grace_ms", Takes.RESTART_AGENT),
        ({"nodes": [node(1, port=5999), node(2), node(3)]}, "nodes[n1].port", Takes.RESTART_ENGINE),
        ({"nodes": [node(1), node(2, tags={"priority": 5}), node(3)]}, "nodes[n2].tags.priority", Takes.RELOAD),
        ({"nodes": [node(1), node(2), node(3), node(4)], "required": 1}, "nodes[n4]", Takes.RESTART_AGENT),
        ({"nodes": [node(1), node(2)], "policy": "block"}, "nodes[n3]", Takes.REFUSED),
        ({"nodes": [node(1, directory="/srv/x"), node(2), node(3)]}, "nodes[n1].directory", Takes.REFUSED),
        ({"cluster": "other"}, "cluster", Takes.REFUSED),
        ({"postgresql": {"user": "web"}}, "postgresql.user", Takes.REFUSED),
        (
            {"router": {"write_port": 6009, "read_port": 6001, "notice_port": 6002}},
            "router.write_port",
            Takes.RESTART_ROUTER,
        ),
    ],
)
def test_each_key_takes_what_it_takes(edit: dict[str, Any], key: str, takes: Takes) -> None:
    found = changes(example(), example(**edit))
    assert [(change.key, change.takes) for change in found] == [(key, takes)]
    assert bool(found[0].why) == (takes is Takes.REFUSED), "what is refused says what to do instead"


@pytest.mark.parametrize(
    ("edit", "keys", "takes"),
    [
        ({"tables": [{"pattern": "public.*"}]}, ["tables", "tables[0].pattern"], Takes.RELOAD),
        ({"removal_ms": 60_000}, ["removal_ms"], Takes.RELOAD),
        ({"durability": "quorum"}, ["durability", "required"], Takes.RELOAD),
    ],
)
def test_each_key_of_active_active_too(edit: dict[str, Any], keys: list[str], takes: Takes) -> None:
    found = changes(example(**many()), example(**many(**edit)))
    assert set(keys) <= {change.key for change in found}
    assert {change.takes for change in found} == {takes}


def test_another_strategy_is_another_cluster() -> None:
    found = {change.key: change for change in changes(example(), example(**many()))}
    assert found["strategy"].takes is Takes.REFUSED


def test_a_preset_changes_every_duration_that_it_gives() -> None:
    found = {change.key: change for change in changes(example(), example(preset="fast"))}
    assert found["preset"].takes is Takes.RESTART_AGENT
    assert (found["timing.heartbeat_ms"].before, found["timing.heartbeat_ms"].after) == (250, 100)


def test_the_order_of_the_nodes_means_nothing() -> None:
    assert changes(example(), example(nodes=[node(3), node(1), node(2)])) == []


def test_a_member_that_was_removed_may_leave_the_file() -> None:
    smaller = example(nodes=[node(1), node(2)], policy="block")
    assert changes(example(), smaller, removed=frozenset({"n3"}))[0].takes is Takes.RELOAD


def test_a_store_is_not_moved_under_a_running_cluster() -> None:
    etcd = example(store={"etcd": {"endpoints": ["http://127.0.0.1:2379"]}})
    assert {change.takes for change in changes(example(), etcd)} >= {Takes.REFUSED}


def test_every_key_of_the_schema_has_its_place_in_the_table() -> None:
    from twinstar.config.changes import _TABLE

    keys = [*effective(example()), *effective(example(**many(tables=[{"pattern": "a"}])))]
    known = {key.split("[")[0].split(".")[0] for key in keys}
    named = {key.split(".")[0] for key in _TABLE}
    assert known == named
