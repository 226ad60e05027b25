"""Ablations of how a leader is chosen, sealed for, named, promoted, restarted and handed over to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twinstar.model.effects import ChangeRegister, Plan, PromoteFor, Reason, SealFor
from twinstar.model.position import Position
from twinstar.model.register import Phase, Register, Seal
from twinstar.model.view import View
from twinstar.rules.active_passive.electing import _FALSE_ALARMS, _retake
from twinstar.rules.active_passive.local import author, names_for
from twinstar.simulation.ablations.counting import VIEW
from twinstar.simulation.ablations.swap import Ablation, Differs, Swap, altered, always, instead, skipped, skipped_async

_ELECTION = "twinstar.rules.election"
_RULES = "twinstar.rules.active_passive"
_LOOKED_AT = "the register is looked at before a promotion"
_BODY = "twinstar.agent.body:Body"
_DATABASE = "twinstar.simulation.database.engine:VirtualEngine"


def _one_is_enough(own: bool, register: Register, sealed: Any) -> bool:
    return bool(register.copies.intersection(sealed))


def _leader_does_not_count(own: bool, register: Register, sealed: Any) -> bool:
    return len(register.voters.intersection(sealed)) >= len(register.copies) - register.required


def _only_the_sealed(own: ChangeRegister | None, view: View, register: Register) -> ChangeRegister | None:
    if own is None:
        return None
    sealed = register.copies & set(view.seals)
    return replace(own, register=own.register.but(copies=sealed, required=min(register.required, len(sealed) - 1)))


def _unnamed(own: Plan, view: View, register: Register) -> Plan:
    """Promotes when the seals say that this copy wins, beside the attempt to be named."""
    named = own.change.register if own.change else None
    if isinstance(view.running_effect, PromoteFor) and view.running_effect.epoch == register.epoch:
        return replace(own, engine=view.running_effect)
    if named is None or named.phase is not Phase.LEADING or named.leader != view.me:
        return own
    return replace(own, engine=PromoteFor(register.epoch, names_for(view, named)))


async def _promoted_unasked(original: Any, differs: Differs, body: Any, epoch: int, names: Any) -> None:
    """Promotes whatever the register says by now."""
    differs()
    body._memory.lead(epoch, body.state.run)
    body.on_leading()
    end = await body._engine.promote(epoch, names)
    body.sealed = None
    body.enforced, body.enforced_lsn = names, end.lsn
    body._begin_epoch(end.lsn)


async def _next_timeline(original: Any, differs: Differs, engine: Any, epoch: int) -> None:
    """What PostgreSQL does by itself: the newest timeline it knows, plus one."""
    if engine.disk.next_timeline() != epoch:
        differs()
    await engine.promote_itself()


async def _position_first(original: Any, differs: Differs, engine: Any) -> Position:
    """The position is taken before the receiver is ended."""
    before: Position = engine.disk.position
    await engine.fleet.takes(2, 8)
    if await original(engine) != before:
        differs()
    return before


async def _still_attached(original: Any, differs: Differs, engine: Any) -> Position:
    """Says that it is sealed, and goes on receiving for a while."""
    if engine.disk.upstream is None:
        return await original(engine)  # type: ignore[no-any-return]
    differs()
    await engine.fleet.takes(5, 40)
    engine.goes_on(_detach_later(engine, engine.life, engine.disk.upstream))
    return engine.disk.position  # type: ignore[no-any-return]


async def _detach_later(engine: Any, life: Any, upstream: Any) -> None:
    await engine.fleet.takes(500, 1_000)
    if engine.life is life and engine.run and engine.disk.upstream == upstream:
        await engine.detach()


async def _detached_at_last(original: Any, _differs: Differs, engine: Any, epoch: int, names: Any) -> Position:
    if engine.disk.upstream is not None:
        await engine.detach()
    return await original(engine, epoch, names)  # type: ignore[no-any-return]


def _not_remembered(own: Any, *_: Any) -> Any:
    return replace(own, promise=0)


def _kept_anyway(own: Plan, view: View, register: Register) -> Plan:
    """Takes the epoch back although nobody was heard."""
    mine = register.leader == view.me and 0 < view.led < register.epoch and view.promise <= register.epoch
    if own.change is not None or not mine or register.reason not in _FALSE_ALARMS or register.paused:
        return own
    return Plan(change=_retake(view, register, set()), soon=True)


def _same_epoch(own: Plan, view: View, register: Register) -> Plan:
    """A leader that comes back goes on in the epoch that it led."""
    if own.change is None or own.change.reason is not Reason.RESTARTED or view.promise > register.epoch:
        return own
    return Plan(engine=PromoteFor(register.epoch, names_for(view, register)), soon=True)


async def _promotes_again(original: Any, differs: Differs, engine: Any, epoch: int, names: Any) -> Position:
    """Without the engine's own look at its timeline."""
    if engine.disk.upstream is None and engine.run and not engine.primary_run and engine.disk.timeline >= epoch:
        engine.commits.set_names(names)
        await engine.promote_itself()
        return engine.disk.position  # type: ignore[no-any-return]
    return await original(engine, epoch, names)  # type: ignore[no-any-return]


def _succeeds_at_once(own: Plan | None, view: View, register: Register) -> Plan | None:
    """The successor takes over as soon as the leader has stopped, whatever it holds."""
    ended = view.next_seals.get(register.leader)
    if own is None or ended is None or own.change is not None:
        return own
    if view.sealed is None or view.sealed.epoch != register.epoch + 1:
        return replace(own, engine=SealFor(register.epoch + 1, publish=False))
    named = register.but(
        epoch=register.epoch + 1, phase=Phase.LEADING, leader=view.me, fork=view.sealed.position, switchover=None,
        reason=Reason.SWITCHOVER.value,
    )  # fmt: skip
    return replace(own, change=ChangeRegister(named, view.revision, Reason.SWITCHOVER, "without looking"))


async def _not_replayed(original: Any, differs: Differs, engine: Any) -> Position:
    """The position is where replay has come to, not where the log ends."""
    engine.disk.upstream = None
    await engine._detach()
    reached: Position = engine.disk.position_at(engine.replay.reached)
    if reached != engine.disk.position:
        differs()
    return reached


def _succeeds_unsealed(original: Any, differs: Differs, view: View, register: Register) -> Plan | None:
    """The successor takes the next epoch without having sealed for it."""
    own: Plan | None = original(view, register)
    if own is None or not isinstance(own.engine, SealFor) or view.engine.position is None:
        return own
    differs()
    as_if = replace(view, sealed=Seal(view.me, register.epoch + 1, view.engine.position))
    unsealed: Plan | None = original(as_if, register)
    return unsealed


def _promised_nothing(original: Any, differs: Differs, memory: Any, epoch: int, *, handing_over: bool = False) -> None:
    if handing_over:
        differs()
        return
    original(memory, epoch)


def _by_the_author(own: ChangeRegister | None, view: View, register: Register) -> ChangeRegister | None:
    return own if author(register) == view.me else None


_NOT_AGAIN = Swap(f"{_RULES}.electing:_again", always(None))
_AUTHOR_ALONE = Swap(f"{_RULES}.electing:_decision", altered(_by_the_author))
_SAME_EPOCH = (
    Swap(f"{_RULES}.leading:_become", altered(_same_epoch)),
    Swap(f"{_DATABASE}.promote", instead(_promotes_again)),
)
_COMES_BACK = (
    Swap("twinstar.agent.memory:Memory.promise", instead(_promised_nothing)),
    Swap(f"{_RULES}.leading:_handed_over", always(None)),
)
_UNSEALED = Swap(f"{_RULES}.following:_succeed", instead(_succeeds_unsealed))

ELECTING = (
    Ablation(
        "enough copies seal",
        "Choice",
        "one sealed copy is enough for a choice",
        (Swap(f"{_ELECTION}:admissible", altered(_one_is_enough)),),
        ("a copy behind",),
    ),
    Ablation(
        "the last leader counts",
        "Choice",
        "the last leader's own seal is not counted, as if the register did not keep its name",
        (Swap(f"{_ELECTION}:admissible", altered(_leader_does_not_count)),),
        ("as many as it bears",),
    ),
    Ablation(
        "the most advanced wins",
        "Choice",
        "any sealed copy is named, however short its log",
        (
            Swap(
                f"{_ELECTION}:_rank",
                altered(lambda own, *_: (Position(0, 0), *own[1:])),
            ),
        ),
        ("a copy behind",),
    ),
    Ablation(
        "keep copies at a naming",
        "The register",
        "a naming drops the copies that have not sealed",
        (Swap(f"{_RULES}.electing:_decision", altered(_only_the_sealed)),),
        ("a copy behind",),
    ),
    Ablation(
        "naming before promotion",
        "Naming and promotion",
        "who would win is promoted before the register names it",
        (Swap(f"{_RULES}.electing:_sealed", altered(_unnamed)),),
        ("a slow naming",),
        members=5,
        partners=(_LOOKED_AT,),
        covered="a promotion is refused to whom the register does not name",
    ),
    Ablation(
        _LOOKED_AT,
        "Naming and promotion",
        "a promotion that was planned is carried out whatever the register says by then",
        (Swap(f"{_BODY}._promote", instead(_promoted_unasked)),),
        ("a slow naming",),
        members=5,
        partners=("naming before promotion",),
        covered="only who is named plans to be promoted",
    ),
    Ablation(
        "timeline is the epoch",
        "Timelines",
        "a promotion takes PostgreSQL's own next timeline",
        (Swap(f"{_DATABASE}.take_timeline", instead(_next_timeline)),),
        ("one election after another",),
    ),
    Ablation(
        "position after the stop",
        "Seal",
        "the position is published as it was before the receiver ended",
        (Swap(f"{_DATABASE}.seal", instead(_position_first)),),
        ("a copy behind", "elected while it writes"),
    ),
    Ablation(
        "position at the end of the local log",
        "Seal",
        "the position is published without waiting until all local log is replayed",
        (Swap(f"{_DATABASE}.seal", instead(_not_replayed)),),
        ("a copy behind",),
    ),
    Ablation(
        "detach",
        "Seal",
        "a sealed copy goes on receiving and confirming for a while",
        (
            Swap(f"{_DATABASE}.seal", instead(_still_attached)),
            Swap(f"{_DATABASE}.promote", instead(_detached_at_last)),
        ),
        ("elected while it writes",),
    ),
    Ablation(
        "durable promise",
        "Seal",
        "a promise is forgotten when the agent is restarted",
        (Swap("twinstar.agent.memory:Memory._read", altered(_not_remembered)),),
        ("one election after another",),
    ),
    Ablation(
        "a broken-off promotion is ended",
        "Seal",
        "a promotion that was given up goes on in the database",
        (Swap(f"{_BODY}._end_what_goes_on", skipped_async()),),
        ("a promotion that hangs",),
    ),
    Ablation(
        "an unfinished election is begun again",
        "Candidacy",
        "an election that does not end is waited for",
        (_NOT_AGAIN,),
        ("an election's author dies", "one election after another"),
        partners=("every sealed copy may name",),
        covered="another one names the winner of the election that its author left",
    ),
    Ablation(
        "every sealed copy may name",
        "Choice",
        "only the copy that began an election names its winner",
        (_AUTHOR_ALONE,),
        ("an election's author dies",),
        partners=("an unfinished election is begun again",),
        covered="another one begins the election anew",
    ),
    Ablation(
        "retake only when heard",
        "Retake",
        "a leader that only the store hears keeps taking its epoch back",
        (
            Swap(f"{_RULES}.electing:_incumbent", altered(_kept_anyway)),
            Swap(VIEW, altered(lambda own, *_: replace(own, retake_age_ms=1e12))),
        ),
        ("only the store hears",),
    ),
    Ablation(
        "a restart takes a fresh epoch",
        "Restart",
        "a leader that comes back goes on in the epoch that it led",
        _SAME_EPOCH,
        ("the leader first",),
    ),
    Ablation(
        "the successor has all",
        "Switchover",
        "the successor takes over whatever part of the log it holds",
        (Swap(f"{_RULES}.following:_succeed", altered(_succeeds_at_once)),),
        ("handing over slowly",),
    ),
    Ablation(
        "the successor is sealed",
        "Switchover",
        "the successor takes the next epoch without having sealed for it",
        (_UNSEALED,),
        ("a successor that is not ready",),
    ),
    Ablation(
        "the time is looked at before the stop",
        "Switchover",
        "a leader whose preparations took too long stops for its successor nevertheless",
        (Swap(f"{_BODY}._look_at_deadline", skipped()),),
        ("a switchover too late",),
    ),
    Ablation(
        "a leader that handed over cannot come back",
        "Switchover",
        "a leader that has stopped for its successor has promised nothing, and starts again at once",
        _COMES_BACK,
        ("handing over badly",),
        partners=("a restart takes a fresh epoch",),
        covered="it takes a fresh epoch, which its successor's change of the register excludes",
    ),
)
