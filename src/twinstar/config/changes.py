"""What becomes of an edited configuration: applied by `reload`, waiting for a restart, or refused on a running cluster.

Each key belongs to one of the three, by the table below; the longest matching path counts. A key that is not in it
applies by reload, so the table is held against the schema by a test. Settings of PostgreSQL that need a restart of the
database are known to the database alone: the engine reports them as `restart_pending` after the reload.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from twinstar.config.effective import effective
from twinstar.config.schema import Config


class Takes(StrEnum):
    """What it takes for a change to be in effect."""

    RELOAD = "reload"
    RESTART_AGENT = "restart of the agent and its guard"
    RESTART_ROUTER = "restart of the router"
    RESTART_KEEPER = "restart of the store's keeper"
    RESTART_ENGINE = "restart of the database"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Change:
    key: str
    before: Any
    """None: was not there."""
    after: Any
    takes: Takes
    why: str = ""
    """For a refused one: what to do instead."""


_NEW_CLUSTER = "it belongs to the cluster from its creation on: make a new cluster instead"
_MOVE = (
    "write the new one as `next_store`, restart the agents one by one and move the register: `twinstar store migrate`. "
    "After that, restart them with the file that has it as `store`"
)

_TABLE: dict[str, tuple[Takes, str]] = {
    "cluster": (Takes.REFUSED, _NEW_CLUSTER),
    "strategy": (Takes.REFUSED, _NEW_CLUSTER),
    "store": (Takes.REFUSED, _MOVE),
    "store.etcd.endpoints": (Takes.RESTART_AGENT, ""),
    "store.etcd.user": (Takes.RESTART_AGENT, ""),
    "store.etcd.password_file": (Takes.RESTART_AGENT, ""),
    "store.etcd.tls": (Takes.RESTART_AGENT, ""),
    "next_store": (Takes.RESTART_AGENT, ""),
    "store.managed": (Takes.RESTART_KEEPER, ""),
    "store.managed.port": (Takes.REFUSED, "members know each other by it: replace them one by one instead"),
    "witnesses": (Takes.RESTART_AGENT, ""),
    "store.zookeeper.hosts": (Takes.RESTART_AGENT, ""),
    "store.zookeeper.user": (Takes.RESTART_AGENT, ""),
    "store.zookeeper.password_file": (Takes.RESTART_AGENT, ""),
    "store.zookeeper.tls": (Takes.RESTART_AGENT, ""),
    "store.kubernetes.kubeconfig": (Takes.RESTART_AGENT, ""),
    "store.kubernetes.context": (Takes.RESTART_AGENT, ""),
    "secrets": (Takes.RESTART_AGENT, ""),
    "tls": (Takes.RESTART_AGENT, ""),
    "insecure": (Takes.RELOAD, ""),
    "durability": (Takes.RELOAD, ""),
    "required": (Takes.RELOAD, ""),
    "policy": (Takes.RELOAD, ""),
    "preset": (Takes.RESTART_AGENT, ""),
    "lease_ms": (Takes.RELOAD, ""),
    "maximum_lag_bytes": (Takes.RELOAD, ""),
    "tables": (Takes.RELOAD, ""),
    "removal_ms": (Takes.RELOAD, ""),
    "clock_bound_ms": (Takes.RELOAD, ""),
    "timing": (Takes.RESTART_AGENT, ""),
    "timing.voter_removal_ms": (Takes.RELOAD, ""),
    "timing.renewal_ms": (Takes.RELOAD, ""),
    "nodes.host": (Takes.RESTART_AGENT, ""),
    "nodes.bind": (Takes.RESTART_ENGINE, ""),
    "nodes.port": (Takes.RESTART_ENGINE, ""),
    "nodes.api_port": (Takes.RESTART_AGENT, ""),
    "nodes.agent_port": (Takes.RESTART_AGENT, ""),
    "nodes.guard_port": (Takes.RESTART_AGENT, ""),
    "nodes.directory": (
        Takes.REFUSED,
        "the data would stay behind: stop that node, move its directory, start it again",
    ),
    "nodes.tags": (Takes.RELOAD, ""),
    "router": (Takes.RESTART_ROUTER, ""),
    "postgresql.bin_dir": (Takes.RESTART_ENGINE, ""),
    "postgresql.parameters": (Takes.RELOAD, ""),
    "postgresql.hba": (Takes.RELOAD, ""),
    "postgresql.data_checksums": (Takes.REFUSED, _NEW_CLUSTER),
    "postgresql.database": (Takes.REFUSED, "it was made at the cluster's creation: create another with SQL"),
    "postgresql.user": (Takes.REFUSED, "it was made at the cluster's creation: create another with SQL"),
    "postgresql.system_user": (Takes.REFUSED, "the data belongs to the old user: stop that node and change the owner"),
}


def changes(before: Config, after: Config, removed: frozenset[str] = frozenset()) -> list[Change]:
    """Every key whose value in effect differs, in the file's order. Nodes are matched by name, not by their place.

    `removed` are the members that were told to go (`twinstar remove`), so that their entries may go too.
    """
    old, new = _by_name(before), _by_name(after)
    found = _membership(before, after, removed)
    for key in dict.fromkeys([*old, *new]):
        if old.get(key) != new.get(key) and not any(key.startswith(f"{change.key}.") for change in found):
            takes, why = requirement(key)
            found.append(Change(key, old.get(key), new.get(key), takes, why))
    return found


def requirement(key: str) -> tuple[Takes, str]:
    """What a change of this key takes, and for a refused one what to do instead."""
    path = re.sub(r"\[[^]]*\]", "", key)
    while path:
        if path in _TABLE:
            return _TABLE[path]
        path = path.rpartition(".")[0]
    return Takes.RELOAD, ""


def _membership(before: Config, after: Config, removed: frozenset[str]) -> list[Change]:
    """A new node joins when its agent starts. One that is gone from the file must be told to go first: until then it
    may be a voter on whom commits rest.
    """
    old, new = ({node.name for node in config.nodes} for config in (before, after))
    joined = [Change(f"nodes[{name}]", None, name, Takes.RESTART_AGENT) for name in sorted(new - old)]
    why = "a voter may not just vanish: run `twinstar remove` for it first"
    gone = (Takes.RELOAD, ""), (Takes.REFUSED, why)
    return joined + [Change(f"nodes[{name}]", name, None, *gone[name not in removed]) for name in sorted(old - new)]


def _by_name(config: Config) -> dict[str, Any]:
    """The values in effect, with ``nodes[n1].port`` instead of ``nodes[0].port``."""
    found: dict[str, Any] = {}
    for key, entry in effective(config).items():
        match = re.match(r"nodes\[(\d+)\]\.(.+)", key)
        named = f"nodes[{config.nodes[int(match[1])].name}].{match[2]}" if match else key
        if not named.endswith("].name") and entry.value != {}:  # no parameters: nothing to compare them with
            found[named] = entry.value
    return found
