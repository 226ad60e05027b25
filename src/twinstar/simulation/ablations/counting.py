"""Ablations of who must confirm, what is counted, and what is known of the register."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from twinstar.model.engine import Names
from twinstar.model.errors import EngineError, StoreUnavailable
from twinstar.model.position import Position
from twinstar.rules.durability import Quorum, Step, Where
from twinstar.simulation.ablations.swap import Ablation, Differs, Swap, altered, instead
from twinstar.simulation.plan import StoreKind
from twinstar.store.base import CasOutcome, Conflict, Unknown

_CONFIRM = "Changing who must confirm"


def _engine_first(
    own: Step | None, engine: Quorum, register: Quorum, goal: Quorum, flushed: frozenset[str]
) -> Step | None:
    if engine != goal:
        return Step(Where.ENGINE, goal)
    enough = len(goal.voters & flushed) >= goal.required
    return Step(Where.REGISTER, goal) if register != goal and enough else None


def _register_first(
    own: Step | None, engine: Quorum, register: Quorum, goal: Quorum, flushed: frozenset[str]
) -> Step | None:
    if register == goal:
        return Step(Where.ENGINE, goal) if engine != goal else None
    return Step(Where.REGISTER, goal) if len(goal.voters & flushed) >= goal.required else None


async def _not_in_effect(original: Any, differs: Differs, engine: Any, names: Names) -> Position:
    """The change goes on while the caller believes that it is over."""
    differs()
    engine.goes_on(_in_the_end(original, engine, names))
    await engine.fleet.takes(0.1, 0.2)
    return engine.disk.position  # type: ignore[no-any-return]


async def _in_the_end(original: Any, engine: Any, names: Names) -> None:
    with suppress(EngineError):
        await original(engine, names)


async def _old_value_read(original: Any, differs: Differs, ledger: Any, base: int) -> None:
    """One read that shows the old value is taken for an answer."""
    try:
        current = await ledger._store.read(ledger._kept.key)
    except StoreUnavailable:
        await original(ledger, base)
        return
    differs()
    ledger._adopt(current)


async def _time_out_is_no(
    original: Any, differs: Differs, store: Any, key: str, value: bytes, expected: int
) -> CasOutcome:
    """What the API server says instead of an outcome (504, 500 …) is taken for a refusal, if it can be read."""
    outcome: CasOutcome = await original(store, key, value, expected)
    if isinstance(outcome, Unknown):
        with suppress(StoreUnavailable):
            outcome = Conflict(await store.read(key))
            differs()
    return outcome


async def _names_later(original: Any, differs: Differs, engine: Any, epoch: int, names: Names) -> Position:
    differs()
    engine.disk.slots |= names.voters
    position: Position = await original(engine, epoch, Names(epoch, frozenset(), 0))
    engine.goes_on(_set_later(engine, engine.life, names))
    return position


async def _set_later(engine: Any, life: Any, names: Names) -> None:
    await engine.fleet.takes(1, 5)
    if engine.life is life:
        engine.commits.set_names(names)


def _any_tag(own: bool, sender: Any, names: Names) -> bool:
    return sender.member in names.voters


def _any_epoch(own: Any, primary: Any, register: Any) -> Any:
    return {a.member: a for a in (primary.attachments if primary else ()) if a.genuine}


_DURABILITY = "twinstar.rules.durability"
_DATABASE = "twinstar.simulation.database.engine:VirtualEngine"
VIEW = "twinstar.agent.agent:Agent.view"

TAG = (
    Swap("twinstar.simulation.database.senders:Sender.counts_under", altered(_any_tag)),
    Swap("twinstar.rules.active_passive.attached:counted", altered(_any_epoch)),
)

COUNTING = (
    Ablation(
        "order of voter changes: the engine first",
        _CONFIRM,
        "who must confirm is changed in the engine first, whether it grows or shrinks",
        (Swap(f"{_DURABILITY}:next_step", altered(_engine_first)),),
        ("other confirmers",),
        voter_removal_ms=1_500,
    ),
    Ablation(
        "order of voter changes: the register first",
        _CONFIRM,
        "who must confirm is changed in the register first, whether it grows or shrinks",
        (Swap(f"{_DURABILITY}:next_step", altered(_register_first)),),
        ("other confirmers",),
        voter_removal_ms=1_500,
    ),
    Ablation(
        "wait for p",
        _CONFIRM,
        "voters enter the register without having flushed the log's end",
        (
            Swap(
                "twinstar.rules.active_passive.attached:flushed",
                altered(lambda _own, view, _register: frozenset(view.settings.members)),
            ),
        ),
        ("more must confirm",),
        members=5,
        voter_removal_ms=1_500,
        policy="degrade",
    ),
    Ablation(
        "engine in effect",
        _CONFIRM,
        "a change of who must confirm counts before all processes of the database have read it",
        (Swap(f"{_DATABASE}.open_names", instead(_not_in_effect)),),
        ("a setting read late",),
        voter_removal_ms=1_500,
        policy="degrade",
    ),
    Ablation(
        "names before the first commit",
        "Naming and promotion",
        "a promoted database learns only afterwards who must confirm",
        (Swap(f"{_DATABASE}.promote", instead(_names_later)),),
        ("a copy behind", "one election after another"),
    ),
    Ablation(
        "unknown outcomes are settled",
        "Unknown outcomes",
        "a change without an answer is taken for dead when the old value is read again",
        (Swap("twinstar.agent.held:Held._settle", instead(_old_value_read)),),
        ("a late change",),
        voter_removal_ms=1_500,
    ),
    Ablation(
        "504 is no refusal",
        "Unknown outcomes",
        "a change to which the API server of Kubernetes answers 504 or 500 is taken for dead",
        (Swap("twinstar.store.kubernetes.client:KubernetesStore.compare_and_set", instead(_time_out_is_no)),),
        ("a late change", "a change in doubt"),
        voter_removal_ms=1_500,
        store=StoreKind.KUBERNETES,
    ),
    Ablation(
        "nothing changes while in doubt",
        "Unknown outcomes",
        "voters are changed in the engine while a change of the register is under way",
        (Swap(VIEW, altered(lambda own, *_: replace(own, changing=False))),),
        ("a change in doubt",),
        voter_removal_ms=1_500,
        store=StoreKind.EMBEDDED,
    ),
    Ablation(
        "settle what an earlier run left",
        "Unknown outcomes",
        "an agent that was restarted changes voters without having settled what was in flight",
        (Swap(VIEW, altered(lambda own, *_: replace(own, settled=True))),),
        ("a change in doubt",),
        voter_removal_ms=1_500,
        store=StoreKind.EMBEDDED,
    ),
    Ablation(
        "tag",
        "Following, rewinding, rebuilding",
        "confirmations count whatever epoch they were given for",
        TAG,
        ("a late order",),
        members=5,
    ),
)
