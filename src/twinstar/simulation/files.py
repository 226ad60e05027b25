"""What stands in each simulated machine's `twinstar.yaml`. People edit one, and copy it from machine to machine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twinstar.agent.settings import AgentSettings, agent_settings, rules_settings
from twinstar.config import derive
from twinstar.config.check import check
from twinstar.config.schema import Config, Node
from twinstar.guard.settings import GuardSettings
from twinstar.model.view import Settings
from twinstar.simulation import witness_node
from twinstar.simulation.plan import Plan

CLUSTER = "simulated"
SECRET = b"simulated"
ROUTER = "router"
"""The router's machine, among the members'."""


def first_config(plan: Plan, directory: Path) -> Config:
    """The file with which a cluster of this plan begins."""
    nodes = tuple(node(f"n{i}", directory, f"n{i}" in plan.nofailover) for i in range(1, plan.size + 1))
    raw: dict[str, Any] = {
        "cluster": CLUSTER,
        "durability": plan.durability,
        "policy": plan.policy,
        "preset": "fast",
        "lease_ms": plan.lease_ms,
        "maximum_lag_bytes": plan.maximum_lag_bytes,
        "insecure": True,
        "secrets": directory / "secrets",
        "store": {"etcd": {"endpoints": ["http://10.0.4.1:2379"]}},  # what the file says of it is not looked at
        "nodes": nodes,
        "witnesses": (witness_node.settings(directory),) if plan.witness else (),
        "timing": {"voter_removal_ms": int(plan.voter_removal_ms)},
    }
    config = Config.model_validate(raw)
    assert (trouble := check(config)) is None, trouble
    return config


def node(name: str, directory: Path, nofailover: bool = False) -> Node:
    """`n7` has the address 10.0.0.7."""
    raw = {
        "name": name,
        "host": f"10.0.0.{name[1:]}",
        "port": 5432,
        "api_port": 8080,
        "agent_port": 1,
        "guard_port": 2,
        "directory": directory / name,
        "tags": {"nofailover": nofailover},
    }
    return Node.model_validate(raw)


@dataclass(slots=True)
class Files:
    """`wanted` is what stands in all of them when nobody is half-way."""

    wanted: Config
    settings: Settings = field(init=False)
    """What the rules go by under `wanted`."""
    soonest_removal_ms: float = field(init=False)
    """The least `voter_removal_ms` that ever stood there."""
    _there: dict[str, Config] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.settings = rules_settings(self.wanted)
        self.soonest_removal_ms = self.settings.voter_removal_ms

    def of(self, machine: str) -> Config:
        return self._there.get(machine, self.wanted)

    def edit(self, new: Config) -> bool:
        """Makes it the one that is to stand everywhere; it stands nowhere yet. False: it could not work."""
        if check(new) is not None:
            return False
        for machine in (*(each.name for each in self.wanted.nodes), ROUTER):
            self._there.setdefault(machine, self.wanted)
        self.wanted, self.settings = new, rules_settings(new)
        self.soonest_removal_ms = min(self.soonest_removal_ms, self.settings.voter_removal_ms)
        return True

    def copy_to(self, machine: str) -> None:
        self._there[machine] = self.wanted

    def agent(self, member: str, state_file: Path) -> AgentSettings:
        """What the member's agent reads there when it starts."""
        return replace(agent_settings(self.of(member), member, SECRET), state_file=state_file)

    def guard(self, member: str) -> GuardSettings:
        return GuardSettings.from_json(derive.guard_settings(self.of(member), member))
