"""Active-active: hears what the nodes' agents say, notices when they say nothing, and tells a router.

Agents are greeted with `Hello` once a second, and every 20 ms while nobody is open; they answer with a `PeerStatement`,
and push one at each change and every 100 ms to whoever greeted them lately.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace

from twinstar.model.address import Address
from twinstar.model.starts import Starts
from twinstar.model.wire import Hello, Inbox, Part, PeerStatement, Sender
from twinstar.ports.clock import Clock
from twinstar.ports.network import Datagrams, Network
from twinstar.router.base import NodeStatus, RouterStatus
from twinstar.router.choosing import Nodes
from twinstar.router.routes import Route
from twinstar.router.watcher import ASK_HELD_MS, ASK_OPEN_MS

STALL_MS = 25.0
"""Waking up later than this is a stall of this process."""
LOOK_MS = 50.0
"""How often it looks at the time at least: a shorter stall makes nobody silent that speaks every 100 ms."""
_PAST_MS = 1.0
"""To look when the silence is over, not when it is just about to be."""

_log = logging.getLogger(__name__)


class NodeWatcher:
    def __init__(
        self,
        agents: Mapping[str, Address],
        sender: Sender,
        inbox: Inbox,
        clock: Clock,
        tell: Callable[[Route], None],
        *,
        max_lag_ms: float,
    ) -> None:
        """`agents`: where each member's agent hears; `tell` is called with each new route."""
        self._agents = dict(agents)
        self._members = frozenset(agents)
        self._sender = sender
        self._starts = Starts(sender, inbox, self._address_of, self._send, lambda _boot: True)
        self._datagrams: Datagrams | None = None
        self._clock = clock
        self._tell = tell
        self._nodes = Nodes(max_lag_ms)
        self._ran_ms = self._due_ms = clock.now_ms()
        """When this was last run, and when it means to look again: if it comes to that too late, it stood still."""
        self._route = Route()

    async def run(self, network: Network, bind: Address) -> None:
        """Goes on until cancelled. Raises EnvironmentTrouble when the port for notices is taken."""
        self._datagrams = datagrams = await network.open_datagrams(bind, self._hear)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._greet())
                tasks.create_task(self._look())
        finally:
            datagrams.close()

    def status(self, of_router: RouterStatus) -> RouterStatus:
        """With every node that was ever heard."""
        now = self._clock.now_ms()
        nodes = {
            member: NodeStatus(said.number, said.open, said.reason, said.lag_ms, said.epoch, round(now - word.at_ms, 1))
            for member, word in sorted(self._nodes.words.items())
            for said in (word.statement,)
        }
        return replace(of_router, nodes=nodes)

    async def _greet(self) -> None:
        hello_ms = 0.0
        while True:
            now = self._clock.now_ms()
            if self._route.why is not None or now - hello_ms >= ASK_OPEN_MS:
                hello_ms = now
                for agent in self._agents.values():
                    self._send(agent, self._sender.pack(Hello(0)))
            await self._clock.sleep_ms(ASK_HELD_MS if self._route.why is not None else ASK_OPEN_MS / 4)

    async def _look(self) -> None:
        """Wakes up when some silence may begin to mean something, and to know of its own stalls."""
        while True:
            now = self._clock.now_ms()
            wait_ms = min(LOOK_MS, self._nodes.next_change_ms(now) - now + _PAST_MS)
            self._due_ms = now + wait_ms
            await self._clock.sleep_ms(wait_ms)
            self._wake()
            self._follow()

    def _wake(self) -> None:
        """Before anything else, since a message may wake us as well as the time: standing still is nobody's silence."""
        now = self._clock.now_ms()
        if now - self._due_ms > STALL_MS:
            self._nodes = self._nodes.slept(now - self._ran_ms, now)
            self._due_ms = now
        self._ran_ms = now

    def _hear(self, data: bytes, _: Address) -> None:
        self._wake()
        now = self._clock.now_ms()
        envelope = self._starts.open(data, now)
        if envelope is None or envelope.part is not Part.AGENT or envelope.member not in self._members:
            return
        if isinstance(envelope.message, PeerStatement):
            self._nodes = self._nodes.saw(envelope.member, envelope.message, now)
            self._follow()

    def _follow(self) -> None:
        route = self._nodes.route(self._clock.now_ms(), self._members)
        if route == self._route:
            return
        if (route.any, route.ended) != (self._route.any, self._route.ended):
            closed = "; ".join(f"{member} is left out: {why}" for member, why in sorted(route.ended.items()))
            _log.info("open: %s%s", ", ".join(route.any) or "nobody", f"; {closed}" if closed else "")
        self._route = route
        self._tell(route)

    def _send(self, to: Address, data: bytes) -> None:
        if self._datagrams is not None:
            self._datagrams.send(to, data)

    def _address_of(self, member: str, part: Part) -> Address | None:
        return self._agents.get(member) if part is Part.AGENT else None
