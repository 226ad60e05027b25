"""Ablations of how a copy follows, is rewound or made anew; and of safeguards that cover for one another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twinstar.model.effects import Follow
from twinstar.model.errors import EngineError
from twinstar.model.register import Register
from twinstar.model.view import View
from twinstar.simulation.ablations.counting import TAG
from twinstar.simulation.ablations.swap import (
    Ablation,
    Differs,
    Swap,
    altered,
    always,
    instead,
    skipped,
    skipped_async,
)

_FOLLOWING = "Following, rewinding, rebuilding"
_BODY = "twinstar.agent.body:Body"
_RULES = "twinstar.rules.active_passive"


async def _attached_blindly(original: Any, differs: Differs, body: Any, effect: Follow) -> None:
    """Attaches to find out."""
    await body._end_promotion()
    position = await body._engine.detach()
    if position is None:
        raise EngineError("The database is not running.")
    if not (await body._engine.branch(effect.upstream)).contains(position):
        differs()
    body._promise(effect.upstream.epoch)
    await body._engine.follow(effect.upstream)


def _unpromised(original: Any, differs: Differs, body: Any, epoch: int) -> None:
    if body._memory.now.promise < epoch:
        differs()


def _content_without(original: Any, _differs: Differs, view: View, register: Register) -> Any:
    return original(replace(view, promise=max(view.promise, register.epoch)), register)


_BOUND = Swap(f"{_RULES}.local:bound", altered(lambda _own, view: view.promise))
_UNBOUND = Swap(f"{_RULES}.local:bound", always(0))
_PROMISE = Swap(f"{_BODY}._promise", instead(_unpromised))
_CONTENT = Swap(f"{_RULES}.following:_standby", instead(_content_without))
"""Otherwise a copy that has not promised attaches over and over again."""

FOLLOWING = (
    Ablation(
        "compare before attaching",
        _FOLLOWING,
        "a copy attaches to find out whether its log fits",
        (Swap(f"{_BODY}._follow", instead(_attached_blindly)),),
        ("a copy behind",),
    ),
    Ablation(
        "the log's last epoch binds",
        _FOLLOWING,
        "a copy is bound by its promise alone, not by the epoch of its log's last record",
        (_BOUND,),
        ("a sleeper", "one election after another"),
        members=5,
    ),
    Ablation(
        "promise on following",
        _FOLLOWING,
        "a copy attaches for an epoch without having promised it",
        (_PROMISE, _CONTENT),
        ("a sleeper", "a voter's disk"),
        members=5,
    ),
    Ablation(
        "tag and the log's last epoch",
        _FOLLOWING,
        "confirmations count for any epoch, and a copy is bound by its promise alone",
        (*TAG, _BOUND),
        ("a sleeper",),
        members=5,
    ),
    Ablation(
        "tag and promise on following",
        _FOLLOWING,
        "confirmations count for any epoch, and a copy attaches without a promise",
        (*TAG, _PROMISE, _CONTENT),
        ("a sleeper",),
        members=5,
    ),
    Ablation(
        "follow only what one is not bound above",
        _FOLLOWING,
        "a copy follows a leader of any epoch, whatever it has promised",
        (_UNBOUND, _PROMISE, _CONTENT),
        ("one election after another", "a sleeper"),
        members=5,
    ),
    Ablation(
        "careful rewind",
        _FOLLOWING,
        "an old copy is destroyed in place before others hold what the leader began with",
        (Swap(f"{_RULES}.following:_start_is_safe", always(True)),),
        ("a disk too early",),
    ),
    Ablation(
        "the register first after a lost disk",
        _FOLLOWING,
        "a copy is made anew without reading the register again and without a promise",
        (Swap("twinstar.agent.ledger:Ledger.confirm", skipped_async()), _PROMISE, _CONTENT),
        ("a voter's disk",),
        covered="an agent acts on nothing before it has read the register linearizably after its start",
    ),
    Ablation(
        "impostors are ended",
        _FOLLOWING,
        "who streams under a member's name without its slot is left alone",
        (Swap("twinstar.agent.watching:Watching._end_impostors", skipped()),),
        ("an impostor",),
    ),
)
