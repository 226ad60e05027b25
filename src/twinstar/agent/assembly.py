"""From the configuration to one member's agent and its HTTP interface."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twinstar.agent.agent import Agent
from twinstar.agent.control import AgentControl
from twinstar.agent.facts import ConfigFacts
from twinstar.agent.forwarding import forwarding
from twinstar.agent.member import RunningMember
from twinstar.agent.migrating import Migration, leads_quietly
from twinstar.agent.reloading import Reloading
from twinstar.agent.running import Running
from twinstar.agent.settings import agent_settings
from twinstar.api.client import Client
from twinstar.api.server import Server
from twinstar.config import derive
from twinstar.config.load import load
from twinstar.config.schema import Config
from twinstar.config.secrets import Secret, Secrets
from twinstar.config.tls import Purpose, ssl_context
from twinstar.engine.postgresql.engine import PostgresqlEngine
from twinstar.engine.postgresql.greeting import greets
from twinstar.engine.postgresql.opening import open_server
from twinstar.model.address import Address
from twinstar.ports.clock import Clock, SystemClock
from twinstar.ports.network import Network
from twinstar.ports.processes import SystemProcesses
from twinstar.ports.randomness import SystemRandomness
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.factory import store_of


class Assembly:
    """One member's running parts. `path` is read again at `reload`."""

    def __init__(self, path: Path, config: Config, member: str) -> None:
        self._path, self._config, self._member = path, config, member
        self.clock, self.network = SystemClock(), SystemNetwork()
        self._secrets = Secrets(config.secrets)
        self.own = derive.node_settings(config, member)

    async def build(self) -> Running:
        """Raises UsageError, EnvironmentTrouble."""
        config = self._config
        server = await open_server(config, self._member, self.clock, SystemProcesses(self.clock))
        engine = PostgresqlEngine(server)
        store = store_of(config, self.clock, self.network, self._secrets, self._member)
        settings = agent_settings(config, self._member, self._secrets.wire_key())
        probe = database_probe(self.network, self.clock, settings.timings.probe_deadline_ms)
        self.agent = Agent(settings, store, engine, self.clock, SystemRandomness(), self.network, probe)
        self.agent.pid = os.getpid()
        facts = ConfigFacts(config)
        running = RunningMember(self.agent, engine, facts)
        reloading = Reloading(self._member, running, config, lambda: load(self._path))
        forward = forwarding(self._member, {m: a.api for m, a in self.own.peers.items()}, self._client)
        migration = Migration(store, self._member, self.own.peers, forward, SystemRandomness(), leads_quietly)
        control = AgentControl(self.agent, facts, self.clock, forward, reloading.reload, migration)
        api = Server(control, config.cluster, self._member, lambda: self._secrets.read(Secret.API_TOKEN), self.clock)
        return Running(api, store, lambda: self._start_api(api), (self.agent.run, control.refresh_history))

    async def _start_api(self, api: Server) -> None:
        tls = ssl_context(self.own.tls, Purpose.SERVE_HTTP) if self.own.tls else None
        await api.start(self.network, self.own.bind.api, tls)

    def _client(self) -> Client:
        tls = ssl_context(self.own.tls, Purpose.CALL_HTTP) if self.own.tls else None
        return Client(self.network, self.clock, tls, self._secrets.read(Secret.API_TOKEN))


def database_probe(network: Network, clock: Clock, deadline_ms: float) -> Any:
    """Asks another member's database for a sign of life."""

    async def probe(address: Address) -> bool:
        return await greets(network, clock, address, deadline_ms)

    return probe
