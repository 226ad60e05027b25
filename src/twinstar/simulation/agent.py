"""One member's agent and its HTTP interface, put together as `agent/assembly.py` does it, on simulated ports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twinstar.agent.agent import Agent
from twinstar.agent.control import AgentControl
from twinstar.agent.facts import ConfigFacts
from twinstar.agent.forwarding import forwarding
from twinstar.agent.member import RunningMember
from twinstar.agent.migrating import Migration, leads_quietly
from twinstar.agent.reloading import Reloading
from twinstar.agent.settings import AgentSettings
from twinstar.api.client import Client
from twinstar.api.server import Server
from twinstar.config.derive import addresses, node
from twinstar.config.schema import Config
from twinstar.model.address import Address
from twinstar.ports.clock import Clock
from twinstar.ports.network import Network
from twinstar.ports.randomness import Randomness
from twinstar.simulation.database.engine import VirtualEngine
from twinstar.simulation.world.freezing import outside
from twinstar.store.base import Store

TOKEN = "simulated"  # noqa: S105 - nobody listens in on the wires


@dataclass(frozen=True, slots=True)
class VirtualAgent:
    """What one process runs."""

    agent: Agent
    _api: Server
    _network: Network
    _bind: Address

    @classmethod
    def assembled(
        cls,
        settings: AgentSettings,
        read: Callable[[], Config],
        store: Store,
        engine: VirtualEngine,
        clock: Clock,
        randomness: Randomness,
        network: Network,
    ) -> VirtualAgent:
        """`read` gives the file as it is when it is asked."""
        config, me = read(), settings.me
        own = outside(engine)
        agent = Agent(settings, store, own, clock, randomness, network, engine.peer_answers)
        facts = ConfigFacts(config)
        agents = {each.name: addresses(each).api for each in config.nodes}
        forward = forwarding(me, agents, lambda: Client(network, clock, token=TOKEN))
        reload = Reloading(me, RunningMember(agent, own, facts), config, read).reload
        migration = Migration(store, me, agents, forward, randomness, leads_quietly)
        control = AgentControl(agent, facts, clock, forward, reload, migration)
        api = Server(control, config.cluster, me, lambda: TOKEN, clock)
        return cls(agent, api, network, addresses(node(config, me)).api)

    async def run(self) -> None:
        await self._api.start(self._network, self._bind)
        await self.agent.run()
