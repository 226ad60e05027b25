"""Ablations of how a failure is noticed, and of what keeps a cluster from changing its leader without need."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from twinstar.model.register import Phase
from twinstar.model.wire import EngineWord
from twinstar.simulation.ablations.counting import VIEW
from twinstar.simulation.ablations.swap import Ablation, Differs, Swap, altered, always, instead, skipped

_HOW = "How leadership ends"
_RULES = "twinstar.rules.active_passive"
_DETECTION = "twinstar.rules.detection"


def _never_stalled(original: Any, differs: Differs, health: Any, now_ms: float) -> bool:
    if original(health, now_ms):
        differs()
        health._fresh_since_ms = -1e12
    return False


def _hung_for_ever(original: Any, differs: Differs, watching: Any) -> Any:
    differs()
    return asyncio.Event().wait()


def _no_patience(original: Any, differs: Differs, back_off: Any) -> None:
    original(back_off)
    if back_off.again_ms or back_off.forbearance_ms:
        differs()
    back_off.again_ms = back_off.forbearance_ms = 0.0


def _not_paused(own: Any, *_: Any) -> Any:
    if own.register is None or own.register.phase is Phase.BOOTSTRAPPING:
        return own
    return replace(own, register=own.register.but(paused=False))


def _no_fence_by_epoch(original: Any, differs: Differs, guard: Any) -> tuple[float, str]:
    learned, guard._learned_epoch = guard._learned_epoch, 0
    try:
        other: tuple[float, str] = original(guard)
    finally:
        guard._learned_epoch = learned
    if other != original(guard):
        differs()
    return other


def _dead_at_once(original: Any, differs: Differs, guard: Any, why: str) -> None:
    """Declares dead what has not been looked at."""
    differs()
    guard._say(EngineWord.DEAD)
    guard._repeats = 5


DETECTING = (
    Ablation(
        "votes before a candidacy",
        _HOW,
        "one voter's suspicion is enough",
        (Swap("twinstar.rules.election:majority", always(1)),),
        ("one does not hear",),
    ),
    Ablation(
        "enough say that they can seal",
        _HOW,
        "a candidacy begins although too few copies could seal for it",
        (Swap(f"{_RULES}.local:can_seal", always(True)),),
        ("nobody could replace it",),
        voter_removal_ms=10_000,
    ),
    Ablation(
        "own stalls are discounted",
        _HOW,
        "who did not run itself calls the others silent",
        (Swap(f"{_DETECTION}:LocalHealth.woke", instead(_never_stalled)),),
        ("all stall",),
    ),
    Ablation(
        "a deaf leader is replaced",
        _HOW,
        "a leader that is heard stays, although it hears none of those who must confirm",
        (Swap(f"{_RULES}.suspicion:_is_deaf", always(False)),),
        ("the leader is deaf",),
    ),
    Ablation(
        "other signs of life",
        _HOW,
        "missing heartbeats are enough: neither probes nor arriving log count",
        (Swap(f"{_DETECTION}:no_sign_of_life", always(True)),),
        ("no heartbeats",),
    ),
    Ablation(
        "the guard's word",
        _HOW,
        "nobody acts on a guard that declares its database dead",
        (Swap(f"{_RULES}.suspicion:_declared_dead", always(False)),),
        ("a guard's word",),
    ),
    Ablation(
        "a witness's word",
        _HOW,
        "of two copies one accuses the other, although a witness hears it",
        (Swap(f"{_RULES}.suspicion:_held_back", always(False)),),
        ("broken link beside a witness",),
        members=2,
        witness=True,
    ),
    Ablation(
        "a witness holds back what it does not see alone",
        _HOW,
        "an accusation is held back although the witness agrees with it",
        (Swap(f"{_RULES}.suspicion:_held_back", always(True)),),
        ("dead leader beside a witness",),
        members=2,
        witness=True,
    ),
    Ablation(
        "a hung database is found",
        _HOW,
        "the agent does not try whether its database answers",
        (Swap("twinstar.agent.watching:Watching._watch_hang", instead(_hung_for_ever)),),
        ("the leader hangs",),
    ),
    Ablation(
        "a stop that hangs is ended",
        _HOW,
        "a database that is stopping is waited for, also when nobody does any more who would kill it",
        (Swap("twinstar.agent.watching:Watching._end_lasting_stop", skipped()),),
        ("a stop that hangs",),
    ),
    Ablation(
        "random back-off",
        "Candidacy",
        "elections are begun again at once, however many brought no service",
        (Swap("twinstar.agent.back_off:BackOff.changed", instead(_no_patience)),),
        ("all apart",),
        members=2,
        policy="degrade",
        voter_removal_ms=10_000,
    ),
    Ablation(
        "paused",
        _HOW,
        "what is automatic goes on while the cluster is paused",
        (Swap(VIEW, altered(_not_paused)),),
        ("gone while paused",),
    ),
    Ablation(
        "the guard's fence by epoch",
        "The right to go on",
        "a former leader whose agent hangs is left running",
        (Swap("twinstar.guard.core:GuardCore._fence_due", instead(_no_fence_by_epoch)),),
        ("a former leader ends",),
    ),
)
