"""The other members as this one sees them: heartbeats, probes, votes, gossip.

Everything that arrives is authentic (`model.wire.Inbox`) before it counts. The verdict on silence is
`rules.detection`'s; this module feeds it, sends the direct probes that run in parallel with the waiting, and answers
the others. A probe asks the peer's agent by datagram and its database by a connection: either answer ends suspicion.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from twinstar.model.address import Address
from twinstar.model.starts import Starts
from twinstar.model.timing import Timings
from twinstar.model.view import Peer
from twinstar.model.wire import (
    Alive,
    Answer,
    Ask,
    EngineWord,
    Envelope,
    EpochNotice,
    Gossip,
    Heartbeat,
    Hello,
    Inbox,
    Message,
    Part,
    Probe,
    Sender,
    Serving,
    Told,
)
from twinstar.ports.clock import Clock
from twinstar.ports.network import Datagrams, Network
from twinstar.rules.detection import (
    Heard,
    LocalHealth,
    Missing,
    NeverHeard,
    PeerHistory,
    Signs,
    Silent,
    Verdict,
    no_sign_of_life,
    suspects,
)

log = logging.getLogger(__name__)

_ANSWER_FRESH_MS = 300
_ROUTER_FRESH_MS = 5_000
_PROBE_EVERY_MS = 40
_ASK_EVERY_MS = 20
_GOSSIP_NEW_MS = 1_500
"""A little longer than from one to the next."""
_GOSSIP_OLD_MS = 5_000

_QUIET, _SILENT, _NOT_OVERDUE = (Missing, Silent), (Silent, NeverHeard), (Heard, NeverHeard)
"""Verdicts; tuples, since each `|` would make a union anew a hundred times a second."""

DatabaseProbe = Callable[[Address], Awaitable[bool]]


@dataclass(slots=True)
class _Known:
    """What has come from one member."""

    history: PeerHistory
    heartbeat: Heartbeat | None = None
    heartbeat_at_ms: float = -1e12
    leading_at_ms: float = -1e12
    leading_epoch: int = 0
    alive_at_ms: float = -1e12
    alive: Alive | None = None
    probed_at_ms: float = -1e12
    database_at_ms: float = -1e12
    answer: Answer | None = None
    answer_at_ms: float = -1e12
    gossip: Gossip | None = None
    gossip_at_ms: float = -1e12
    deaf_since_ms: float = math.inf
    probes: set[asyncio.Task[None]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class PeerAddresses:
    agent: Address
    guard: Address
    database: Address | None
    """None: a witness, which has none."""


class Peers:
    """Opens with `open`; `on_news` is called when something came that may change a decision."""

    def __init__(
        self,
        me: str,
        cluster: str,
        secret: bytes,
        addresses: dict[str, PeerAddresses],
        timings: Timings,
        clock: Clock,
        network: Network,
        probe_database: DatabaseProbe,
        ever_heard: tuple[str, ...],
        boot: int,
        on_news: Callable[[], None],
        on_first_heard: Callable[[str], None],
        keep_start: Callable[[int], bool],
    ) -> None:
        """`keep_start` writes down another number of this start; False when it cannot."""
        self._me, self._addresses, self._timings = me, addresses, timings
        self._clock, self._network, self._probe_database = clock, network, probe_database
        self._on_news, self._on_first_heard, self._keep_start = on_news, on_first_heard, keep_start
        now = clock.now_ms()
        self.health = LocalHealth(timings, now)
        self._known = {m: _Known(PeerHistory(timings, now, m in ever_heard)) for m in addresses if m != me}
        self._sender = Sender(cluster, secret, me, Part.AGENT, boot)
        self._starts = Starts(self._sender, Inbox(cluster, secret), self._address_of, self._send_raw, self._start_as)
        self._datagrams: Datagrams | None = None
        self._routers: dict[Address, float] = {}
        self._asked_at_ms = -1e12
        self._epoch = 0
        self._leader = ""
        self._epoch_at_ms = now
        self.own_guard_at_ms = -1e12
        self.guard_pid = 0
        self.judge: Callable[[str, int], tuple[bool, bool]] = lambda _about, _epoch: (False, False)
        """Whether this member suspects the leader of an epoch, and whether it could seal now."""
        self.replication_moved_ms: Callable[[str], float] = lambda _member: -1e12
        """When, on the boot clock, log last arrived from a member."""
        self.serving: Callable[[], Serving | EpochNotice] = lambda: EpochNotice(0, "")

    async def open(self) -> None:
        """Binds the agent's datagram port. Raises EnvironmentTrouble."""
        self._datagrams = await self._network.open_datagrams(self._addresses[self._me].agent, self._receive)

    def attend(self, attentively: bool) -> None:
        """Whether each datagram wakes this process, or waits until `poll`."""
        if self._datagrams is not None:
            self._datagrams.attend(attentively)

    def poll(self) -> None:
        """Takes in what has arrived."""
        if self._datagrams is not None:
            self._datagrams.poll()

    def close(self) -> None:
        if self._datagrams is not None:
            self._datagrams.close()
        for known in self._known.values():
            for task in known.probes:
                task.cancel()

    # -- what is known ------------------------------------------------------------------------------------------------

    def epoch_is(self, epoch: int, leader: str, since_ms: float) -> None:
        """The register's epoch: what peers say is judged against it."""
        if (epoch, leader) != (self._epoch, self._leader):
            self._epoch, self._leader, self._epoch_at_ms = epoch, leader, since_ms

    def views(self) -> dict[str, Peer]:
        now = self._clock.now_ms()
        fresh = self.health.fresh_since_ms(now)
        verdicts = {m: k.history.verdict(now, fresh) for m, k in self._known.items()}
        views = {}
        for member, known in self._known.items():
            verdict = verdicts[member]
            silent = self._is_silent(member, known, verdicts, now)
            heartbeat = known.heartbeat
            answer = known.answer if now - known.answer_at_ms < _ANSWER_FRESH_MS else None
            relevant = answer if answer and (answer.about, answer.epoch) == (self._leader, self._epoch) else None
            alive = known.alive if known.alive_at_ms > self._epoch_at_ms else None
            gossip = self._gossip(known, verdict, now)
            views[member] = Peer(
                silent=silent,
                heard=isinstance(verdict, Heard) or (isinstance(verdict, _QUIET) and not silent),
                ever_heard=known.history.ever_heard,
                silent_for_ms=known.history.silent_ms(now, fresh) or 0.0,
                overdue=not isinstance(verdict, _NOT_OVERDUE),
                engine=heartbeat.engine if heartbeat else EngineWord.UNKNOWN,
                epoch=heartbeat.epoch if heartbeat else 0,
                leading=heartbeat.leading if heartbeat else False,
                agent_age_ms=heartbeat.agent_age_ms + (now - known.heartbeat_at_ms) if heartbeat else 1e12,
                not_leading_ms=self._not_leading_ms(known, now),
                hears_me=alive is not None and self._me in alive.hears,
                unheard=frozenset(gossip.extra.get("unheard", ())) if gossip else frozenset(),
                members=frozenset(gossip.extra.get("members", ())) if gossip else frozenset(),
                deaf_ms=max(0.0, now - max(known.deaf_since_ms, self._epoch_at_ms)) if gossip else 0.0,
                suspects=relevant.suspects if relevant else False,
                can_seal=relevant.can_seal if relevant else False,
                has_data=known.gossip.extra.get("has_data") if known.gossip else None,
                position=gossip.position if gossip else "",
                opened=gossip.extra.get("opened", 0) if gossip else 0,
            )
        return views

    def _is_silent(self, member: str, known: _Known, verdicts: dict[str, Verdict], now: float) -> bool:
        verdict = verdicts[member]
        if not isinstance(verdict, _SILENT):
            return False
        signs = Signs(
            probe_answered_ms=now - max(known.alive_at_ms, known.database_at_ms),
            replication_moved_ms=now - self.replication_moved_ms(member),
        )
        if isinstance(verdict, NeverHeard):
            return no_sign_of_life(signs, self._timings)
        # A witness that is gone as well is nobody whom one would have to hear.
        others = {m: v for m, v in verdicts.items() if self._addresses[m].database or isinstance(v, Heard | Missing)}
        return suspects(member, {**others, member: verdict}, signs, self._timings)

    def _not_leading_ms(self, known: _Known, now: float) -> float:
        """For how long its guard has been saying that it does not lead the epoch it was named for."""
        heartbeat = known.heartbeat
        if heartbeat is None or now - known.heartbeat_at_ms > self._timings.suspicion_ms:
            return 0.0
        if heartbeat.epoch == 0 and heartbeat.agent_age_ms > self._timings.suspicion_ms:
            return 0.0  # a guard that has just started, and knows nothing yet
        led_at = known.leading_at_ms if known.leading_epoch == self._epoch else -1e12
        return max(0.0, now - max(led_at, self._epoch_at_ms))

    def next_change_ms(self) -> float:
        """When, on the boot clock, some peer's silence may begin to mean something; `inf` when all are long silent."""
        now = self._clock.now_ms()
        fresh = self.health.fresh_since_ms(now)
        return min((k.history.next_change_ms(now, fresh) for k in self._known.values()), default=math.inf)

    def gossip(self, member: str) -> Gossip | None:
        """What a member last said of itself; None when that is old, or when it is no longer new and its guard is silent
        or says that the agent is.
        """
        known, now = self._known.get(member), self._clock.now_ms()
        if known is None:
            return None
        return self._gossip(known, known.history.verdict(now, self.health.fresh_since_ms(now)), now)

    @staticmethod
    def _gossip(known: _Known, verdict: Verdict, now: float) -> Gossip | None:
        silent = isinstance(verdict, Silent)
        stuck = known.heartbeat is not None and known.heartbeat.agent_age_ms > _GOSSIP_NEW_MS
        bound_ms = _GOSSIP_NEW_MS if silent or stuck else _GOSSIP_OLD_MS
        return known.gossip if now - known.gossip_at_ms <= bound_ms else None

    @property
    def members(self) -> tuple[str, ...]:
        """Those that this agent was told of when it started."""
        return tuple(sorted(self._addresses))

    def hears(self) -> tuple[str, ...]:
        now = self._clock.now_ms()
        fresh = self.health.fresh_since_ms(now)
        return tuple(m for m, k in self._known.items() if isinstance(k.history.verdict(now, fresh), Heard))

    # -- sending ------------------------------------------------------------------------------------------------------

    def tell_guard(self, told: Told) -> None:
        self._send(self._addresses[self._me].guard, told)

    def tell_agents(self, message: Message) -> None:
        for member in self._known:
            self._send(self._addresses[member].agent, message)

    def tell_guards(self, notice: EpochNotice) -> None:
        for member in self._addresses:
            self._send(self._addresses[member].guard, notice)

    def tell_routers(self) -> None:
        """Pushes what is served to every router that asked lately."""
        now = self._clock.now_ms()
        self._routers = {a: t for a, t in self._routers.items() if now - t < _ROUTER_FRESH_MS}
        for address in self._routers:
            self._send(address, self.serving())

    def ask(self, about: str, epoch: int, voters: frozenset[str]) -> None:
        """Asks the other voters about a leader, at a bounded pace."""
        now = self._clock.now_ms()
        if now - self._asked_at_ms < _ASK_EVERY_MS:
            return
        self._asked_at_ms = now
        for member in sorted(voters - {self._me, about}):
            if member in self._known:
                self._send(self._addresses[member].agent, Ask(about, epoch))

    def probe(self, members: frozenset[str]) -> None:
        """Asks these members' agents and databases directly whether they are there, at a bounded pace."""
        now = self._clock.now_ms()
        for member in sorted(members & self._known.keys()):
            known = self._known[member]
            if now - known.probed_at_ms < _PROBE_EVERY_MS:
                continue
            known.probed_at_ms = now
            self._send(self._addresses[member].agent, Probe(int(now)))
            if len(known.probes) < 3:
                task = asyncio.create_task(self._ask_database(member, known), name=f"probe {member}")
                known.probes.add(task)
                task.add_done_callback(known.probes.discard)

    async def _ask_database(self, member: str, known: _Known) -> None:
        database = self._addresses[member].database
        if database is not None and await self._probe_database(database):
            known.database_at_ms = self._clock.now_ms()

    def _send(self, to: Address, message: Message) -> None:
        self._send_raw(to, self._sender.pack(message))

    def _send_raw(self, to: Address, data: bytes) -> None:
        if self._datagrams is not None:
            self._datagrams.send(to, data)

    def _address_of(self, member: str, part: Part) -> Address | None:
        addresses = self._addresses.get(member)
        return {Part.AGENT: addresses.agent, Part.GUARD: addresses.guard}.get(part) if addresses else None

    def _start_as(self, boot: int) -> bool:
        if not self._keep_start(boot):
            return False
        log.warning("others know a later start of this agent, so its clock is behind: it goes on as start %d", boot)
        return True

    # -- receiving ----------------------------------------------------------------------------------------------------

    def _receive(self, data: bytes, source: Address) -> None:
        now = self._clock.now_ms()
        self.health.woke(now)
        envelope = self._starts.open(data, now)
        if envelope is None:
            return
        if envelope.part is Part.ROUTER:
            if isinstance(envelope.message, Hello):
                self._routers[source] = self._clock.now_ms()
                self._send(source, self.serving())
            return
        if envelope.member == self._me:
            if isinstance(envelope.message, Heartbeat):
                self.own_guard_at_ms, self.guard_pid = self._clock.now_ms(), envelope.message.pid
            return
        known = self._known.get(envelope.member)
        if known is not None:
            self._take(envelope, known, source)

    def _take(self, envelope: Envelope, known: _Known, source: Address) -> None:
        age_ms = self._datagrams.age_ms if self._datagrams else 0.0
        now, message = self._clock.now_ms() - age_ms, envelope.message
        self._heard_once(envelope.member)
        match message:
            case Heartbeat():
                self._heartbeat(known, message, now)
            case Probe(token):
                self._send(source, Alive(token, self._epoch, self.hears()))
            case Alive():
                known.alive, known.alive_at_ms = message, now
                self._on_news()
            case Ask(about, epoch):
                self._send(source, self._vote(about, epoch))
            case Answer():
                known.answer, known.answer_at_ms = message, now
                self._on_news()
            case Gossip():
                for member in message.extra.get("heard", ()):
                    self._heard_once(member)
                deaf = self._me in message.extra.get("unheard", ())
                known.deaf_since_ms = min(known.deaf_since_ms, now) if deaf else math.inf
                news = known.gossip is None or known.gossip.extra != message.extra
                known.gossip, known.gossip_at_ms = message, now
                if news:
                    self._on_news()
            case _:
                pass

    def _heard_once(self, member: str) -> None:
        """This member, or another one, has heard `member` at some time: it exists, so its silence is one."""
        known = self._known.get(member)
        if known is not None and not known.history.ever_heard:
            known.history.ever_heard = True
            self._on_first_heard(member)

    def _heartbeat(self, known: _Known, heartbeat: Heartbeat, now: float) -> None:
        before = known.heartbeat
        was_missing = not isinstance(known.history.verdict(now, self.health.fresh_since_ms(now)), Heard)
        known.history.heard(now, self.health.fresh_since_ms(now))
        known.heartbeat, known.heartbeat_at_ms = heartbeat, now
        if heartbeat.leading and heartbeat.engine is EngineWord.RUNNING:
            known.leading_at_ms, known.leading_epoch = now, heartbeat.epoch
        if was_missing or before is None or (before.engine, before.epoch) != (heartbeat.engine, heartbeat.epoch):
            self._on_news()

    def _vote(self, about: str, epoch: int) -> Answer:
        accuses, can_seal = self.judge(about, epoch)
        return Answer(about, epoch, accuses, can_seal)
