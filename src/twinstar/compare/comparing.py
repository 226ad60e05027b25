"""One contestant after the other: everything that is measured of a cluster, in one order for all.

Speed comes first, on a cluster that nothing has happened to; faults come last. What a fault leaves behind is healed
and waited for before the next one; when that fails, this and all later faults are left out, and the result says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twinstar.compare import complexity, tables
from twinstar.compare.comparison import CONTROL, Contestant, FaultRun
from twinstar.compare.contestants import Entry
from twinstar.compare.measures import availability, conflicts, resources, speed, staleness
from twinstar.drill.faults import Fault
from twinstar.drill.run import Options as DrillOptions
from twinstar.drill.target import Target, View, wait_until_serving
from twinstar.model.errors import EnvironmentTrouble, UsageError

Say = Callable[[str], None]
MEASURES = ("speed", "resources", "staleness", "conflicts", "availability", "complexity")
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long everything lasts, and what is left out."""

    speed_s: float
    """For each of its eight cases."""
    resources_s: float
    staleness_s: float
    conflicts_s: float
    """For each of its four cases."""
    before_ms: float
    after_ms: float
    quick: bool
    repeat: int = 1
    measures: tuple[str, ...] = MEASURES

    def drill_options(self, fault: Fault) -> DrillOptions:
        return DrillOptions(
            fault,
            repeat=self.repeat,
            clients=availability.CLIENTS,
            before_ms=self.before_ms,
            after_ms=self.after_ms,
            patience_s=_PATIENCE_S,
        )


QUICK = Plan(0.5, 1.0, 0.8, 0.4, 600.0, 1_200.0, quick=True)
FULL = Plan(2.5, 4.0, 4.0, 1.5, 1_500.0, 3_000.0, quick=False)


def measures_named(words: list[str]) -> tuple[str, ...]:
    """In their order; all without a word. Raises UsageError."""
    for word in words:
        if word not in MEASURES:
            raise UsageError(f"There is no measure {word!r}: choose among {', '.join(MEASURES)}.")
    return tuple(measure for measure in MEASURES if not words or measure in words)


@dataclass(frozen=True, slots=True)
class Ground:
    """A contestant's cluster, and whom to ask about it."""

    target: Target
    about: dict[str, str]
    programs: tuple[str, ...]
    history: availability.History
    logged: conflicts.Logged
    places: speed.Places
    apart: str
    """Why its nodes cannot be cut off from each other; empty when they can."""


def measure(entry: Entry, ground: Ground, plan: Plan, seed: int, say: Say) -> Contestant:
    """Everything that the plan wants of this contestant. Raises TwinstarError."""
    began = time.monotonic()
    found: dict[str, Any] = {"speed": {}, "resources": None, "staleness": None, "conflicts": None, "complexity": None}
    view = wait_until_serving(ground.target, _PATIENCE_S, say)
    if "complexity" in plan.measures:
        found["complexity"] = complexity.measure(entry, ground.programs)
    if set(plan.measures) - {"availability", "complexity"}:
        say("making tables")
        tables.make(ground.target, view, _PATIENCE_S)
        found |= _in_peace(ground, view, plan, seed, say)
    runs: dict[str, tuple[FaultRun, ...]] = {}
    skipped: dict[str, str] = {}
    if "availability" in plan.measures:
        runs, skipped = _through_faults(entry, ground, plan, say)
    return Contestant(
        strategy=entry.strategy,
        durability=entry.durability,
        cluster=ground.about,
        availability=runs,
        skipped=skipped,
        took_s=round(time.monotonic() - began, 1),
        **found,
    )


def _in_peace(ground: Ground, view: View, plan: Plan, seed: int, say: Say) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "speed" in plan.measures:
        found["speed"] = speed.measure(view, ground.places, plan.speed_s, seed, _named("speed", say))
    if {"speed", "resources"} & set(plan.measures):
        used, fast = resources.measure(ground.target, view, ground.places, plan.resources_s, seed + 100, say)
        found["resources"] = used
        found["speed"] = {**found.get("speed", {}), speed.MEASURED_WITH_RESOURCES: fast}
    if "staleness" in plan.measures:
        say("staleness")
        found["staleness"] = staleness.measure(view, ground.places, plan.staleness_s, seed)
    if "conflicts" in plan.measures:
        found["conflicts"] = conflicts.measure(
            view, ground.places, ground.logged, plan.conflicts_s, seed, _named("conflicts", say)
        )
    return found


def _through_faults(
    entry: Entry, ground: Ground, plan: Plan, say: Say
) -> tuple[dict[str, tuple[FaultRun, ...]], dict[str, str]]:
    runs: dict[str, tuple[FaultRun, ...]] = {}
    skipped: dict[str, str] = {}
    with availability.clients_table(ground.target, _PATIENCE_S, say):
        for fault in (None, *entry.faults(quick=plan.quick)):
            name = fault.value if fault else CONTROL
            if fault is Fault.PARTITION and ground.apart:
                skipped[name] = ground.apart
                continue
            options = plan.drill_options(fault or Fault.KILL_NODE)
            try:
                runs[name] = availability.measure(ground.target, ground.history, fault, options, _named(name, say))
            except EnvironmentTrouble as trouble:
                if fault is None:
                    raise
                skipped[name] = f"failed: {trouble}"
                break
    return runs, skipped


def _named(name: str, say: Say) -> Say:
    return lambda text: say(f"{name}: {text}")
