"""What the rules of advice take from a comparison: the worst that was seen, as numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from twinstar.compare.comparison import CONTROL, Comparison, Contestant, FaultRun
from twinstar.drill.faults import Fault
from twinstar.model.timing import Timings

SILENT = (Fault.KILL_NODE, Fault.HANG_NODE, Fault.PARTITION)
"""Faults that have to be noticed by silence."""
_ALONE, _SPREAD = "write-one-one-node", "write-many-spread"


@dataclass(frozen=True, slots=True)
class Experience:
    """Nothing in it: nothing was measured, and what follows from it is a lower bound."""

    rtt_ms: float = 0.0
    """Between nodes, when it was measured."""
    take_over_ms: float = 0.0
    """Active-passive, `quorum`: the worst outage by a silent death, less the silence that the preset waits for."""
    outage_ms: dict[str, float] = field(default_factory=dict)
    """By contestant: the worst by a silent death; in active-active of the struck node's clients."""
    others_ms: dict[str, float] = field(default_factory=dict)
    """By contestant, active-active: the worst of the other nodes' clients."""
    lost: dict[str, int] = field(default_factory=dict)
    """By contestant: the most acknowledged writes that one fault took."""
    stale_ms: dict[str, float] = field(default_factory=dict)
    """By contestant: how old what another node shows may be, 99 of 100 times."""

    commit_ms: dict[str, float] = field(default_factory=dict)
    """By contestant: the median write of a single client beside the node."""
    writes_per_s: dict[str, float] = field(default_factory=dict)
    """By contestant: of many clients, spread over the nodes."""
    overwritten: dict[str, float] = field(default_factory=dict)
    """By contestant: the share of acknowledged increments that were gone where all nodes changed the same few rows."""

    @classmethod
    def of(cls, comparison: Comparison) -> Experience:
        found = comparison.contestants
        passive = found.get("active-passive-quorum")
        return cls(
            rtt_ms=comparison.options.rtt_ms,
            take_over_ms=_take_over_ms(passive) if passive else 0.0,
            outage_ms={
                name: max(run.outage_ms for run in runs) for name, one in found.items() if (runs := _silent(one))
            },
            others_ms={
                name: max(others)
                for name, one in found.items()
                if (others := [run.others_outage_ms for run in _silent(one) if run.others_outage_ms is not None])
            },
            lost={name: max(lost) for name, one in found.items() if (lost := [run.lost for run in _faults(one)])},
            stale_ms={name: one.staleness.p99_ms for name, one in found.items() if one.staleness},
            commit_ms={name: one.speed[_ALONE].p50_ms for name, one in found.items() if _ALONE in one.speed},
            writes_per_s={name: one.speed[_SPREAD].per_s for name, one in found.items() if _SPREAD in one.speed},
            overwritten={
                name: one.conflicts.increments.lost / one.conflicts.increments.wanted
                for name, one in found.items()
                if one.conflicts and one.conflicts.increments.wanted
            },
        )


def _silent(one: Contestant) -> list[FaultRun]:
    return [run for fault in SILENT for run in one.availability.get(fault, ())]


def _faults(one: Contestant) -> list[FaultRun]:
    return [run for fault, runs in one.availability.items() if fault != CONTROL for run in runs]


def _take_over_ms(one: Contestant) -> float:
    waited_ms = Timings.preset(one.cluster["preset"]).suspicion_ms
    return max((max(0.0, run.outage_ms - waited_ms) for run in _silent(one)), default=0.0)
