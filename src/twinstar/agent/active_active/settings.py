"""What the agent of a node that takes writes needs to know of the configuration."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from twinstar.config import derive
from twinstar.config.schema import Config, TableRule
from twinstar.model.address import Address
from twinstar.model.register import Durability


@dataclass(frozen=True, slots=True)
class NodeSettings:
    cluster: str
    me: str
    secret: bytes = field(repr=False)
    agents: dict[str, Address]
    """Where each member's agent hears; this one's is where it listens."""
    databases: dict[str, Address]
    """Where each member's database is reached."""
    directory: Path
    """The node's."""
    durability: Durability
    required: int
    """`quorum`: how many other nodes must have received a commit."""
    degrade_after_ms: float | None
    """Policy `degrade`: fewer, when fewer have been there for so long. None: `block`."""
    removal_ms: float
    clock_bound_ms: float
    tables: tuple[TableRule, ...]
    hung_query_ms: float
    hung_strikes: int

    def with_changes(self, new: NodeSettings) -> NodeSettings:
        """With what can change while the agent runs. A node that is new there is known to an agent that starts anew."""
        return replace(
            self,
            agents={member: address for member, address in self.agents.items() if member in new.agents},
            durability=new.durability,
            required=new.required,
            degrade_after_ms=new.degrade_after_ms,
            removal_ms=new.removal_ms,
            clock_bound_ms=new.clock_bound_ms,
            tables=new.tables,
        )

    @property
    def shared(self) -> dict[str, str]:
        """What ought to be the same on all nodes, by its key in the configuration, to be compared."""
        return {
            "durability": self.durability.value,
            "required": str(self.required),
            "policy": "block" if self.degrade_after_ms is None else f"degrade after {self.degrade_after_ms:.0f} ms",
            "removal_ms": f"{self.removal_ms:.0f}",
            "clock_bound_ms": f"{self.clock_bound_ms:.0f}",
            "tables": f"{zlib.crc32(repr(self.tables).encode()):08x}",
        }

    @property
    def state_file(self) -> Path:
        return self.directory / "state" / "member.json"

    @property
    def leave_file(self) -> Path:
        """Is there while this member is told to stay away."""
        return self.directory / "state" / "leave"


def node_settings(config: Config, member: str, secret: bytes) -> NodeSettings:
    """Of one member; `secret` signs datagrams. Raises UsageError when it has no entry."""
    own = derive.node_settings(config, member)
    return NodeSettings(
        cluster=config.cluster,
        me=member,
        secret=secret,
        agents={m: a.agent for m, a in own.peers.items()} | {member: own.bind.agent},
        databases={m: a.database for m, a in own.peers.items()},
        directory=own.node.directory,
        durability=config.durability,
        required=derive.required(config),
        degrade_after_ms=own.timings.voter_removal_ms if derive.policy(config) == "degrade" else None,
        removal_ms=config.removal_ms,
        clock_bound_ms=config.clock_bound_ms,
        tables=config.tables,
        hung_query_ms=own.timings.hung_query_ms,
        hung_strikes=own.timings.hung_strikes,
    )
