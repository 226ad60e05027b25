"""What one agent needs to know of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from twinstar.agent.peers import PeerAddresses
from twinstar.config import derive
from twinstar.config.schema import Config
from twinstar.model.timing import Timings
from twinstar.model.view import Settings


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """One member's agent. `rules` is what the rules look at, the rest what the agent does."""

    cluster: str
    me: str
    secret: bytes = field(repr=False)
    rules: Settings
    timings: Timings
    addresses: dict[str, PeerAddresses]
    state_file: Path
    maximum_read_lag_bytes: int = 16 * 1024 * 1024
    switchover_deadline_ms: int = 10_000


def agent_settings(config: Config, member: str, secret: bytes) -> AgentSettings:
    """What one agent needs of the configuration; `secret` signs datagrams. Raises UsageError."""
    own = derive.node_settings(config, member)
    addresses = {m: PeerAddresses(a.agent, a.guard, a.database) for m, a in own.peers.items()}
    addresses[member] = PeerAddresses(own.bind.agent, own.bind.guard, own.bind.database)
    addresses |= witness_addresses(config)
    return AgentSettings(
        cluster=config.cluster,
        me=member,
        secret=secret,
        rules=rules_settings(config),
        timings=own.timings,
        addresses=addresses,
        state_file=own.node.directory / "state" / "member.json",
        maximum_read_lag_bytes=config.router.max_read_lag_bytes if config.router else 16 * 1024 * 1024,
    )


def witness_addresses(config: Config) -> dict[str, PeerAddresses]:
    """Where the others reach the witnesses."""
    return {w.name: PeerAddresses(*derive.witness_addresses(w), database=None) for w in config.witnesses}


def rules_settings(config: Config) -> Settings:
    """What the rules look at."""
    timings = derive.timings(config)
    return Settings(
        members=tuple(node.name for node in config.nodes),
        durability=config.durability,
        required=derive.required(config),
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
        witnesses=tuple(witness.name for witness in config.witnesses),
    )
