"""Ablations of how a copy follows, is rewound or made anew; and of safeguards that cover for one another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twinstar.model.effects import Follow, Plan
from twinstar.model.errors import EngineError
from twinstar.model.register import Register
from twinstar.model.view import View
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
from twinstar.simulation.plan import StoreKind

_FOLLOWING = "Following, rewinding, rebuilding"
_BODY = "twinstar.agent.body:Body"
_RULES = "twinstar.rules.active_passive"


async def _attached_blindly(original: Any, differs: Differs, body: Any, effect: Follow) -> None:
    """Attaches to find out."""
    await body._end_what_goes_on()
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


def _lags_behind(original: Any, differs: Differs, server: Any, prefix: str, inbox: Any) -> Any:
    """Whoever asks is told of the last version before the present epoch: by a server that lags behind."""
    standing, revision = original(server, prefix, inbox)
    versions = [each.value for each in server.history if each.key.endswith("/register")]
    epochs = [Register.decode(each.value).epoch for each in versions]
    older = [each for each, epoch in zip(versions, epochs, strict=True) if 0 < epoch < epochs[-1]]
    if older:
        differs()
        standing = [older[-1] if each.key == older[-1].key else each for each in standing]
    return standing, revision


def _not_by_the_log(own: Plan | None, view: View) -> Plan | None:
    """Whether the store has gone back is seen by the promise alone."""
    register = view.register
    by_the_log = own is not None and own.engine is None and register is not None and view.promise <= register.epoch
    return None if by_the_log else own


_BOUND = (
    Swap(f"{_RULES}.local:bound", altered(lambda _own, view: view.promise)),
    Swap(f"{_RULES}.refusal:refusal", altered(_not_by_the_log)),
)
_UNBOUND = (Swap(f"{_RULES}.local:bound", always(0)), Swap(f"{_RULES}.refusal:refusal", always(None)))
_PROMISE = Swap(f"{_BODY}._promise", instead(_unpromised))
_CONTENT = Swap(f"{_RULES}.following:_standby", instead(_content_without))
"""Otherwise a copy that has not promised attaches over and over again."""
_UNCONFIRMED = Swap("twinstar.agent.held:Held.confirm", skipped_async())
_OLD = Swap("twinstar.simulation.stores.memory:MemoryServer.attach", instead(_lags_behind))

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
        _BOUND,
        ("an order given anew",),
        members=5,
        partners=("tag",),
        covered="confirmations under an older tag do not count",
    ),
    Ablation(
        "promise on following",
        _FOLLOWING,
        "a copy attaches for an epoch without having promised it",
        (_PROMISE, _CONTENT),
        ("old news",),
        members=5,
        store=StoreKind.EMBEDDED,
        partners=("the log's last epoch binds", "an agent begins with the newest register"),
        covered="the log's last epoch binds, and an agent begins with the newest register",
    ),
    Ablation(
        "follow only what one is not bound above",
        _FOLLOWING,
        "a copy follows a leader of any epoch, whatever it has promised",
        (*_UNBOUND, _PROMISE, _CONTENT),
        ("old news",),
        members=5,
        store=StoreKind.EMBEDDED,
        partners=("an agent begins with the newest register",),
        covered="an agent begins with the newest register and knows no older one afterwards",
    ),
    Ablation(
        "an agent begins with the newest register",
        "The register",
        "an agent that was started anew acts on what a server of the store says that lags behind",
        (_OLD,),
        ("old news",),
        members=5,
        store=StoreKind.EMBEDDED,
        partners=("follow only what one is not bound above",),
        covered="what a member has promised, and the log's last epoch",
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
        "a copy is made anew without reading the register again",
        (_UNCONFIRMED,),
        ("a voter's disk",),
        store=StoreKind.EMBEDDED,
        partners=("an agent begins with the newest register",),
        covered="an agent begins with the newest register",
    ),
    Ablation(
        "impostors are ended",
        _FOLLOWING,
        "who streams under a member's name without its slot is left alone",
        (Swap("twinstar.agent.watching:Watching._end_impostors", skipped()),),
        ("an impostor",),
    ),
)
