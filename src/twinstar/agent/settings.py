"""What one agent needs to know of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from twinstar.agent.peers import PeerAddresses
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
