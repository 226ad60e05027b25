"""The commented file: every key is in it, each commented default is the real one, and it loads as it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from tests.config.example import FILE
from twinstar.config.derive import endpoints, timings
from twinstar.config.effective import effective
from twinstar.config.load import parse
from twinstar.config.local import local_config
from twinstar.config.plan import NodeText, Plan, StoreText
from twinstar.config.schema import DURABILITY, Config, Strategy
from twinstar.config.strategies import belongs
from twinstar.config.template import render
from twinstar.model.register import Durability

NODES = tuple(NodeText(f"n{i}", "127.0.0.1", (i, i + 10, i + 20, i + 30), Path(f"/srv/n{i}")) for i in (1, 2, 3))


def plan(**changes: Any) -> Plan:
    fixed: dict[str, Any] = {
        "cluster": "demo",
        "secrets": Path("secrets"),
        "store": StoreText(socket=Path("s.sock"), file=Path("s.sqlite")),
        "nodes": NODES,
        "router_bind": ("127.0.0.1",),
        "router_ports": (6000, 6001, 6002),
    }
    return Plan(**{**fixed, **changes})


def keys(model: type[BaseModel], path: str = "") -> list[str]:
    """Every leaf key of the schema."""
    found: list[str] = []
    for name, field in model.model_fields.items():
        inner = [part for part in (field.annotation, *_parts(field.annotation)) if _is_model(part)]
        found += keys(inner[0], f"{path}{name}.") if inner else [f"{path}{name}"]
    return found


def _parts(annotation: Any) -> list[Any]:
    return [leaf for part in get_args(annotation) for leaf in (part, *_parts(part))]


def _is_model(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)


@pytest.mark.parametrize("strategy", get_args(Strategy))
@pytest.mark.parametrize("key", keys(Config))
def test_every_key_is_explained_where_it_means_something(key: str, strategy: Strategy) -> None:
    name = key.rpartition(".")[2]
    explained = re.search(rf"\b{name}\b", render(plan(strategy=strategy))) is not None
    assert explained >= belongs(key, strategy), f"{key} is not in the commented file: add it with its unit"
    assert belongs(key, "active-passive") or belongs(key, "active-active")


def test_it_loads_as_it_is_with_every_default() -> None:
    config = parse(render(plan()), FILE)
    assert (config.preset, config.durability, config.required) == ("balanced", "quorum", None)
    assert config.nodes[2].guard_port == 33


@pytest.mark.parametrize("strategy", get_args(Strategy))
@pytest.mark.parametrize("durability", list(Durability))
@pytest.mark.parametrize("preset", ["fast", "balanced", "patient"])
def test_every_preset_loads_as_it_is(strategy: Strategy, durability: Durability, preset: str) -> None:
    config = parse(render(plan(strategy=strategy, durability=durability, preset=preset)), FILE)
    chosen = timings(config)
    assert config.preset == preset
    assert chosen.voter_removal_ms >= 2 * chosen.suspicion_ms


def uncommented(text: str) -> str:
    """The file with each commented key taken in, as a user would: one `# ` away."""
    return re.sub(r"^( *)# ((?:  )*(?:- )?[a-z_]+:(?: [^.]*)?)$", r"\1\2", text, flags=re.MULTILINE)


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_each_commented_default_is_the_real_one(strategy: Strategy) -> None:
    # In active-active the default, async, stands in no file with `required`.
    durability = "quorum" if strategy == "active-active" else None
    wanted = plan(strategy=strategy, durability=durability, policy="block")
    text = uncommented(render(wanted))
    text = re.sub(r"(?ms)^ *#.*?$", "", text)
    raw = yaml.safe_load(text)
    assert raw["required"] == 1, "the commented keys were not taken in"
    assert raw["timing"]["voter_removal_ms"] == 10_000
    raw.pop("tls")
    raw["router"].pop("status_port")
    before = effective(parse(render(wanted), FILE))
    after = effective(parse(yaml.safe_dump(raw), FILE))
    chosen = {"postgresql.parameters", "postgresql.bin_dir"}
    different = {
        key: (entry.value, after[key].value)
        for key, entry in before.items()
        if key in after and entry.value != after[key].value and not _same_default(key, entry.value, after[key].value)
    }
    assert different.keys() <= chosen, different


def _same_default(key: str, default: Any, written: Any) -> bool:
    """Defaults that name another value (`bind` is `host`) or nothing."""
    if key.startswith("nodes[") and key.endswith(".bind"):
        return bool(default is None and written == "127.0.0.1")
    named = {
        "postgresql.system_user": "twinstar",
        "router.hosts": ("127.0.0.1",),
        "timing.renewal_ms": 2000,
    }
    return key in named and written == named[key]


@pytest.mark.parametrize(
    "changes",
    [
        {"durability": "async", "lease_ms": 2000, "preset": "fast"},
        {"strategy": "active-active", "preset": "fast"},
        {"strategy": "active-active", "durability": "quorum", "router_hosts": ("db1", "db2")},
        {"store": StoreText(endpoints=("http://127.0.0.1:1", "http://[::1]:2"))},
        {"cluster": "on", "bin_dir": Path("/usr/lib/a: b #c/bin"), "secrets": Path("'quoted' \"twice\"")},
        {"router_bind": ("::",), "router_hosts": ("10.0.0.1", "fd00::1"), "certificates": Path("certificates")},
        {"router_bind": ("0.0.0.0",), "insecure": True},
    ],
)
def test_what_was_planned_is_what_is_read_back(changes: dict[str, Any]) -> None:
    wanted = plan(**changes)
    config = parse(render(wanted), FILE)
    assert config.cluster == wanted.cluster
    assert config.strategy == wanted.strategy
    assert config.durability == (wanted.durability or DURABILITY[wanted.strategy])
    assert config.lease_ms == (wanted.lease_ms or 10_000)
    assert config.insecure == wanted.insecure
    assert config.postgresql.bin_dir == wanted.bin_dir
    assert config.secrets == FILE.parent / wanted.secrets
    assert config.router is not None
    assert config.router.bind == wanted.router_bind
    assert config.router.hosts == wanted.router_hosts
    assert (config.tls is not None) == (wanted.certificates is not None)


def counting(_host: str, count: int) -> list[int]:
    return list(range(20_000, 20_000 + count))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("nodes", [3, 5])
@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_a_local_cluster_gets_a_port_for_everything(host: str, nodes: int, strategy: Strategy) -> None:
    folder = Path("/srv/demo")
    made = local_config(find_ports=counting, file=FILE, nodes=nodes, host=host, directory=folder, strategy=strategy)
    assert made.config.strategy == strategy
    ports = [p for n in made.config.nodes for p in (n.port, n.api_port, n.agent_port, n.guard_port)]
    assert made.config.router is not None
    ports += [*endpoints(made.config).values(), made.config.router.notice_port]
    assert ports == counting(host, 4 * nodes + 3)
    assert {n.host for n in made.config.nodes} == set(made.config.router.bind) == {host}
    assert made.config.preset == "fast"
