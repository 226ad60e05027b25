"""From a client's first byte to the moment it is joined to a server, or is told why not.

The client's first message is read and kept, a server is chosen, dialled and asked, and only when that has begun to
answer is the client joined to it. Until then a server that refuses, goes away, says that it is starting or stopping
(57P03) or lets no clients in yet (28000) is as good as none: the client is held and another is tried, for at most
`max_hold_ms`.

Encryption is between client and server (`passthrough`): its request is put to a server, and after a yes the router is
blind. Whoever is refused while asking for encryption is answered *no* where no server of this cluster has ever said
yes, since then a client with ``sslmode=prefer`` goes on in the clear and can be told why; otherwise with the error
itself, which libpq shows as "server sent an error response during SSL exchange".
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from typing import Protocol

from twinstar.ports.clock import Clock
from twinstar.router.messages import (
    Cancel,
    DirectTls,
    EncryptionRequest,
    First,
    Malformed,
    Startup,
    error_response,
    parse_first,
    sqlstate_of,
)
from twinstar.router.session import Session, Target
from twinstar.router.stream import Stream

FIRST_MESSAGE_MS = 10_000.0
"""How long a client may say nothing: load balancers that only look whether the port is open are let go."""
ANSWER_MS = 5_000.0
"""How long a server may take to begin its answer, where `max_hold_ms` is less."""
RETRY_MS = 20.0
"""Between two attempts while the same server is chosen again."""
CANNOT_CONNECT_NOW = "57P03"
TOO_MANY_CONNECTIONS = "53300"
NOT_LET_IN = "28000"


class Desk(Protocol):
    """What the opening of a session asks of its router."""

    clock: Clock
    max_hold_ms: float
    encryption_seen: bool
    """Some server has agreed to encrypt."""

    def is_full(self) -> bool: ...
    def choose(self, session: Session, avoided: set[str], *, encrypted: bool) -> Target | None:
        """The server for a session, none of those to be `avoided`; None: there is none now."""
        ...

    async def dial(self, target: Target) -> Stream | None:
        """A connection to it, None when it cannot be had."""
        ...

    def next_change(self) -> Awaitable[object]:
        """Awaits the next change of the route."""
        ...

    def why_held(self) -> str: ...
    async def cancel(self, request: Cancel) -> None: ...


class Refused(Exception):
    """The client is not let through, for this reason."""

    def __init__(self, sqlstate: str, sentence: str, hint: str) -> None:
        super().__init__(sentence)
        self.answer = error_response(sqlstate, sentence, hint)


class Opening:
    def __init__(self, session: Session, desk: Desk) -> None:
        self._session = session
        self._client = session.client
        self._desk = desk
        self._clock = desk.clock
        self._hold_until_ms = desk.clock.now_ms() + desk.max_hold_ms
        self._avoided: set[str] = set()
        self._rejection = b""

    async def run(self) -> bool:
        """Whether the client was refused. It is for the caller to cancel this when the client goes away."""
        with suppress(TimeoutError, ConnectionError):  # of the client: it said nothing, or is gone
            while True:
                first = await self._first_message()
                try:
                    if await self._step(first):
                        return False
                except Refused as refused:
                    await self._refuse(first, refused)
                    return True
        self._client.abort()
        return False

    async def _first_message(self) -> First:
        async with self._clock.timeout_ms(FIRST_MESSAGE_MS):
            while (first := parse_first(self._client.kept)) is None:
                await self._client.more()
        del self._client.kept[: len(first.data)]
        return first

    async def _step(self, first: First) -> bool:
        """One message of the client's; True when no further one is for the router."""
        match first:
            case Cancel():
                await self._desk.cancel(first)
                self._client.transport.close()
                return True
            case Startup():
                self._session.join(await self._answering(first), encrypted=False)
                return True
            case DirectTls():
                self._session.join(await self._connected(encrypted=True), encrypted=True)
                return True
            case EncryptionRequest() if not self._client.kept:
                return await self._negotiate(first)
            case EncryptionRequest() | Malformed():  # something in the clear behind a request for encryption
                raise ConnectionResetError

    async def _negotiate(self, request: EncryptionRequest) -> bool:
        server = await self._answering(request)
        if server.kept == b"N":
            server.kept.clear()
            self._client.transport.write(b"N")
            return False
        self._desk.encryption_seen |= server.kept[:1] == b"S"
        self._session.join(server, encrypted=True)
        return True

    async def _answering(self, question: Startup | EncryptionRequest) -> Stream:
        """A server that was sent the question and has begun to answer. Raises Refused."""
        encrypted = isinstance(question, EncryptionRequest)
        try:
            async with self._clock.timeout_ms(max(self._hold_left_ms(), ANSWER_MS)):
                while True:
                    server = await self._connected(encrypted=encrypted)
                    server.transport.write(question.data)
                    with suppress(ConnectionError):
                        await server.more()
                        still_its_own = self._session.server is server  # no newer epoch has begun since it answered
                        if still_its_own and not self._is_no(server):
                            return server
                    await self._try_another()
        except TimeoutError:
            raise self._held_for_too_long() from None

    def _is_no(self, server: Stream) -> bool:
        """It does not let clients in now: it starts or stops, or neither follows nor leads yet. What it says to the
        latter may be meant for this client alone, so that is what the client hears in the end.
        """
        sqlstate = sqlstate_of(server.kept)
        rejected = sqlstate == NOT_LET_IN and b"rejects connection" in server.kept
        self._rejection = bytes(server.kept) if rejected else b""
        return rejected or sqlstate == CANNOT_CONNECT_NOW

    async def _connected(self, *, encrypted: bool) -> Stream:
        """The session's server, a newly dialled one if it has none. Raises Refused."""
        session = self._session
        while session.server is None or session.server.ended:
            if self._desk.is_full():
                raise Refused(TOO_MANY_CONNECTIONS, "the router has too many sessions", "Close some, or connect later.")
            session.target = self._desk.choose(session, self._avoided, encrypted=encrypted)
            if session.target is None:
                await self._wait_for_route()
                continue
            target = session.target
            server = await self._desk.dial(target)
            if session.target is not target:  # the route has moved meanwhile
                _give_up(server)
            elif server is None:
                await self._try_another()
            else:
                session.server = server
        return session.server

    async def _try_another(self) -> None:
        """This one failed. While there is none that has not, the same ones are tried again after a moment."""
        session = self._session
        if session.target is not None:
            self._avoided.add(session.target.member)
        session.leave_server()
        if self._desk.choose(session, self._avoided, encrypted=False) is None:
            self._avoided.clear()
            if self._hold_left_ms() <= 0:
                raise self._held_for_too_long()
            await self._clock.sleep_ms(RETRY_MS)

    async def _wait_for_route(self) -> None:
        try:
            async with self._clock.timeout_ms(self._hold_left_ms()):
                await self._desk.next_change()
        except TimeoutError:
            raise self._held_for_too_long() from None

    def _hold_left_ms(self) -> float:
        return max(0.0, self._hold_until_ms - self._clock.now_ms())

    def _held_for_too_long(self) -> Refused:
        refused = Refused(
            CANNOT_CONNECT_NOW,
            f"no database could be reached for {self._desk.max_hold_ms:.0f} ms: {self._desk.why_held()}",
            "Connect again; `twinstar status` shows what the cluster waits for.",
        )
        refused.answer = self._rejection or refused.answer
        return refused

    async def _refuse(self, first: First, refused: Refused) -> None:
        self._session.leave_server()
        while isinstance(first, EncryptionRequest) and not self._desk.encryption_seen:
            self._client.transport.write(b"N")
            first = await self._first_message()
        if isinstance(first, Startup | EncryptionRequest):
            self._client.transport.write(refused.answer)
        self._client.transport.close()


def _give_up(server: Stream | None) -> None:
    if server is not None:
        server.abort()
