"""What the nodes' agents say to each other and to routers, and what is heard of them.

Each agent makes its statement (`PeerStatement`) to the other agents and to the routers that have said `Hello`: at each
change and every `STATEMENT_MS`. With it goes, less often, what the rules of life look at (`Gossip`): slots, positions.
Clocks are measured by probes that carry the asker's own clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from twinstar.model.address import Address
from twinstar.model.starts import Starts
from twinstar.model.wire import Envelope, Gossip, Hello, Inbox, Message, Part, PeerStatement, Probe, Sender
from twinstar.ports.clock import Clock
from twinstar.ports.network import Datagrams, Network
from twinstar.rules.active_active.plan import Said
from twinstar.rules.active_active.skew import Offset, measured

STATEMENT_MS = 100.0
GOSSIP_MS = 1_000.0
_HEARD_MS = 1_000.0
"""A member counts as heard for so long after its last statement. Routers are stricter; nothing but joining, leaving and
declaring dead rests on this."""
_GOSSIP_FRESH_MS = 3_500.0
_ROUTER_FRESH_MS = 5_000.0
_OFFSET_FRESH_MS = 60_000.0

Positions = Literal["applied", "landed", "durable"]
"""Of each sender's log, up to where a node has it for good, be it in its spool; has applied it; and has it in the
database in a way that a copy of that would know, which lags behind.
"""


@dataclass(slots=True)
class _Voice:
    """Of one other member."""

    since_ms: float
    statement: PeerStatement | None = None
    at_ms: float = -1e12
    gossip: Gossip | None = None
    gossip_at_ms: float = -1e12
    offset: Offset | None = None
    offset_at_ms: float = -1e12
    boot: int = 0
    """Which start of its agent said all this."""


@dataclass
class Voices:
    """Opens with `open`. `on_news` is called when somebody's statement or gossip says something new."""

    me: str
    addresses: Mapping[str, Address]
    """Where each member's agent hears, this one included."""
    clock: Clock
    sender: Sender
    inbox: Inbox
    keep_start: Callable[[int], bool]
    statement: Callable[[], PeerStatement]
    on_news: Callable[[], None]
    _datagrams: Datagrams | None = None
    _routers: dict[Address, float] = field(default_factory=dict)
    _voices: dict[str, _Voice] = field(default_factory=dict)

    def __post_init__(self) -> None:
        now = self.clock.now_ms()
        self._voices = {member: _Voice(now) for member in self.addresses if member != self.me}
        self._starts = Starts(self.sender, self.inbox, self._address_of, self._send_raw, self.keep_start)

    async def open(self, network: Network) -> None:
        """Raises EnvironmentTrouble when the port is taken."""
        self._datagrams = await network.open_datagrams(self.addresses[self.me], self._receive)

    def close(self) -> None:
        if self._datagrams is not None:
            self._datagrams.close()

    # -- what is heard -------------------------------------------------------------------------------------------------

    def said(
        self, since_ms: float = -1e12, positions: Positions = "applied", now_ms: float | None = None
    ) -> dict[str, Said]:
        """Of the members whose agents are heard now, without this one; what they said before `since_ms` left out.

        `now_ms`: for several questions that must be about the same members.
        """
        now = self.clock.now_ms() if now_ms is None else now_ms
        since_ms = max(since_ms, now - _GOSSIP_FRESH_MS)
        return {
            member: _said(voice.gossip, positions) if voice.gossip and voice.gossip_at_ms >= since_ms else Said(0)
            for member, voice in self._voices.items()
            if now - voice.at_ms < _HEARD_MS
        }

    def silent_ms(self) -> dict[str, float]:
        """Since when each other member is not heard; since this agent's start, when it never was."""
        now = self.clock.now_ms()
        return {member: now - max(voice.at_ms, voice.since_ms) for member, voice in self._voices.items()}

    def gossip(self, member: str) -> Gossip | None:
        """What a member last said of itself, unless that is old, or its agent is not heard any more."""
        voice, now = self._voices[member], self.clock.now_ms()
        heard = now - voice.at_ms < _HEARD_MS
        return voice.gossip if heard and now - voice.gossip_at_ms < _GOSSIP_FRESH_MS else None

    def heard_statement(self, member: str) -> PeerStatement | None:
        voice, now = self._voices[member], self.clock.now_ms()
        return voice.statement if now - voice.at_ms < _HEARD_MS else None

    def offsets(self) -> dict[str, Offset]:
        """How far each other member's clock is from this one's, where that was measured lately."""
        now = self.clock.now_ms()
        return {
            member: voice.offset
            for member, voice in self._voices.items()
            if voice.offset is not None and now - voice.offset_at_ms < _OFFSET_FRESH_MS
        }

    # -- what is said --------------------------------------------------------------------------------------------------

    def state(self) -> None:
        """Says this node's statement to all who listen."""
        data = self.sender.pack(self.statement())
        now = self.clock.now_ms()
        self._routers = {to: at for to, at in self._routers.items() if now - at < _ROUTER_FRESH_MS}
        for member in self._voices:
            self._send_raw(self.addresses[member], data)
        for router in self._routers:
            self._send_raw(router, data)

    def tell_agents(self, gossip: Gossip) -> None:
        self._to_agents(gossip)

    def ask_clocks(self) -> None:
        """The answers are `offsets`."""
        self._to_agents(Probe(self._wall_us()))

    def _to_agents(self, message: Message) -> None:
        data = self.sender.pack(message)
        for member in self._voices:
            self._send_raw(self.addresses[member], data)

    def _receive(self, data: bytes, source: Address) -> None:
        envelope = self._starts.open(data, self.clock.now_ms())
        if envelope is not None:
            self._take(envelope, source)

    def _take(self, envelope: Envelope, source: Address) -> None:
        now = self.clock.now_ms()
        match envelope.message:
            case Hello():
                new = source not in self._routers
                self._routers[source] = now
                if new:
                    self._send_raw(source, self.sender.pack(self.statement()))
            case Probe(token) if envelope.member in self._voices:
                answer = self.statement()
                self._send_raw(source, self.sender.pack(_answering(answer, token, self._wall_us())))
            case PeerStatement() as statement if (voice := self._voices.get(envelope.member)) is not None:
                news = voice.statement is None or _meaning(statement) != _meaning(voice.statement)
                if envelope.boot != voice.boot:
                    voice.gossip, voice.boot = None, envelope.boot  # An earlier start's says nothing of this one.
                voice.statement, voice.at_ms = statement, now
                if statement.answers:
                    voice.offset = measured(statement.answers, statement.wall_us, self._wall_us())
                    voice.offset_at_ms = now
                if news:
                    self.on_news()
            case Gossip() as gossip if (voice := self._voices.get(envelope.member)) is not None:
                voice.gossip, voice.gossip_at_ms = gossip, now
                self.on_news()
            case _:
                return

    def _wall_us(self) -> int:
        return self.clock.wall_ms() * 1_000

    def _send_raw(self, to: Address, data: bytes) -> None:
        if self._datagrams is not None:
            self._datagrams.send(to, data)

    def _address_of(self, member: str, part: Part) -> Address | None:
        return self.addresses.get(member) if part is Part.AGENT else None


def gossip_extra(
    said: Said, landed: Mapping[int, int], durable: Mapping[int, int], more: Mapping[str, Any]
) -> dict[str, Any]:
    """`Gossip.extra` of a node; JSON has no numbers for keys."""
    return {
        "number": said.number,
        "slots": {str(number): position for number, position in said.slots.items()},
        "applied": {str(number): position for number, position in said.applied.items()},
        "landed": {str(number): position for number, position in landed.items()},
        "durable": {str(number): position for number, position in durable.items()},
        "end": said.end,
        **more,
    }


def _said(gossip: Gossip, positions: Positions) -> Said:
    extra = gossip.extra
    applied = extra.get(positions, {})
    return Said(
        int(extra.get("number", 0)),
        {int(number): int(position) for number, position in extra.get("slots", {}).items()},
        {int(number): int(position) for number, position in applied.items()},
        int(extra.get("end", 0)),
    )


def _meaning(statement: PeerStatement) -> tuple[object, ...]:
    return statement.number, statement.epoch, statement.open, statement.reason


def _answering(statement: PeerStatement, token: int, wall_us: int) -> PeerStatement:
    return replace(statement, answers=token, wall_us=wall_us)
