"""From the configuration to one member's agent of an active-active cluster and its HTTP interface."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twinstar.agent.active_active.agent import NodeAgent
from twinstar.agent.active_active.appliers import Appliers, Duty, Order, spool_folder
from twinstar.agent.active_active.control import NodeControl
from twinstar.agent.active_active.member import RunningNode
from twinstar.agent.active_active.settings import node_settings
from twinstar.agent.active_active.tables import NodeTables
from twinstar.agent.forwarding import forwarding
from twinstar.agent.migrating import Migration, nothing
from twinstar.agent.reloading import Reloading
from twinstar.agent.running import Running
from twinstar.api.all_nodes import Ask, refused
from twinstar.api.client import Client
from twinstar.api.server import Server
from twinstar.config import derive
from twinstar.config.load import load
from twinstar.config.schema import Config
from twinstar.config.secrets import Secret, Secrets
from twinstar.config.tls import Purpose, ssl_context
from twinstar.engine.postgresql.connections import local_parameters, remote_parameters, superuser_parameters
from twinstar.engine.postgresql.multiwriter.node import NodeDatabase
from twinstar.engine.postgresql.multiwriter.settings import ApplierSettings
from twinstar.engine.postgresql.opening import open_server
from twinstar.engine.postgresql.server import Server as DatabaseServer
from twinstar.engine.postgresql.settings import APPLIER_ROLE
from twinstar.ports.clock import SystemClock
from twinstar.ports.processes import SystemProcesses
from twinstar.ports.randomness import SystemRandomness
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.factory import store_of

_APPLIER = "twinstar.engine.postgresql.multiwriter"


class Assembly:
    """One member's running parts. `path` is read again at `reload`."""

    def __init__(self, path: Path, config: Config, member: str) -> None:
        self._path, self._config, self._member = path, config, member
        self.clock, self.network = SystemClock(), SystemNetwork()
        self._secrets = Secrets(config.secrets)
        self.own = derive.node_settings(config, member)

    async def build(self) -> Running:
        """Raises UsageError, EnvironmentTrouble, EngineError."""
        config = self._config
        processes = SystemProcesses(self.clock)
        server = await open_server(config, self._member, self.clock, processes)
        database = NodeDatabase(server)
        store = store_of(config, self.clock, self.network, self._secrets, self._member)
        settings = node_settings(config, self._member, self._secrets.wire_key())
        state = self.own.node.directory / "state"
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        appliers = Appliers(_command, dict(os.environ), self.clock, processes)
        parent = processes.run_id(os.getpid())

        def make_order(sender: int, member: str, number: int, duty: Duty) -> Order:
            pair, receives = f"{number}-{sender}", duty is not Duty.DRAIN
            settings_of_it = ApplierSettings(
                local=_local(server),
                peer=_peer(server, member) if receives else {},
                peer_name=member,
                number=number,
                peer_number=sender,
                durability="quorum" if duty is Duty.SPOOL else "async",
                receives=receives,
                spool=spool_folder(state, number, sender),
                state_file=state / f"applier-{pair}-{duty}.state",
                parent=parent,
            )
            file = state / f"applier-{pair}.json"
            return Order(settings_of_it.model_dump_json(), file, settings_of_it.state_file, duty)

        agent = NodeAgent(
            settings, store, database, appliers, make_order, self._asker(), self.clock, SystemRandomness(), self.network
        )
        forward = forwarding(self._member, {m: a.api for m, a in self.own.peers.items()}, self._client)
        migration = Migration(store, self._member, self.own.peers, forward, SystemRandomness(), nothing)
        node = RunningNode(agent, config)
        reloading = Reloading(self._member, node, config, lambda: load(self._path))
        control = NodeControl(agent, node, self.clock, forward, reloading.reload, migration)
        superuser = superuser_parameters(server.settings, server.settings.database)
        tables = NodeTables(superuser, _local(server), lambda: agent.open)
        api = Server(control, config.cluster, self._member, self._token, self.clock, tables)
        return Running(api, store, lambda: self._start_api(api), (agent.run,))

    def _asker(self) -> Ask:
        """A way to each node, this one included, for questions about its tables."""

        async def ask(member: str, command: str, fields: dict[str, Any]) -> dict[str, Any]:
            outcome = await self._client().command(self.own.peers[member].api, command, **fields)
            if not outcome.ok:
                raise refused(member, outcome.message)
            return outcome.details

        return ask

    def _token(self) -> str:
        return self._secrets.read(Secret.API_TOKEN)

    async def _start_api(self, api: Server) -> None:
        tls = ssl_context(self.own.tls, Purpose.SERVE_HTTP) if self.own.tls else None
        await api.start(self.network, self.own.bind.api, tls)

    def _client(self) -> Client:
        tls = ssl_context(self.own.tls, Purpose.CALL_HTTP) if self.own.tls else None
        return Client(self.network, self.clock, tls, self._secrets.read(Secret.API_TOKEN))


def _command(settings: Path) -> list[str]:
    return [sys.executable, "-m", _APPLIER, str(settings)]


def _local(server: DatabaseServer) -> dict[str, str | int]:
    parameters = local_parameters(server.settings, APPLIER_ROLE) | {"dbname": server.settings.database}
    del parameters["replication"]
    return parameters


def _peer(server: DatabaseServer, member: str) -> dict[str, str | int]:
    settings = server.settings
    return remote_parameters(settings, settings.addresses[member]) | {"dbname": settings.database}
