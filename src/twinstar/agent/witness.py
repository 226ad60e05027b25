"""The agent of a witness: it hears the nodes, and answers whom it hears. No database, no register, no decisions.

It is the same `Peers` as a member's, so that a witness judges silence by the same rules: heartbeats, then direct probes
of agent and database. What it answers can hold an accusation back and nothing else
(`rules/active_passive/suspicion.py`).
"""

from __future__ import annotations

from pathlib import Path

from twinstar.agent.memory import Memory
from twinstar.agent.peers import DatabaseProbe, PeerAddresses, Peers
from twinstar.agent.settings import witness_addresses
from twinstar.config import derive
from twinstar.config.schema import Config, Witness
from twinstar.config.secrets import Secrets
from twinstar.engine.postgresql.greeting import greets
from twinstar.model.address import Address
from twinstar.model.errors import UsageError
from twinstar.model.timing import Timings
from twinstar.model.wire import EngineWord, Told
from twinstar.ports.clock import Clock, SystemClock
from twinstar.ports.network import Network
from twinstar.ports.system_network import SystemNetwork

_TELL_HEARTBEATS = 2
_ENDED = frozenset({EngineWord.DEAD, EngineWord.STOPPED, EngineWord.KILLING})


class WitnessAgent:
    def __init__(
        self,
        me: str,
        cluster: str,
        secret: bytes,
        addresses: dict[str, PeerAddresses],
        timings: Timings,
        state_file: Path,
        clock: Clock,
        network: Network,
        probe: DatabaseProbe,
    ) -> None:
        """Raises EnvironmentTrouble when what it remembers cannot be read."""
        self._clock, self._timings = clock, timings
        self._memory = Memory(state_file)
        self.peers = Peers(
            me, cluster, secret, addresses, timings, clock, network, probe, self._memory.now.heard,
            self._memory.begin(clock.wall_ms()), lambda: None, self._memory.heard, self._memory.keeps_start,
        )  # fmt: skip
        self.peers.judge = self._judge

    async def run(self) -> None:
        """Until cancelled. Raises EnvironmentTrouble when its port is taken."""
        await self.peers.open()
        try:
            beats = 0
            while True:
                self.peers.health.woke(self._clock.now_ms())
                self.peers.probe(frozenset(m for m, peer in self.peers.views().items() if peer.overdue))
                if beats % _TELL_HEARTBEATS == 0:
                    self.peers.tell_guard(Told(epoch=0, leading=False, run="", stopping=False))
                beats += 1
                await self._clock.sleep_ms(self._timings.heartbeat_ms)
        finally:
            self.peers.close()

    def _judge(self, about: str, epoch: int) -> tuple[bool, bool]:  # noqa: ARG002 (it knows of no epochs)
        """Whether that leader, its agent or its database is silent to it; it can seal nothing."""
        peer = self.peers.views().get(about)
        if peer is None:
            return False, False
        stuck = peer.agent_age_ms > self._timings.election_timeout_ms or peer.engine in _ENDED
        return peer.silent or stuck, False


def witness_agent(
    config: Config,
    witness: Witness,
    secret: bytes,
    state_file: Path,
    clock: Clock,
    network: Network,
    probe: DatabaseProbe,
) -> WitnessAgent:
    """Raises UsageError, EnvironmentTrouble."""
    if config.strategy == "active-active":
        raise UsageError(
            f"Where every node takes writes nobody accuses a leader, so {witness.name} needs no agent: run its store "
            "keeper alone."
        )
    own = PeerAddresses(*derive.witness_addresses(witness, bind=True), database=None)
    nodes = {node.name: derive.addresses(node) for node in config.nodes}
    addresses = {m: PeerAddresses(at.agent, at.guard, at.database) for m, at in nodes.items()}
    addresses |= {**witness_addresses(config), witness.name: own}
    timings = derive.timings(config)
    return WitnessAgent(witness.name, config.cluster, secret, addresses, timings, state_file, clock, network, probe)


def system_witness_agent(config: Config, witness: Witness) -> WitnessAgent:
    """On this machine. Raises UsageError, EnvironmentTrouble."""
    clock, network, deadline_ms = SystemClock(), SystemNetwork(), derive.timings(config).probe_deadline_ms

    async def probe(address: Address) -> bool:
        return await greets(network, clock, address, deadline_ms)

    secret, state = Secrets(config.secrets).wire_key(), witness.directory / "state" / "member.json"
    return witness_agent(config, witness, secret, state, clock, network, probe)
