"""The cluster as one node's agent sees it: `status --json` of an active-active cluster (`docs/status.md`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinstar.agent.active_active.agent import NodeAgent
from twinstar.api.status import each_one
from twinstar.config import derive, dsn
from twinstar.config.schema import Config
from twinstar.model.membership import Node, NodeState
from twinstar.model.wire import Gossip

UNREACHABLE = "unreachable"


def cluster_status(agent: NodeAgent, config: Config) -> dict[str, Any]:
    """Made from what is known already, without asking anybody."""
    membership = agent.roster.membership
    names = [node.name for node in config.nodes if node.name in agent.settings.agents]
    said = {name: agent.own_gossip() if name == agent.settings.me else agent.voices.gossip(name) for name in names}
    members = [_member(agent, config, name, said[name]) for name in names]
    inside = [each.member for each in membership.in_state(NodeState.IN)] if membership else []
    is_open = any(member["open"] for member in members)
    return {
        "cluster": config.cluster,
        "strategy": config.strategy,
        "durability": agent.settings.durability.value,
        "epoch": membership.epoch if membership else 0,
        "phase": "serving" if inside else "founding",
        "leader": None,
        "required": agent.settings.required,
        "copies": sorted(inside),
        "policy": derive.policy(config),
        "paused": False,
        "open": is_open,
        "store": {"kind": config.store.kind, "reachable": agent.roster.ok},
        "endpoints": {"any": dsn.client_dsn(config, "any"), "read": dsn.client_dsn(config, "read")},
        "members": members,
        "equality": _equality(said),
        "waiting_for": "" if is_open else agent.note or "No node is open yet.",
        "restart_pending": each_one(said, "restart_pending"),
        "drift": [*each_one(said, "drift"), *_differing(agent, said)],
    }


def _differing(agent: NodeAgent, said: Mapping[str, Gossip | None]) -> list[str]:
    """What ought to be the same on all nodes, and is not there as here: that one was not reloaded, or this."""
    here = agent.settings.shared
    there = {member: gossip.extra.get("shared", here) for member, gossip in said.items() if gossip}
    return [f"{member}: {key}" for member, its in there.items() for key in here if its.get(key, here[key]) != here[key]]


def _equality(said: Mapping[str, Gossip | None]) -> dict[str, Any] | None:
    """What the newest comparison of all nodes has found, whoever made it."""
    each_said = (gossip.extra.get("equality") for gossip in said.values() if gossip)
    found: list[dict[str, Any]] = [each for each in each_said if each]
    return max(found, key=lambda each: int(each["at_wall_ms"]), default=None)


def _member(agent: NodeAgent, config: Config, name: str, said: Gossip | None) -> dict[str, Any]:
    node = derive.node(config, name)
    address = derive.addresses(node).database
    membership = agent.roster.membership
    entry = membership.of(name) if membership else None
    extra = said.extra if said else {}
    return {
        "name": name,
        "dsn": dsn.member_dsn(config, node),
        "role": "node",
        "number": entry.number if entry else None,
        "state": said.state if said else entry.state.value if _is_gone(entry) and entry else UNREACHABLE,
        "open": bool(extra.get("open")),
        "host": address.host,
        "port": address.port,
        "lag_ms": max(extra.get("lags_ms", {}).values(), default=0.0) if said else None,
        "lags_ms": _named(agent, extra.get("lags_ms", {})),
        "skews_ms": extra.get("skews_ms", {}),
        "sessions": extra.get("sessions"),
        "dead_letters": extra.get("dead_letters"),
        "conflicts": extra.get("conflicts"),
        "agent_pid": said.agent_pid or None if said else None,
        "engine_pid": said.engine_pid or None if said else None,
        "guard_pid": None,
        "tags": {},
        "note": _note(said, entry),
    }


def _is_gone(entry: Node | None) -> bool:
    return entry is not None and entry.state is NodeState.DEAD


def _note(said: Gossip | None, entry: Node | None) -> str:
    if said is not None:
        return said.note
    return "Declared dead." if _is_gone(entry) else "Its agent is not heard."


def _named(agent: NodeAgent, by_number: dict[str, float]) -> dict[str, float]:
    """By member instead of by number."""
    membership = agent.roster.membership
    found = {}
    for number, value in by_number.items():
        node = membership.node(int(number)) if membership else None
        found[node.member if node else number] = value
    return found
