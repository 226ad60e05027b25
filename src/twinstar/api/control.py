"""What the HTTP interface asks of the agent behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from twinstar.api.metrics import Metrics


class HealthRole(StrEnum):
    LEADER = "leader"
    """The register names this member, and its database runs as a primary for that epoch."""
    STANDBY = "standby"
    NONE = "none"
    """Neither at the moment: starting, sealed, rewinding, refused."""


@dataclass(frozen=True, slots=True)
class Health:
    """This member as a load balancer needs to know it. Made from what is known already, without asking anybody."""

    role: HealthRole
    state: str
    """A `MemberState` value."""
    epoch: int
    accepting: bool
    """The database accepts connections."""
    open: bool = False
    """A leader: its epoch is open to clients."""
    paused: bool = False
    lag_bytes: int | None = None
    """A standby: behind the leader; None when unknown."""
    streaming: bool = False
    """A standby: receives its leader's log."""
    store_reachable: bool = True
    stalled: bool = False
    """The agent's own loop has not got on for too long."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended. `message` is one sentence for a person; `details` is JSON."""

    ok: bool
    message: str
    details: dict[str, Any] = field(default_factory=dict)


class Control(Protocol):
    """Implemented by the agent. A command's failure is an `Outcome`; a TwinstarError becomes one at the border."""

    def health(self) -> Health: ...

    def status(self) -> dict[str, Any]:
        """`ClusterStatus.to_dict()`."""
        ...

    def history(self) -> list[dict[str, Any]]:
        """Every change of leader that is still recorded, oldest first."""
        ...

    def metrics(self) -> Metrics: ...

    async def switchover(self, to: str | None) -> Outcome: ...

    async def failover(self, to: str | None, accept_loss: bool) -> Outcome: ...

    async def pause(self) -> Outcome: ...

    async def resume(self) -> Outcome: ...

    async def restart(self, member: str) -> Outcome: ...

    async def reinit(self, member: str) -> Outcome: ...

    async def remove(self, member: str) -> Outcome: ...

    async def leave(self, member: str) -> Outcome:
        """Active-active: takes a member out in order."""
        ...

    async def rejoin(self, member: str) -> Outcome:
        """Active-active: has one that was taken out come back."""
        ...

    async def reload(self) -> Outcome: ...

    async def ready_to_migrate(self) -> Outcome:
        """Whether this agent would go along with the register to another store."""
        ...

    async def migrate(self, dry_run: bool) -> Outcome:
        """Moves the register to another store."""
        ...
