"""Each mistake is refused with one sentence that names the key, what is wrong, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.config.example import FILE, MANY, example, many, node, raw
from twinstar.config.load import load, parse
from twinstar.config.own_parameters import OWN_PARAMETERS
from twinstar.model.errors import UsageError

MANAGED: dict[str, Any] = {"store": {"managed": {}}}
WITNESS = {"name": "w1", "agent_port": 5098, "guard_port": 5099, "directory": "/srv/w1"}
ETCD = {"etcd": {"endpoints": ["http://127.0.0.1:2379"]}}


def nodes(*changes: dict[str, Any]) -> list[dict[str, Any]]:
    return [node(index + 1, **change) for index, change in enumerate(changes)]


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    # what: (changes, the key that is named, what to do)
    "two members": ({**MANAGED, "nodes": nodes({}, {}), "policy": "block"}, "two members", "add a witness"),
    "four members": ({**MANAGED, "witnesses": [WITNESS]}, "4 members", "name fewer nodes"),
    "a member that is no node": ({"store": {"managed": {"members": ["x"]}}}, "names x", "choose among n1, n2, n3"),
    "a member at a name": (
        {**MANAGED, "insecure": True, "nodes": nodes({"host": "db1"}, {}, {})},
        "n1 is at db1, a name",
        "write `bind`",
    ),
    "a member on a node's port": ({"store": {"managed": {"port": 5009}}}, "`nodes[0].port`", "give each its own"),
    "a member without TLS": ({**MANAGED, "nodes": nodes({"host": "10.0.0.1"}, {}, {})}, "10.0.0.1", "write `tls`"),
    "a witness named like a node": (
        {**MANAGED, "nodes": nodes({}, {}), "policy": "block", "witnesses": [{**WITNESS, "name": "n1"}]},
        "`witnesses[0].name` is 'n1'",
        "give each node its own",
    ),
    "two stores": ({"store": {**ETCD, "managed": {}}}, "`store` names etcd and managed", "remove all but one"),
    "unknown key": ({"clustre": "x"}, "`clustre` is not a known key", "did you mean `cluster`?"),
    "unit left out": ({"lease": 5000}, "`lease` is not a known key", "did you mean `lease_ms`?"),
    "another unit": ({"lease_s": 5}, "`lease_s` is not a known key", "did you mean `lease_ms`?"),
    "unknown key inside": ({"nodes": nodes({"prot": 1}, {}, {})}, "`nodes[0].prot`", "did you mean `port`?"),
    "unit in the value": ({"lease_ms": "10s"}, "`lease_ms` must be a whole number of milliseconds", "such as 10000"),
    "a truth value": ({"lease_ms": True}, "`lease_ms` must be a whole number", "such as"),
    "seconds for milliseconds": ({"lease_ms": 10}, "`lease_ms` is 10", "at least 500 milliseconds"),
    "too long": ({"router": {**raw()["router"], "max_hold_ms": 10**7}}, "`router.max_hold_ms`", "at most 600000"),
    "no port": ({"nodes": nodes({"port": 70000}, {}, {})}, "`nodes[0].port` is 70000", "at most 65535"),
    "missing": ({"cluster": None}, "`cluster` is missing", "add it"),
    "no nodes": ({"nodes": []}, "`nodes` is empty", "at least 1"),
    "a word of ours": ({"durability": "sync"}, "`durability` is 'sync'", "'quorum' or 'async'"),
    "no truth value": ({"insecure": "maybe"}, "`insecure` must be true or false", "not 'maybe'"),
    "a scalar for a section": ({"timing": 5}, "`timing` must be a mapping", "indent its keys"),
    "a scalar for a list": ({"nodes": "n1"}, "`nodes` must be a list", "begins with `- `"),
    "name": ({"nodes": nodes({"name": "Db-1"}, {}, {})}, "`nodes[0].name` is 'Db-1'", "small letters"),
    "name of ours": ({"nodes": nodes({"name": "nobody"}, {}, {})}, "`nodes[0].name` is 'nobody'", "choose another"),
    "one name twice": ({"nodes": nodes({}, {"name": "n1"}, {})}, "`nodes[1].name` is 'n1'", "give each node its own"),
    "one port twice": ({"nodes": nodes({}, {"port": 5010}, {})}, "`nodes[1].port`", "give each its own"),
    "one port, two spellings": (
        {"nodes": nodes({"host": "localhost"}, {"api_port": 5010}, {})},
        "`nodes[0].port` and `nodes[1].api_port` are both TCP port 5010",
        "give each its own",
    ),
    "router on a node's port": (
        {"router": {"write_port": 5030, "read_port": 6001, "notice_port": 6002}},
        "`nodes[2].port` and `router.write_port`",
        "give each its own",
    ),
    "router everywhere on a node's port": (
        {"insecure": True, "router": {"bind": ["::"], "write_port": 6000, "read_port": 5011, "notice_port": 6002}},
        "`nodes[0].api_port` and `router.read_port` are both TCP port 5011",
        "give each its own",
    ),
    "one directory twice": ({"nodes": nodes({}, {"directory": "/srv/n1"}, {})}, "directory /srv/n1", "give each"),
    "required too large": ({"required": 3}, "`required` is 3", "write at most 2"),
    "required counts copies": (
        {"required": 2, "policy": "block", "nodes": nodes({}, {}, {"tags": {"nofailover": True}})},
        "`required` is 2",
        "write at most 1",
    ),
    "required 0": ({"required": 0}, "`required` is 0", "write 1 or more"),
    "required in async": ({"durability": "async", "required": 1}, "`required` is 1", "remove it"),
    "two nodes": ({"nodes": nodes({}, {})}, "`policy` is missing", "`policy: degrade` goes on"),
    "two copies of three": (
        {"nodes": nodes({}, {}, {"tags": {"nofailover": True}})},
        "`policy` is missing",
        "`policy: block` makes them wait",
    ),
    "one node": ({"nodes": nodes({})}, "`durability: quorum` needs a second node", "add a node"),
    "nobody to take over": (
        {"durability": "async", "nodes": nodes({}, *[{"tags": {"nofailover": True}}] * 2)},
        "`nofailover` on all nodes but one",
        "remove the tag",
    ),
    "lease": (
        {"durability": "async", "lease_ms": 2000, "timing": {"renewal_ms": 900}},
        "`lease_ms` is 2000, too close to the renewal every 900 ms",
        "write at least 2700",
    ),
    "suspicion": ({"timing": {"suspicion_ms": 300}}, "`timing`: suspicion_ms (300)", "at least 2.5 times"),
    "election": ({"timing": {"election_timeout_ms": 1000}}, "`timing.election_timeout_ms` is 1000", "at least 1500"),
    "removal": ({"timing": {"voter_removal_ms": 1500}}, "`timing.voter_removal_ms` is 1500", "at least 3000"),
    "no store": ({"store": {}}, "`store` names none", "write `embedded`"),
    "both stores": ({"store": {**raw()["store"], **ETCD}}, "`store` names embedded and etcd", "remove all but one"),
    "etcd's address": (
        {"store": {"etcd": {"endpoints": ["127.0.0.1:2379"]}}},
        "`store.etcd.endpoints[0]` is '127.0.0.1:2379'",
        "write it as http://",
    ),
    "etcd's password": (
        {"store": {"etcd": {"endpoints": ["http://me:pw@127.0.0.1:2379"]}}},
        "`store.etcd.endpoints[0]` has a user in it",
        "write `store.etcd.user`",
    ),
    "etcd unencrypted": (
        {"store": {"etcd": {"endpoints": ["http://10.0.0.9:2379"]}}},
        "`store.etcd.endpoints[0]` is http://10.0.0.9:2379, unencrypted",
        "write https://",
    ),
    "ZooKeeper's address": (
        {"store": {"zookeeper": {"hosts": ["a:2181,b:2181"]}}},
        "`store.zookeeper.hosts[0]` is 'a:2181,b:2181'",
        "write one server as host:port",
    ),
    "ZooKeeper's password": (
        {"store": {"zookeeper": {"hosts": ["127.0.0.1:2181"], "user": "me:pw"}}},
        "`store.zookeeper.user` has a colon in it",
        "write the user alone",
    ),
    "ZooKeeper unencrypted": (
        {"store": {"zookeeper": {"hosts": ["127.0.0.1:2181", "[fd00::9]:2181"]}}},
        "`store.zookeeper.hosts[1]` is [fd00::9]:2181, unencrypted",
        "`store.zookeeper.tls`",
    ),
    "off the loopback": (
        {"store": ETCD, "nodes": nodes({"host": "10.0.0.1"}, {}, {})},
        "`nodes[0].port` is on 10.0.0.1",
        "`insecure: true`",
    ),
    "listening off the loopback": (
        {"nodes": nodes({"bind": "0.0.0.0"}, {}, {})},
        "`nodes[0].bind` is on 0.0.0.0",
        "`insecure: true`",
    ),
    "router off the loopback": (
        {"router": {**raw()["router"], "bind": ["127.0.0.1", "10.0.0.1"]}},
        "`router.write_port` is on 10.0.0.1",
        "write `tls`",
    ),
    "embedded on two machines": (
        {"insecure": True, "nodes": nodes({"host": "10.0.0.1"}, {"host": "10.0.0.2"}, {"host": "10.0.0.3"})},
        "`store.embedded` serves one machine only",
        "run etcd",
    ),
    "trust": ({"postgresql": {"hba": ["host all all all trust"]}}, "`postgresql.hba[0]` has `trust`", "scram-sha-256"),
    "two lines in one": (
        {"postgresql": {"hba": ["host all all all scram-sha-256\nlocal all all peer"]}},
        "`postgresql.hba[0]`",
        "write one line",
    ),
    "a powerful user": ({"postgresql": {"user": "postgres"}}, "`postgresql.user` is 'postgres'", "choose another"),
    "host with a port": (
        {"nodes": nodes({"host": "10.0.0.1:5432"}, {}, {})},
        "`nodes[0].host` is '10.0.0.1:5432'",
        "no port",
    ),
    "brackets": ({"nodes": nodes({"host": "[::1]"}, {}, {})}, "`nodes[0].host` is '[::1]'", "without brackets"),
    "two hosts": ({"nodes": nodes({"host": "a,b"}, {}, {})}, "`nodes[0].host` is 'a,b'", "write a name"),
    "everywhere": (
        {"insecure": True, "nodes": nodes({"host": "0.0.0.0"}, {}, {})},
        "`nodes[0].host` is 0.0.0.0",
        "the address that the others use",
    ),
    "nobody's home": ({"secrets": "~nobody_at_all/x"}, "begins with `~`", "write it in full"),
    "no port for writes": ({"router": {"read_port": 1, "notice_port": 2}}, "`router.write_port` is missing", "add it"),
    "another strategy": ({"strategy": "multi-master"}, "`strategy` is 'multi-master'", "'active-active'"),
    "no port for any": (many(router={"read_port": 1, "notice_port": 2}), "`router.any_port` is missing", "add it"),
    "a lease where nobody leads": (many(lease_ms=5000), "`lease_ms` is for `strategy: active-passive`", "remove it"),
    "a lag where nobody takes over": (many(maximum_lag_bytes=1), "`maximum_lag_bytes` is for", "remove it"),
    "tags where nobody takes over": (
        many(nodes=nodes({"tags": {"nofailover": True}}, {}, {})),
        "`nodes[0].tags.nofailover` is for `strategy: active-passive`",
        "remove it",
    ),
    "an election where nobody leads": (
        many(timing={"election_timeout_ms": 3000}),
        "`timing.election_timeout_ms` is for",
        "remove it",
    ),
    "another name for the port": (
        many(router={**MANY["router"], "write_port": 6003}),
        "`router.write_port` is for `strategy: active-passive` alone",
        "remove it",
    ),
    "tables where one writes": ({"tables": [{"pattern": "a"}]}, "`tables` is for `strategy: active-active`", "remove"),
    "a clock that decides nothing": ({"clock_bound_ms": 1000}, "`clock_bound_ms` is for", "remove it"),
    "any where one writes": (
        {"router": {**raw()["router"], "any_port": 6005}},
        "`router.any_port` is for `strategy: active-active` alone",
        "remove it",
    ),
    "two nodes of a quorum": (
        many(durability="quorum", nodes=nodes({}, {})),
        "`policy` is missing",
        "`policy: degrade` goes on",
    ),
    "a quorum that cannot be": (many(durability="quorum", required=3), "`required` is 3", "write at most 2"),
    "dead too soon": (many(removal_ms=2000), "`removal_ms` is 2000", "write at least 3000"),
    "no pattern": (many(tables=[{"counters": ["a"]}]), "`tables[0].pattern` is missing", "add it"),
    "half a pattern": (many(tables=[{"pattern": "shop."}]), "`tables[0].pattern` is 'shop.'", "write schema.name"),
    "one pattern twice": (
        many(tables=[{"pattern": "a"}, {"pattern": "a"}]),
        "`tables[1].pattern` is 'a' like `tables[0]`",
        "keep one",
    ),
    "a column in two groups": (
        many(tables=[{"pattern": "a", "groups": {"g": ["x", "y"], "h": ["y"]}}]),
        "`tables[0]` names the column 'y' twice",
        "in one group",
    ),
    "a counter in a group": (
        many(tables=[{"pattern": "a", "counters": ["x"], "groups": {"g": ["x"]}}]),
        "`tables[0]` names the column 'x' twice",
        "one counter",
    ),
    "an empty group": (many(tables=[{"pattern": "a", "groups": {"g": []}}]), "`tables[0].groups.g`", "name some"),
    "any on a node's port": (
        many(router={**MANY["router"], "any_port": 5010}),
        "`nodes[0].port` and `router.any_port`",
        "give each its own",
    ),
    "socket path": (
        {"nodes": nodes({"directory": "/srv/" + "long/" * 20}, {}, {})},
        "`nodes[0].directory` makes the socket",
        "choose a shorter path",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_with_a_sentence_that_says_what_to_do(what: str) -> None:
    changes, key, remedy = REFUSED[what]
    with pytest.raises(UsageError) as refusal:
        example(**changes)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{FILE}: ")
    assert key in sentence
    assert remedy in sentence
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))


@pytest.mark.parametrize("name", OWN_PARAMETERS)
def test_settings_that_are_twinstars_own_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"`postgresql.parameters.{name.upper()}` is set by Twinstar itself"):
        example(postgresql={"parameters": {name.upper(): "x"}})


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [("archive_mode", "Always", "write on"), ("max_slot_wal_keep_size", "-1", "give it a bound")],
)
def test_values_that_would_do_harm_are_refused(name: str, value: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=f"`postgresql.parameters.{name}` is {value}.*{remedy}"):
        example(postgresql={"parameters": {name: value}})
    example(postgresql={"parameters": {name: "1GB"}})


def test_the_first_of_several_mistakes_says_how_many_follow() -> None:
    with pytest.raises(UsageError, match=r"did you mean `cluster`\? \(2 more after this one\)"):
        example(cluster=None, clustre="x", required=-1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no configuration"),
        ("- a", "holds no configuration"),
        ("a: [", "is no valid YAML in line 1"),
        ("cluster: a\ncluster: b", "in line 2 (the key `cluster` stands there twice)"),
        ("cluster: !!python/object:os.system x", "is no valid YAML in line 1"),
        ("? [a, b]\n: c", "is no valid YAML"),
    ],
)
def test_what_is_no_configuration_at_all(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse(text, FILE)
    assert sentence in str(refusal.value)


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run `twinstar init`"):
        load(tmp_path / "twinstar.yaml")
    (tmp_path / "twinstar.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "twinstar.yaml")


def test_what_is_safe_is_accepted() -> None:
    assert example().cluster == "demo"
    assert example(count=5, required=2).required == 2
    assert example(count=2, policy="degrade").policy == "degrade"
    assert example(count=1, durability="async").required is None
    assert example(router=None).router is None
    assert example(count=2, policy="block", witnesses=[WITNESS], **MANAGED).witnesses[0].host == "127.0.0.1"
    assert example(**many()).durability == "async"
    two = example(2, **many(durability="quorum", policy="block", preset="fast", timing={"suspicion_ms": 3000}))
    assert two.policy == "block"
    assert example(timing=None, postgresql=None).timing.heartbeat_ms is None
    remote = [node(i, host=f"10.0.0.{i}", port=5432, api_port=8008, agent_port=1, guard_port=2) for i in (1, 2, 3)]
    assert len({entry.host for entry in example(insecure=True, store=ETCD, nodes=remote).nodes}) == 3


def test_yaml_truth_values_and_numbers_reach_postgresql_as_it_writes_them() -> None:
    parameters = example(postgresql={"parameters": {"jit": False, "work_mem": "64MB", "max_connections": 200}})
    assert parameters.postgresql.parameters == {"jit": "off", "work_mem": "64MB", "max_connections": "200"}


def test_relative_paths_count_from_the_files_own_folder() -> None:
    config = example(tls={"certificate": "c/{name}.crt", "key": "c/{name}.key", "authority": "/a.crt"})
    assert config.secrets == FILE.parent / "secrets"
    assert config.store.embedded is not None
    assert config.store.embedded.socket == FILE.parent / "store.sock"
    assert config.tls is not None
    assert config.tls.certificate == FILE.parent / "c" / "{name}.crt"
    assert config.tls.authority == Path("/a.crt")
