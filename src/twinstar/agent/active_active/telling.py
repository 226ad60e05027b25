"""What a node says of itself: to everybody (`PeerStatement`), and with what the others' rules look at (`Gossip`)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Protocol

from twinstar.agent.active_active.body import Body
from twinstar.agent.active_active.roster import Roster
from twinstar.agent.active_active.settings import NodeSettings
from twinstar.agent.active_active.verifying import Verifying
from twinstar.agent.active_active.voices import Voices, gossip_extra
from twinstar.engine.postgresql.multiwriter.node import NodeDatabase
from twinstar.model.wire import Gossip, PeerStatement
from twinstar.rules.active_active.plan import Plan, Said


class Node(Protocol):
    """What is told of."""

    body: Body
    roster: Roster
    voices: Voices
    verifying: Verifying
    plan: Plan
    database: NodeDatabase
    pid: int
    settings: NodeSettings
    waiting: tuple[str, ...]

    @property
    def open(self) -> bool: ...

    @property
    def note(self) -> str: ...

    @property
    def lag_ms(self) -> float: ...

    def said(self) -> Said: ...

    def read_now(self) -> frozenset[int]: ...


def statement(node: Node, database: str, wall_ms: int) -> PeerStatement:
    """`database`: where it is reached."""
    membership = node.roster.membership
    return PeerStatement(
        number=node.body.number,
        epoch=membership.epoch if membership else 0,
        open=node.open,
        reason="" if node.open else node.note or f"It is {node.plan.state.value}.",
        lag_ms=node.lag_ms,
        database=database,
        wall_us=wall_ms * 1_000,
    )


def gossip(node: Node) -> Gossip:
    state, membership = node.body.state, node.roster.membership
    run = node.database.server.run() or "0"
    lags = {str(number): round(node.body.appliers.told(number).lag_ms, 1) for number in sorted(node.read_now())}
    offsets = {m: (o.least_us + o.most_us) / 2_000 for m, o in node.voices.offsets().items()}
    more = {
        "open": node.open,
        "sessions": state.sessions if state else 0,
        "lags_ms": lags,
        "skews_ms": offsets,
        "dead_letters": state.dead_letters if state else 0,
        "conflicts": state.conflicts if state else 0,
        "restart_pending": [*(state.settings.restart_pending if state else ()), *node.waiting],
        "drift": list(state.settings.drift) if state else [],
        "shared": node.settings.shared,
        "equality": asdict(node.verifying.last) if node.verifying.last else None,
    }
    return Gossip(
        role="node",
        state=node.plan.state.value,
        epoch=membership.epoch if membership else 0,
        position="",
        replayed="",
        agent_pid=node.pid,
        engine_pid=int(run.partition(":")[0]),
        guard_pid=0,
        note=node.note,
        extra=gossip_extra(node.said(), node.body.landed(), state.applied if state else {}, more),
    )
