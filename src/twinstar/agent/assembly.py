"""From the configuration to one member's agent and its HTTP interface."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twinstar.agent.agent import Agent
from twinstar.agent.control import AgentControl
from twinstar.agent.peers import PeerAddresses
from twinstar.agent.settings import AgentSettings
from twinstar.api.client import Client
from twinstar.api.control import Outcome
from twinstar.api.server import Server
from twinstar.config import derive, dsn
from twinstar.config.changes import Takes, changes
from twinstar.config.load import load
from twinstar.config.schema import Config
from twinstar.config.secrets import Secret, Secrets
from twinstar.config.tls import Purpose, ssl_context
from twinstar.engine.postgresql.engine import PostgresqlEngine
from twinstar.engine.postgresql.greeting import greets
from twinstar.engine.postgresql.opening import open_server
from twinstar.model.address import Address
from twinstar.model.errors import UsageError
from twinstar.model.register import Durability
from twinstar.model.view import Settings
from twinstar.ports.clock import Clock, SystemClock
from twinstar.ports.network import Network
from twinstar.ports.processes import SystemProcesses
from twinstar.ports.randomness import SystemRandomness
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.base import Store
from twinstar.store.factory import open_store

_OURS = frozenset({Takes.RESTART_AGENT, Takes.RESTART_ENGINE})
"""What the status says that a member waits for; what waits for the router is not this member's."""


class ConfigFacts:
    """What the status shows of the configuration."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.cluster = config.cluster
        self.policy: str = derive.policy(config)
        self.store_kind = "etcd" if config.store.etcd else "embedded"
        self.write_dsn = dsn.client_dsn(config, "write")
        self.read_dsn = dsn.client_dsn(config, "read")
        self._nodes = {node.name: node for node in config.nodes}

    def member_dsn(self, member: str) -> str:
        return dsn.member_dsn(self._config, self._nodes[member])

    def address(self, member: str) -> Address:
        return derive.addresses(self._nodes[member]).database

    def tags(self, member: str) -> dict[str, Any]:
        return self._nodes[member].tags.model_dump(exclude_defaults=True)


class Assembly:
    """One member's running parts. `path` is read again at `reload`."""

    def __init__(self, path: Path, config: Config, member: str) -> None:
        self._path, self._config, self._member = path, config, member
        self.clock, self.network = SystemClock(), SystemNetwork()
        self._secrets = Secrets(config.secrets)
        self.own = derive.node_settings(config, member)

    async def build(self) -> tuple[Agent, AgentControl, Server, Store]:
        """Raises UsageError, EnvironmentTrouble."""
        config = self._config
        server = await open_server(config, self._member, self.clock, SystemProcesses(self.clock))
        self._engine = PostgresqlEngine(server)
        store = open_store(config.store, config.cluster, self.clock, self.network, self._secrets, self._member)
        settings = agent_settings(config, self._member, self._secrets)
        probe = database_probe(self.network, self.clock, settings.timings.probe_deadline_ms)
        self.agent = Agent(settings, store, self._engine, self.clock, SystemRandomness(), self.network, probe)
        self.agent.pid = os.getpid()
        control = AgentControl(self.agent, ConfigFacts(config), self.clock, self._forward, self._reload)
        api = Server(control, config.cluster, self._member, lambda: self._secrets.read(Secret.API_TOKEN), self.clock)
        return self.agent, control, api, store

    async def start_api(self, api: Server) -> None:
        """Begins to serve HTTP. Raises EnvironmentTrouble when the port is taken."""
        tls = ssl_context(self.own.tls, Purpose.SERVE_HTTP) if self.own.tls else None
        await api.start(self.network, self.own.bind.api, tls)

    async def _forward(self, member: str, command: str, fields: dict[str, Any]) -> Outcome:
        if member not in self.own.peers or member == self._member:
            raise UsageError(f"There is no other member {member!r}; see `twinstar status`.")
        tls = ssl_context(self.own.tls, Purpose.CALL_HTTP) if self.own.tls else None
        client = Client(self.network, self.clock, tls, self._secrets.read(Secret.API_TOKEN))
        return await client.command(self.own.peers[member].api, command, **fields)

    async def _reload(self) -> Outcome:
        """Applies what can be applied to a running member; says what waits for a restart and what is refused."""
        new = load(self._path)
        register = self.agent.ledger.register
        # Who is no copy may go from the file: no commit rests on it.
        leaving = frozenset(self.agent.settings.addresses) - register.copies if register else frozenset()
        found = changes(self._config, new, leaving)
        refused = [each for each in found if each.takes is Takes.REFUSED]
        if refused:
            first = refused[0]
            return Outcome(False, f"`{first.key}` cannot be changed on a running cluster: {first.why}.")
        await self._engine.reload(dict(new.postgresql.parameters))
        self.agent.reconfigure(rules_settings(new))
        waiting = [f"{each.key}: {each.takes}" for each in found if each.takes is not Takes.RELOAD]
        self.agent.waiting = tuple(each.key for each in found if each.takes in _OURS)
        self._config = new if not waiting else self._config
        message = f"{len(found) - len(waiting)} change(s) applied on {self._member}."
        if waiting:
            message += f" Waiting: {'; '.join(waiting)}."
        return Outcome(True, message, {"waiting": waiting})


def agent_settings(config: Config, member: str, secrets: Secrets) -> AgentSettings:
    """What one agent needs of the configuration. Raises UsageError."""
    own = derive.node_settings(config, member)
    addresses = {m: PeerAddresses(a.agent, a.guard, a.database) for m, a in own.peers.items()}
    addresses[member] = PeerAddresses(own.bind.agent, own.bind.guard, own.bind.database)
    return AgentSettings(
        cluster=config.cluster,
        me=member,
        secret=secrets.wire_key(),
        rules=rules_settings(config),
        timings=own.timings,
        addresses=addresses,
        state_file=own.node.directory / "state" / "member.json",
        maximum_read_lag_bytes=config.router.max_read_lag_bytes if config.router else 16 * 1024 * 1024,
    )


def rules_settings(config: Config) -> Settings:
    """What the rules look at."""
    timings = derive.timings(config)
    return Settings(
        members=tuple(node.name for node in config.nodes),
        durability=config.durability,
        required=derive.required(config) if config.durability is Durability.QUORUM else 0,
        policy=derive.policy(config),
        nofailover=frozenset(node.name for node in config.nodes if node.tags.nofailover),
        priorities={node.name: node.tags.priority for node in config.nodes},
        election_timeout_ms=timings.election_timeout_ms,
        naming_delay_ms=timings.naming_delay_ms,
        heartbeat_ms=timings.heartbeat_ms,
        voter_removal_ms=timings.voter_removal_ms,
        start_grace_ms=timings.start_grace_ms,
        lease_ms=config.lease_ms,
        renewal_ms=config.timing.renewal_ms,
        maximum_lag_bytes=config.maximum_lag_bytes,
    )


def database_probe(network: Network, clock: Clock, deadline_ms: float) -> Any:
    """Asks another member's database for a sign of life."""

    async def probe(address: Address) -> bool:
        return await greets(network, clock, address, deadline_ms)

    return probe
