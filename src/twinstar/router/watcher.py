"""Finds out where clients may be sent, and tells a router: the register's watch on one side, agents on the other.

Agents are asked with `Hello`, at rest once a second, and every 20 ms while nobody is open: the answer to the last
question before an opening costs clients half of that on average, and an agent that pushes its news costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from twinstar.model.address import Address
from twinstar.model.errors import PeerError
from twinstar.model.register import KEY, Register
from twinstar.model.starts import Starts
from twinstar.model.wire import EpochNotice, Hello, Inbox, Part, Sender, Serving
from twinstar.ports.clock import Clock
from twinstar.ports.network import Datagrams, Network
from twinstar.router.base import RouterStatus
from twinstar.router.routes import START_MS, Knowledge, Route
from twinstar.store.base import Changed, Lost, Synced, WatchEvent

ASK_HELD_MS = 20.0
ASK_OPEN_MS = 1_000.0
REGISTER = KEY

_NOT_A_REGISTER = (ValueError, TypeError, LookupError, AttributeError)
"""What decoding raises for bytes that nobody of ours has written."""

_log = logging.getLogger(__name__)


class Watcher:
    def __init__(
        self,
        agents: Mapping[str, Address],
        sender: Sender,
        inbox: Inbox,
        clock: Clock,
        tell: Callable[[Route], None],
    ) -> None:
        """`agents`: where each member's agent hears; `tell` is called with each new route."""
        self._agents = dict(agents)
        self._members = frozenset(agents)
        self._sender = sender
        self._starts = Starts(sender, inbox, self._address_of, self._send, lambda _boot: True)
        self._datagrams: Datagrams | None = None
        self._clock = clock
        self._tell = tell
        self._known = Knowledge()
        self._route = Route()
        self._moved = asyncio.Event()
        self._lost = "the store has not answered yet"
        self._unreadable = ""

    def status(self, of_router: RouterStatus) -> RouterStatus:
        """With what is wrong with the store or the register in it."""
        return replace(of_router, store=self._lost or self._unreadable)

    async def run(self, network: Network, bind: Address, events: AsyncIterator[WatchEvent]) -> None:
        """Goes on until cancelled. Raises EnvironmentTrouble when the port for notices is taken."""
        self._datagrams = datagrams = await network.open_datagrams(bind, self._hear)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(events))
                tasks.create_task(self._ask())
        finally:
            datagrams.close()

    async def _watch(self, events: AsyncIterator[WatchEvent]) -> None:
        async for event in events:
            match event:
                case Changed(key, value) if key == REGISTER and value is not None:
                    self._read_register(value.value)
                case Lost(why):
                    self._lost = why
                case Synced():
                    self._lost = ""
                    self._learn(self._known.looked_at_store())
                case _:
                    continue

    def _read_register(self, value: bytes) -> None:
        """What cannot be read changes nothing: the router goes on with what it knows, and says so."""
        try:
            register = Register.decode(value)
        except (PeerError, *_NOT_A_REGISTER) as error:
            self._unreadable = (
                str(error) if isinstance(error, PeerError) else f"the register cannot be read ({error!r})"
            )
            _log.error("%s", self._unreadable)
        else:
            self._unreadable = ""
            self._learn(self._known.saw_register(register))

    def _hear(self, data: bytes, _: Address) -> None:
        envelope = self._starts.open(data, self._clock.now_ms())
        if envelope is None or envelope.part is not Part.AGENT:
            return
        match envelope.message:
            case Serving() as serving:
                self._learn(self._known.saw_serving(envelope.member, serving, self._clock.now_ms()))
            case EpochNotice() as notice:
                self._learn(self._known.saw_notice(notice))
            case _:
                return

    def _send(self, to: Address, data: bytes) -> None:
        if self._datagrams is not None:
            self._datagrams.send(to, data)

    def _address_of(self, member: str, part: Part) -> Address | None:
        return self._agents.get(member) if part is Part.AGENT else None

    async def _ask(self) -> None:
        wait_until_ms = self._clock.now_ms() + START_MS
        while True:
            hello = self._sender.pack(Hello(self._known.epoch))
            for agent in self._agents.values():
                self._send(agent, hello)
            with suppress(TimeoutError):
                async with self._clock.timeout_ms(ASK_HELD_MS if self._route.why else ASK_OPEN_MS):
                    await self._moved.wait()
            self._moved.clear()
            late = self._clock.now_ms() >= wait_until_ms
            self._learn(self._known.looked_at_store() if late else self._known)

    def _learn(self, known: Knowledge) -> None:
        self._known = known
        route = known.route(self._clock.now_ms(), self._members)
        if route != self._route:
            if route.epoch != self._route.epoch or route.why != self._route.why:
                _log.info("epoch %d: %s", route.epoch, route.why or f"{route.write} is open")
            self._route = route
            self._moved.set()
            self._tell(route)
