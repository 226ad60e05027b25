"""Ablations of leadership by lease (durability `async`)."""

from __future__ import annotations

from typing import Any

from twinstar.model.effects import Kill
from twinstar.model.register import Durability
from twinstar.model.timing import LeaseTimes
from twinstar.simulation.ablations.detecting import _dead_at_once
from twinstar.simulation.ablations.swap import Ablation, Differs, Swap, altered, always, instead, skipped

_LEASE = "The right to go on"
_ASYNC = Durability.ASYNC
_RULES = "twinstar.rules.active_passive"
_CORE = "twinstar.guard.core:GuardCore"


def _no_margin(original: Any, differs: Differs, cls: type[LeaseTimes], *args: Any) -> LeaseTimes:
    times: LeaseTimes = original.__func__(cls, *args)
    differs()
    return LeaseTimes(times.lease_ms, times.renewal_ms, times.lease_ms)


def _margin_swap(original: Any, differs: Differs) -> Any:
    def of(cls: type[LeaseTimes], *args: Any) -> LeaseTimes:
        return _no_margin(original, differs, cls, *args)

    return classmethod(of)


def _no_lease_in_guard(original: Any, differs: Differs, guard: Any) -> tuple[float, str]:
    until, guard._lease_until_ms = guard._lease_until_ms, 0.0
    try:
        other: tuple[float, str] = original(guard)
    finally:
        guard._lease_until_ms = until
    if other != original(guard):
        differs()
    return other


def _goes_on(own: Any, view: Any, register: Any) -> Any:
    return (own[0], None) if isinstance(own[1], Kill) and view.guard_silent_ms <= register.lease_ms else own


def _without_guard(own: Any, view: Any, register: Any) -> Any:
    return (own[0], None) if isinstance(own[1], Kill) and view.guard_silent_ms > register.lease_ms else own


async def _counted_from_the_answer(original: Any, differs: Differs, ledger: Any, wanted: Any) -> bool:
    ours: bool = await original(ledger, wanted)
    if ours:
        differs()
        ledger.changed_sent_ms = ledger._clock.now_ms()
    return ours


def _no_wait(own: float, view: Any, register: Any) -> float:
    return 0.0


def _unexplained(original: Any, differs: Differs, guard: Any, run: str) -> None:
    original(guard, run)
    if guard._leading and run != guard._recalled.run:
        differs()
        guard._leading, guard._lease_until_ms = False, 0.0


LEASES = (
    Ablation(
        "lease margin",
        _LEASE,
        "the others take over as soon as a lease is over by their own clock",
        (Swap("twinstar.model.timing:LeaseTimes.of", _margin_swap),),
        ("cut off with a lease",),
        durability=_ASYNC,
    ),
    Ablation(
        "the guard ends a database with its lease",
        _LEASE,
        "nobody ends a leader's database whose agent hangs",
        (Swap(f"{_CORE}._fence_due", instead(_no_lease_in_guard)),),
        ("cut off with a lease",),
        durability=_ASYNC,
    ),
    Ablation(
        "the agent ends its database before its lease",
        _LEASE,
        "an agent goes on leading when its lease is over",
        (Swap(f"{_RULES}.lease:holding", altered(_goes_on)),),
        ("cut off and awake",),
        durability=_ASYNC,
        partners=("the guard ends a database with its lease",),
        covered="the guard ends it at the lease's end",
    ),
    Ablation(
        "no leader without a guard",
        _LEASE,
        "a leader goes on although its guard is gone",
        (Swap(f"{_RULES}.lease:holding", altered(_without_guard)),),
        ("a leader without a guard",),
        durability=_ASYNC,
    ),
    Ablation(
        "no promotion without a lease",
        _LEASE,
        "a promotion does not look at what is left of the lease",
        (Swap(f"{_RULES}.lease:holds", always(True)),),
        ("named too late",),
        durability=_ASYNC,
        partners=("the guard ends a database with its lease",),
        covered="the guard, which is told first, ends what has no lease",
    ),
    Ablation(
        "the guard knows before a promotion",
        _LEASE,
        "the guard learns of a leadership only afterwards",
        (Swap("twinstar.agent.agent:Agent._tell_guard_now", skipped()),),
        ("dies promoting",),
        durability=_ASYNC,
    ),
    Ablation(
        "a lease counts from before it was asked for",
        _LEASE,
        "a lease counts from the moment the answer came",
        (Swap("twinstar.agent.ledger:Ledger.change", instead(_counted_from_the_answer)),),
        ("cut off with a lease",),
        durability=_ASYNC,
    ),
    Ablation(
        "an election by hand waits for the lease",
        _LEASE,
        "a failover by hand does not wait for a leader that may still lead",
        (Swap(f"{_RULES}.lease:_vacancy_wait_ms", altered(_no_wait)),),
        ("by hand against a lease",),
        durability=_ASYNC,
    ),
    Ablation(
        "dead means that no process is left",
        "How leadership ends",
        "a guard declares its database dead without looking for what is left of it",
        (Swap(f"{_CORE}._condemn", instead(_dead_at_once)),),
        ("dead and slow",),
        durability=_ASYNC,
    ),
    Ablation(
        "a guard ends what no agent explains",
        _LEASE,
        "a guard that has just started leaves a database alone that may lead",
        (Swap(f"{_CORE}._adopt", instead(_unexplained)),),
        ("a guard alone",),
        durability=_ASYNC,
    ),
    Ablation(
        "a guard keeps the lease that it knows",
        _LEASE,
        "an agent that has not seen the register since its start frees its leader from the lease",
        (Swap(f"{_CORE}._lease_told", altered(lambda _own, _guard, told: told.lease_until_ms)),),
        ("started without the store",),
        durability=_ASYNC,
    ),
    Ablation(
        "maximum_lag_bytes",
        _LEASE,
        "whoever is there takes over, however far behind",
        (Swap(f"{_RULES}.lease:_lag", always(0)),),
        ("all fall behind",),
        durability=_ASYNC,
    ),
)
