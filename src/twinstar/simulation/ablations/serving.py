"""Ablations of who may see what: when an epoch opens, and what routers and databases do until then."""

from __future__ import annotations

from typing import Any

from twinstar.router.routes import Knowledge, Route, Why
from twinstar.simulation.ablations.swap import Ablation, Differs, Swap, altered, always, instead, skipped
from twinstar.simulation.plan import StoreKind

_OPENING = "Opening"


def _goes_on(original: Any, differs: Differs, session: Any, route: Route) -> bool:
    """Whoever is joined to a server stays there."""
    if session.joined and session.target is not None and session.target.epoch < route.epoch:
        differs()
        return False
    ended: bool = original(session, route)
    return ended


async def _lets_in(original: Any, differs: Differs, engine: Any, *args: Any, **named: Any) -> None:
    await original(engine, *args, **named)
    if not engine.admits:
        differs()
    engine.admits = True


def _any_epoch(original: Any, differs: Differs, known: Knowledge, epoch: int) -> Knowledge:
    if epoch < known.epoch:
        differs()
    return Knowledge(epoch=epoch, looked=known.looked) if epoch != known.epoch else known


def _any_voter(own: tuple[str, ...], register: Any, body: Any, maximum_lag_bytes: int) -> tuple[str, ...]:
    return tuple(sorted({a.member for a in body.primary.attachments if a.genuine})) if body.primary else ()


_ROUTER_GATE = Swap(
    "twinstar.router.routes:Knowledge._why_hold", altered(lambda own, *_: None if own is Why.NOT_OPEN else own)
)
_CLOSED = Swap("twinstar.simulation.database.server:VirtualServer.launch", instead(_lets_in))
_NO_STANDBY = Swap("twinstar.router.session:Session._on_standby", skipped())

SERVING = (
    Ablation(
        "opening gate",
        _OPENING,
        "an epoch is called open before a new leader's log is confirmed",
        (Swap("twinstar.rules.active_passive.steady:is_open", always(True)),),
        ("the leader first",),
    ),
    Ablation(
        "a router's epoch never goes back",
        _OPENING,
        "a router believes whoever spoke last of an epoch",
        (Swap("twinstar.router.routes:Knowledge._reaching", instead(_any_epoch)),),
        ("a former leader's clients",),
    ),
    Ablation(
        "the router's epoch check",
        _OPENING,
        "sessions of an older epoch go on",
        (Swap("twinstar.router.session:Session.follow", instead(_goes_on)),),
        ("a former leader's clients",),
    ),
    Ablation(
        "the router's opening gate",
        _OPENING,
        "a router lets clients through to a leader that has not opened its epoch",
        (_ROUTER_GATE,),
        ("the leader first",),
        partners=("a started database is closed",),
        covered="a database that was started is closed until its epoch is open",
    ),
    Ablation(
        "a started database is closed",
        _OPENING,
        "a database lets clients in before it follows or its epoch is open",
        (_CLOSED,),
        ("the leader first",),
        partners=("the router's opening gate", "no standby where a leader is expected"),
        covered="the router's opening gate, and its look whether a leader is a standby",
    ),
    Ablation(
        "no standby where a leader is expected",
        _OPENING,
        "a router leaves a session at a leader's database that is a standby now",
        (_NO_STANDBY,),
        ("the leader first",),
        partners=("a started database is closed",),
        covered="a database that was started is closed until it follows",
    ),
    Ablation(
        "readers are led to those who confirm",
        _OPENING,
        "readers are led to every standby that is attached, whatever epoch it is attached for",
        (Swap("twinstar.agent.telling:_readers", altered(_any_voter)),),
        ("a change in doubt", "a late change", "other confirmers"),
        voter_removal_ms=4_000,
        store=StoreKind.EMBEDDED,
    ),
)
