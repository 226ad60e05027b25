"""What a router must do, so that HAProxy, PgBouncer and others can stand where the built-in one does.

`Watcher` finds out where clients may be sent and tells the router, which does what its kind of machinery can:

* sends new sessions of the `write` endpoint to `route.write`, those of `read` to one of `route.read`;
* holds new sessions while there is no such server, or refuses them when it cannot hold: never to any other server;
* sends those of `any` (active-active) to the one of `route.any` that has the fewest;
* ends every session of an epoch lower than `route.epoch`, on all endpoints, before it forwards for the new one, every
  `read` session on a server of `route.left_out`, and every session on one of `route.ended`;
* reaches servers over TCP by the member's own address, never by a Unix socket, so that a client who came over the
  network is authenticated as one. Whatever a server's `pg_hba.conf` grants to the router's machine (`trust` above all)
  is granted to everybody who reaches the router: Twinstar's own asks for SCRAM on every TCP connection.

Every router passes `tests/router/conformance.py`, as far as its `abilities` go.

Exit statuses of `python -m twinstar.router`: 0 after SIGTERM or SIGINT, once every session has been ended; 1 when
something it needs is missing (a port is taken, …), with one sentence on standard error; 2 when the configuration or a
secret is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Protocol

from twinstar.router.routes import Route


class Role(StrEnum):
    """What an endpoint is for."""

    WRITE = "write"
    READ = "read"
    ANY = "any"
    """Active-active: reads and writes, on whichever node."""


class Ability(StrEnum):
    """What only some routers can do; the conformance suite asks for the rest of all."""

    HOLD = "hold"
    """New sessions wait while nobody is open."""
    CANCEL = "cancel"
    """A cancel request reaches the server of its session."""


@dataclass(slots=True)
class Counts:
    """What has become of clients since the router's start."""

    let_through: int = 0
    refused: int = 0
    """Told that they cannot be served now."""
    ended: int = 0
    """Because their epoch or their server was over."""
    cancels: int = 0


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """Active-active: what a node's agent last said."""

    number: int
    open: bool
    reason: str
    lag_ms: float
    epoch: int
    heard_ms: float
    """How long ago that was."""


@dataclass(frozen=True, slots=True)
class RouterStatus:
    """What a router is doing now."""

    epoch: int
    open: bool
    """New sessions are let through."""
    why: str
    """Why they are not; empty when they are."""
    write: str | None
    read: tuple[str, ...]
    any: tuple[str, ...] = ()
    """Active-active: the nodes that are open."""
    nodes: Mapping[str, NodeStatus] = field(default_factory=dict)
    """Active-active: every node that was ever heard."""
    store: str = ""
    """What is wrong with the contact to the store; empty when nothing is."""
    sessions: Mapping[Role, Mapping[str, int]] = field(default_factory=dict)
    """By endpoint and member."""
    held: Mapping[Role, int] = field(default_factory=dict)
    """Clients that have no server yet."""
    counts: Counts = field(default_factory=Counts)

    def encode(self) -> bytes:
        """JSON, in one line."""
        return json.dumps(asdict(self)).encode() + b"\n"


class Router(Protocol):
    @property
    def abilities(self) -> frozenset[Ability]: ...

    async def start(self) -> None:
        """Opens the endpoints; everybody is held until a route is known. Raises EnvironmentTrouble."""
        ...

    def follow(self, route: Route) -> None:
        """Does what `route` says from now on, at once."""
        ...

    def status(self) -> RouterStatus: ...

    async def stop(self) -> None:
        """Accepts nobody any more, ends every session and leaves nothing behind."""
        ...
