"""A cluster small enough to fit into one object: what an agent would say of it, and what its commands would change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from twinstar.api.client import Client
from twinstar.api.control import Health, HealthRole, Outcome
from twinstar.api.metrics import Metrics
from twinstar.api.server import Server
from twinstar.api.status import ClusterStatus, Endpoints, MemberState, MemberStatus, Role, StoreStatus
from twinstar.model.address import Address
from twinstar.model.errors import EnvironmentTrouble, StoreUnavailable
from twinstar.model.position import Position
from twinstar.model.register import Durability, Phase
from twinstar.ports.clock import SystemClock
from twinstar.ports.free_ports import find_free_ports
from twinstar.ports.system_network import SystemNetwork

TOKEN = "correct horse"


@dataclass
class SmallCluster:
    """Three members; commands move the leader, pause, and remove. `name` is the member whose agent is asked."""

    name: str = "n1"
    leader: str = "n1"
    members: list[str] = field(default_factory=lambda: ["n1", "n2", "n3"])
    epoch: int = 1
    paused: bool = False
    lag_bytes: int | None = 0
    accepting: bool = True
    streaming: bool = True
    stalled: bool = False
    store_reachable: bool = True
    changes: list[dict[str, Any]] = field(default_factory=list)

    def health(self) -> Health:
        leads = self.leader == self.name
        return Health(
            role=HealthRole.LEADER if leads else HealthRole.STANDBY,
            state="running" if leads else "streaming",
            epoch=self.epoch,
            accepting=self.accepting,
            open=True,
            paused=self.paused,
            lag_bytes=None if leads else self.lag_bytes,
            streaming=self.streaming and not leads,
            store_reachable=self.store_reachable,
            stalled=self.stalled,
        )

    def status(self) -> dict[str, Any]:
        return ClusterStatus(
            cluster="demo",
            strategy="active-passive",
            durability=Durability.QUORUM,
            epoch=self.epoch,
            phase=Phase.LEADING,
            leader=self.leader,
            required=1,
            copies=tuple(self.members),
            policy="block",
            paused=self.paused,
            open=True,
            store=StoreStatus("embedded", self.store_reachable),
            endpoints=Endpoints("postgresql://w", "postgresql://r"),
            members=tuple(self._member(name) for name in self.members),
        ).to_dict()

    def _member(self, name: str) -> MemberStatus:
        leads = name == self.leader
        return MemberStatus(
            name=name,
            dsn=f"postgresql://{name}",
            role=Role.LEADER if leads else Role.STANDBY,
            state=MemberState.RUNNING if leads else MemberState.STREAMING,
            host="127.0.0.1",
            port=5000,
            epoch=self.epoch,
            timeline=self.epoch,
            position=Position(self.epoch, 0x3000148),
        )

    def history(self) -> list[dict[str, Any]]:
        return self.changes

    def metrics(self) -> Metrics:
        return Metrics(leader=float(self.leader == self.name), epoch=self.epoch, elections_total=self.epoch - 1)

    async def switchover(self, to: str | None) -> Outcome:
        others = [name for name in self.members if name != self.leader]
        if not self.store_reachable:
            raise StoreUnavailable("The store does not answer: see to it first.")
        if to is not None and to not in others:
            return Outcome(False, f"{to} cannot take over: choose one of {', '.join(others)}.")
        self.changes.append({"from": self.leader, "to": to or others[0], "epoch": self.epoch + 1})
        self.leader, self.epoch = to or others[0], self.epoch + 1
        return Outcome(True, f"{self.leader} leads now.", {"epoch": self.epoch})

    async def failover(self, to: str | None, accept_loss: bool) -> Outcome:
        if not accept_loss:
            return Outcome(False, "Writes may be lost: add --accept-loss if you accept that.")
        return await self.switchover(to)

    async def pause(self) -> Outcome:
        self.paused = True
        return Outcome(True, "Paused.")

    async def resume(self) -> Outcome:
        self.paused = False
        return Outcome(True, "Resumed.")

    async def restart(self, member: str) -> Outcome:
        return self._known(member, f"{member} was restarted.")

    async def reinit(self, member: str) -> Outcome:
        if member == "n3":
            raise ZeroDivisionError("a fault of our own")
        return self._known(member, f"{member} is being rebuilt.")

    async def remove(self, member: str) -> Outcome:
        outcome = self._known(member, f"{member} is gone.")
        self.members = [name for name in self.members if name != member]
        return outcome

    async def leave(self, member: str) -> Outcome:
        return self._known(member, f"{member} has left.")

    async def rejoin(self, member: str) -> Outcome:
        return self._known(member, f"{member} is back.")

    async def reload(self) -> Outcome:
        return Outcome(True, "Nothing changed.", {"changes": []})

    async def ready_to_migrate(self) -> Outcome:
        return Outcome(False, "n1 has no `next_store`.")

    async def migrate(self, dry_run: bool) -> Outcome:
        return Outcome(not dry_run, "The register has moved.")

    def _known(self, member: str, message: str) -> Outcome:
        if member not in self.members:
            return Outcome(False, f"There is no member {member}: choose one of {', '.join(self.members)}.")
        return Outcome(True, message)

    def become(self, **changes: Any) -> None:
        self.__dict__.update(replace(self, **changes).__dict__)


@dataclass
class Served:
    cluster: SmallCluster
    server: Server
    address: Address
    client: Client
    token: str = TOKEN
    """Like the secret's file: may change while the server runs."""


@asynccontextmanager
async def served(host: str = "127.0.0.1") -> AsyncIterator[Served]:
    """The interface of a small cluster on a free port, with a client that has the token."""
    network, clock, cluster = SystemNetwork(), SystemClock(), SmallCluster()
    here: Served

    def token() -> str:
        if not here.token:
            raise EnvironmentTrouble("The secret /somewhere/api_token is missing.")
        return here.token

    server = Server(cluster, "demo", "n1", token, clock)
    address = Address(host, find_free_ports(host, 1)[0])
    here = Served(cluster, server, address, Client(network, clock, token=TOKEN))
    await server.start(network, address)
    try:
        yield here
    finally:
        await server.close()
