"""What must not stand together in one configuration. Single values are checked by `schema.py`.

Each rule is one function from the configuration to a sentence (what is wrong, why, what to do) or None. The rules are
tried in order, so that the sentence a user sees is about the cause and not about a consequence of it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path

from twinstar.config.check_managed import (
    listeners,
    members_are_nodes,
    members_listen_on_addresses,
    members_make_a_majority,
)
from twinstar.config.check_remote import etcd_endpoints, etcd_is_guarded, zookeeper_hosts, zookeeper_is_guarded
from twinstar.config.derive import after_the_move, copies, endpoints, renewal_ms, timings
from twinstar.config.hosts import is_host, is_loopback
from twinstar.config.own_parameters import OWN_PARAMETERS, REFUSED_VALUES
from twinstar.config.schema import Config, Node, Witness
from twinstar.config.strategies import keys_of_the_strategy, ports_of_the_strategy
from twinstar.config.tables import tables_make_sense
from twinstar.model.errors import UsageError
from twinstar.model.register import Durability

RESERVED_NAMES = frozenset({"nobody", "router", "client", "authority"})
"""`nobody` is whom a blocked leader waits for; the others name certificates."""

LONGEST_SOCKET_PATH = 107
"""Bytes of a Unix socket's path on Linux (`sun_path` without its final zero)."""

TWO_NODES = (
    "two data nodes cannot both outlive the other and lose nothing, so say what writes do while one is missing: "
    "`policy: block` makes them wait until it is back (nothing acknowledged is ever lost), `policy: degrade` goes on "
    "with one copy after some seconds (writes acknowledged then are lost if that machine dies too)"
)


def check(config: Config) -> str | None:
    """The first thing that is unsafe or cannot work, in one sentence; None when all is well."""
    trouble = next((trouble for rule in RULES if (trouble := rule(config))), None)
    if trouble is not None or config.next_store is None:
        return trouble
    return _next_store(config)


def _next_store(config: Config) -> str | None:
    """The store that the register is to move to has to work as well as the present one."""
    assert config.next_store is not None
    if config.store == config.next_store:
        return "`next_store` is what `store` is: nothing has to move, so remove it."
    if config.store.managed and config.next_store.managed:
        return "`store` and `next_store` are both `managed`: replace its members one by one instead (`twinstar store`)."
    trouble = check(after_the_move(config))
    return trouble and trouble.replace("`store", "`next_store")


def one_store(config: Config) -> str | None:
    chosen = [name for name, value in config.store if value is not None]
    if len(chosen) == 1:
        return None
    if not chosen:
        return "`store` names none: write `embedded` (one machine only), `managed`, or another of the stores below it."
    return f"`store` names {' and '.join(chosen)}: the register is in one store only, remove all but one."


def hosts_can_be_reached(config: Config) -> str | None:
    """What stands for a host goes into connection strings and certificates as it is."""
    router = config.router
    reached = [(each.host, f"{key}.host") for each, key in _machines(config)]
    reached += [(host, f"router.hosts[{i}]") for i, host in enumerate(router.hosts if router else ())]
    bound = [(each.bind, f"{key}.bind") for each, key in _machines(config) if each.bind]
    bound += [(host, f"router.bind[{i}]") for i, host in enumerate(router.bind if router else ())]
    for host, key in reached + bound:
        if not is_host(host):
            return f"`{key}` is {host!r}: write a name, an IPv4 address, or an IPv6 address without brackets; no port."
    for host, key in reached:
        if host in _ANYWHERE:
            return f"`{key}` is {host}, where nobody can be reached: write the address that the others use."
    return None


def distinct_names(config: Config) -> str | None:
    seen: dict[str, str] = {}
    for each, key in _machines(config):
        if each.name in RESERVED_NAMES:
            return f"`{key}.name` is {each.name!r}, which Twinstar uses itself: choose another."
        if each.name in seen:
            return f"`{key}.name` is {each.name!r} like `{seen[each.name]}.name`: give each node its own."
        seen[each.name] = key
    return None


def distinct_directories(config: Config) -> str | None:
    """Only on one host: on two machines the same path is two directories."""
    seen: dict[tuple[str, Path], str] = {}
    for node, _ in _machines(config):
        key = (_machine(node.host), node.directory)
        if key in seen:
            return f"nodes {seen[key]} and {node.name} both have the directory {node.directory}: give each its own."
        seen[key] = node.name
    return None


def distinct_addresses(config: Config) -> str | None:
    """A router that listens on every address meets every node on its port: it may run beside any of them."""
    seen: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for kind, host, port, key in _listeners(config):
        machine = _machine(host)
        for other, other_key in seen.setdefault((kind, port), []):
            if machine == other or _ANYWHERE & {machine, other}:
                return f"`{other_key}` and `{key}` are both {kind} port {port} on {host}: give each its own."
        seen[kind, port].append((machine, key))
    return None


def own_parameters(config: Config) -> str | None:
    for name in config.postgresql.parameters:
        reason = OWN_PARAMETERS.get(name.lower())
        if reason:
            return f"`postgresql.parameters.{name}` is set by Twinstar itself ({reason}): remove it."
    return None


def refused_values(config: Config) -> str | None:
    for name, value in config.postgresql.parameters.items():
        reason = REFUSED_VALUES.get((name.lower(), str(value).strip().lower()))
        if reason:
            return f"`postgresql.parameters.{name}` is {value}, and {reason}."
    return None


def some_failover(config: Config) -> str | None:
    if len(config.nodes) > 1 and len(copies(config)) < 2:
        return (
            "`nofailover` on all nodes but one leaves nobody to take over: remove the tag from at least one more node."
        )
    return None


def quorum_possible(config: Config) -> str | None:
    if config.durability is Durability.QUORUM and len(copies(config)) < 2:
        return (
            "`durability: quorum` needs a second node to confirm each commit: add a node, or write "
            "`durability: async` for one without a copy."
        )
    return None


def required_fits(config: Config) -> str | None:
    voters = len(copies(config)) - 1
    asked = config.required
    if asked is None:
        return None
    if config.durability is Durability.ASYNC and asked:
        return (
            f"`required` is {asked}, but `durability: async` waits for nobody: remove it or use `durability: quorum`."
        )
    if config.durability is Durability.QUORUM and asked == 0:
        return (
            "`required` is 0, so that a commit would be on one machine only, which `durability: quorum` promises it "
            "is not: write 1 or more, or `durability: async`."
        )
    if asked > voters:
        return (
            f"`required` is {asked}, but besides the node that takes the write only {voters} "
            f"{'confirms' if voters == 1 else 'confirm'} commits: write at most {voters}, or add nodes "
            "(those with `nofailover` do not count)."
        )
    return None


def two_nodes_say(config: Config) -> str | None:
    """PROTOCOL section 6: with two copies and one required either goes on alone only by a choice that is the user's."""
    if config.durability is Durability.QUORUM and len(copies(config)) == 2 and config.policy is None:
        return f"`policy` is missing: {TWO_NODES}."
    return None


def lease_longer_than_renewal(config: Config) -> str | None:
    """Two renewals in a row may fail without costing leadership."""
    renewal = renewal_ms(config)
    if config.durability is Durability.ASYNC and config.lease_ms < 3 * renewal:
        return (
            f"`lease_ms` is {config.lease_ms}, too close to the renewal every {renewal:g} ms: one slow answer of the "
            f"store would end a healthy leader; write at least {3 * renewal:g}, or lower `timing.renewal_ms`."
        )
    return None


def durations_fit(config: Config) -> str | None:
    """The formulas of `model.timing` have bounds of their own (one lost datagram is no silence)."""
    try:
        timings(config)
    except UsageError as error:
        return f"`timing`: {error}"
    return None


def election_after_suspicion(config: Config) -> str | None:
    chosen = timings(config)
    if config.strategy == "active-passive" and chosen.election_timeout_ms < chosen.suspicion_ms:
        return (
            f"`timing.election_timeout_ms` is {chosen.election_timeout_ms:g}, so that an election would be "
            "superseded before a death in the middle of it can be noticed: write at least "
            f"{chosen.suspicion_ms:g} (the suspicion)."
        )
    return None


def removal_after_suspicion(config: Config) -> str | None:
    chosen = timings(config)
    if chosen.voter_removal_ms < 2 * chosen.suspicion_ms:
        return (
            f"`timing.voter_removal_ms` is {chosen.voter_removal_ms:g}, so that a voter would be dropped before "
            f"its silence is certain: write at least {2 * chosen.suspicion_ms:g}."
        )
    return None


def death_after_suspicion(config: Config) -> str | None:
    chosen = timings(config)
    if config.strategy == "active-active" and config.removal_ms < 2 * chosen.suspicion_ms:
        return (
            f"`removal_ms` is {config.removal_ms}, so that a node would be declared dead before its silence is "
            f"certain: write at least {2 * chosen.suspicion_ms:g}."
        )
    return None


def guarded_addresses(config: Config) -> str | None:
    if config.insecure:
        return None
    remedy = "write `tls` (`twinstar init` makes the certificates), or `insecure: true` if you accept that"
    if config.tls is None:
        binds = [(each.bind, f"{key}.bind") for each, key in _machines(config) if each.bind]
        for host, key in [*((host, key) for _, host, _, key in _listeners(config)), *binds]:
            if not is_loopback(host):
                return f"`{key}` is on {host}, where passwords and data would pass unencrypted: {remedy}."
    return None


def kubernetes_context(config: Config) -> str | None:
    kubernetes = config.store.kubernetes
    if kubernetes and kubernetes.context and not kubernetes.kubeconfig:
        return (
            "`store.kubernetes.context` is a kubeconfig's, but `store.kubernetes.kubeconfig` is missing: name the file."
        )
    return None


def embedded_on_one_machine(config: Config) -> str | None:
    if config.store.embedded is None:
        return None
    away = [node for node in config.nodes if not is_loopback(node.host)]
    if len({node.host for node in away}) > 1 or (away and len(away) < len(config.nodes)):
        return (
            "`store.embedded` serves one machine only, but the nodes are on several hosts: "
            "run etcd or ZooKeeper and write `store.etcd` or `store.zookeeper`, or write `store.kubernetes`."
        )
    return None


def short_socket_paths(config: Config) -> str | None:
    paths = [(f"nodes[{i}].directory", n.directory / "run" / f".s.PGSQL.{n.port}") for i, n in enumerate(config.nodes)]
    if config.store.embedded:
        paths.append(("store.embedded.socket", config.store.embedded.socket))
    for key, path in paths:
        if len(bytes(path)) > LONGEST_SOCKET_PATH:
            return (
                f"`{key}` makes the socket {path}, longer than the {LONGEST_SOCKET_PATH} bytes that Linux allows: "
                "choose a shorter path."
            )
    return None


def hba_is_safe(config: Config) -> str | None:
    for index, line in enumerate(config.postgresql.hba):
        words = line.split()
        if "trust" in words:
            return f"`postgresql.hba[{index}]` has `trust`, which lets anyone in: write scram-sha-256."
        if "\n" in line or not words or words[0] not in _HBA_KINDS:
            return f"`postgresql.hba[{index}]` is {line!r}: write one line that begins with {', '.join(_HBA_KINDS)}."
    return None


def database_user_is_free(config: Config) -> str | None:
    user = config.postgresql.user
    if user.lower() in ("postgres", "public", "none") or user.lower().startswith(("twinstar", "pg_")):
        return f"`postgresql.user` is {user!r}, a role with other rights: choose another name for the application's."
    return None


_ANYWHERE = {"0.0.0.0", "::"}  # noqa: S104 (compared with, not bound to)
_HBA_KINDS = ("local", "host", "hostssl", "hostnossl")

RULES: tuple[Callable[[Config], str | None], ...] = (
    keys_of_the_strategy,
    ports_of_the_strategy,
    one_store,
    members_are_nodes,
    members_make_a_majority,
    etcd_endpoints,
    zookeeper_hosts,
    kubernetes_context,
    hosts_can_be_reached,
    members_listen_on_addresses,
    distinct_names,
    distinct_directories,
    distinct_addresses,
    some_failover,
    quorum_possible,
    required_fits,
    two_nodes_say,
    lease_longer_than_renewal,
    durations_fit,
    election_after_suspicion,
    removal_after_suspicion,
    death_after_suspicion,
    tables_make_sense,
    embedded_on_one_machine,
    guarded_addresses,
    etcd_is_guarded,
    zookeeper_is_guarded,
    own_parameters,
    refused_values,
    hba_is_safe,
    database_user_is_free,
    short_socket_paths,
)


def _machines(config: Config) -> list[tuple[Node | Witness, str]]:
    """Nodes and witnesses, with their keys."""
    nodes: list[tuple[Node | Witness, str]] = [(node, f"nodes[{i}]") for i, node in enumerate(config.nodes)]
    return nodes + [(witness, f"witnesses[{i}]") for i, witness in enumerate(config.witnesses)]


def _machine(host: str) -> str:
    """One name for each spelling of one loopback or of one address."""
    if host.lower() == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def _listeners(config: Config) -> Iterator[tuple[str, str, int, str]]:
    """(TCP or UDP, host, port, key) of everything that will listen."""
    for index, node in enumerate(config.nodes):
        for kind, field in (("TCP", "port"), ("TCP", "api_port"), ("UDP", "agent_port"), ("UDP", "guard_port")):
            yield kind, node.host, getattr(node, field), f"nodes[{index}].{field}"
    yield from listeners(config)
    router = config.router
    if router is None:
        return
    for host in router.bind:
        for endpoint, port in endpoints(config).items():
            yield "TCP", host, port, f"router.{endpoint}_port"
        yield "UDP", host, router.notice_port, "router.notice_port"
    if router.status_port:
        yield "TCP", router.bind[0], router.status_port, "router.status_port"
