"""The built-in router: one process, one event loop, no thread or task per session once it is let through."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

from twinstar.model.address import Address
from twinstar.ports.clock import Clock
from twinstar.ports.transports import Listener, Transports
from twinstar.router.base import Ability, Counts, Role, RouterStatus
from twinstar.router.endpoint import Endpoint
from twinstar.router.messages import Cancel
from twinstar.router.opening import Opening
from twinstar.router.routes import Route
from twinstar.router.session import Session, Target
from twinstar.router.stream import Stream

DIAL_MS = 300.0
"""For a connection to a server; a dead machine answers nothing at all."""
ANY_DIAL_MS = 150.0
"""Where another server does as well."""
CANCEL_MS = 2_000.0
"""For a cancel request to be taken by its server."""
SURPLUS = 100
"""Clients above `max_sessions` that are still listened to: to be told why they are refused, or to cancel."""

_log = logging.getLogger(__name__)


class BuiltinRouter:
    """Implements `Router` and, for its sessions, `Desk`."""

    abilities = frozenset(Ability)

    def __init__(
        self,
        members: Mapping[str, Address],
        endpoints: Mapping[Role, tuple[Address, ...]],
        transports: Transports,
        clock: Clock,
        *,
        max_hold_ms: float,
        max_sessions: int,
        dial_ms: float = DIAL_MS,
    ) -> None:
        """`members`: where each one's database is reached. `endpoints`: where to listen for what. `dial_ms`: for a
        connection to a server."""
        self.clock = clock
        self.max_hold_ms = max_hold_ms
        self.encryption_seen = False
        self._members = members
        self._binds = endpoints
        self._transports = transports
        self._max_sessions = max_sessions
        self._dial_ms = dial_ms
        self._endpoints = {role: Endpoint(role) for role in endpoints}
        self._listeners: list[Listener] = []
        self._openings: dict[Session, asyncio.Task[bool]] = {}
        self._keys: dict[bytes, Session] = {}
        self._route = Route()
        self._change = asyncio.Event()
        self._counts = Counts()

    async def start(self) -> None:
        for role, binds in self._binds.items():
            for bind in binds:
                self._listeners.append(await self._transports.serve(bind, partial(self._accept, role)))

    def follow(self, route: Route) -> None:
        self._route = route
        self._counts.ended += sum(session.follow(route) for session in self._sessions())
        self._change.set()
        self._change = asyncio.Event()

    async def stop(self) -> None:
        for listener in self._listeners:
            listener.close()
        sessions = self._sessions()
        for session in sessions:
            session.end("the router is being stopped")
        await asyncio.gather(*self._openings.values(), return_exceptions=True)
        await asyncio.gather(*(session.client.over() for session in sessions))

    def status(self) -> RouterStatus:
        route = self._route
        return RouterStatus(
            epoch=route.epoch,
            open=route.why is None,
            why=route.why or "",
            write=route.write,
            read=route.read,
            any=route.any,
            sessions={role: dict(+endpoint.load) for role, endpoint in self._endpoints.items()},
            held={role: endpoint.held for role, endpoint in self._endpoints.items()},
            counts=replace(self._counts),
        )

    # What the opening of a session asks (`Desk`):

    def is_full(self) -> bool:
        return self._number > self._max_sessions

    def choose(self, session: Session, avoided: set[str], *, encrypted: bool) -> Target | None:
        opening = self._opening(session) if session.role is Role.ANY else Counter[str]()
        endpoint = self._endpoints[session.role]
        member = endpoint.choose(self._route, avoided, session, opening, encrypted=encrypted)
        if member is None:
            return None
        return Target(member, self._members[member], self._route.epoch, leads=member == self._route.write)

    def _opening(self, apart_from: Session) -> Counter[str]:
        """By member, the sessions of this endpoint that are on their way to it."""
        role = apart_from.role
        others = (each for each in self._openings if each is not apart_from and each.role is role and not each.joined)
        return Counter(each.target.member for each in others if each.target is not None)

    async def dial(self, target: Target) -> Stream | None:
        server = Stream()
        with suppress(OSError):  # TimeoutError is one
            async with self.clock.timeout_ms(self._dial_ms):
                await self._transports.connect(target.address, server)
                return server
        return None

    def next_change(self) -> Awaitable[object]:
        return self._change.wait()

    def why_held(self) -> str:
        return self._route.why or "the server does not accept connections"

    async def cancel(self, request: Cancel) -> None:
        """To the session's server. A key that nobody knows may belong to a session whose words cannot be read, or to
        another router's: then to every server there is; PostgreSQL ignores a key that is not its own.
        """
        self._counts.cancels += 1
        session = self._keys.get(request.key)
        if session is not None and session.target is not None:
            await self._cancel_at(session.target.address, request)
            return
        here = {member for endpoint in self._endpoints.values() for member in +endpoint.load}
        members = (here | {self._route.write, *self._route.read, *self._route.any}) & self._members.keys()
        await asyncio.gather(*(self._cancel_at(self._members[member], request) for member in members if member))

    # The lives of sessions:

    @property
    def _number(self) -> int:
        return sum(len(endpoint.sessions) for endpoint in self._endpoints.values())

    def _sessions(self) -> list[Session]:
        return [session for endpoint in self._endpoints.values() for session in endpoint.sessions]

    def _accept(self, role: Role) -> asyncio.Protocol:
        return Session(role, self).client

    def session_began(self, session: Session) -> None:
        self._endpoints[session.role].sessions[session] = None
        if self._number > self._max_sessions + SURPLUS:
            session.client.abort()
            return
        opening = asyncio.get_running_loop().create_task(Opening(session, self).run())
        self._openings[session] = opening
        opening.add_done_callback(partial(self._opened, session))

    def _opened(self, session: Session, opening: asyncio.Task[bool]) -> None:
        del self._openings[session]
        if opening.cancelled():
            session.client.abort()
        elif (error := opening.exception()) is not None:
            _log.error("a session could not be opened: please report this", exc_info=error)
            session.client.abort()
        else:
            self._counts.refused += opening.result()

    def session_joined(self, session: Session) -> None:
        self._endpoints[session.role].joined(session)
        self._counts.let_through += 1

    def session_has_key(self, session: Session, key: bytes) -> None:
        self._keys[key] = session

    def session_over(self, session: Session) -> None:
        self._endpoints[session.role].over(session)
        if session in self._openings:
            self._openings[session].cancel()
        key = session.conversation.key if session.conversation is not None else None
        if key is not None and self._keys.get(key) is session:
            del self._keys[key]

    async def _cancel_at(self, address: Address, request: Cancel) -> None:
        """A server closes the connection when it has done what it was asked to; only then the client may go on."""
        server = await self.dial(Target("", address, 0))
        if server is None:
            return
        server.transport.write(request.data)
        with suppress(TimeoutError):
            async with self.clock.timeout_ms(CANCEL_MS):
                await server.over()
        server.abort()
