"""A drill's result as JSON: the summary that people quote, and the raw series that it was made from."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twinstar.drill.history import Attempt, acknowledged_per_bin, median_and_maximum
from twinstar.drill.run import Drill, Repetition, Run

SCHEMA = 1
BIN_MS = 20.0


@dataclass(frozen=True, slots=True)
class Summary:
    """The drill in figures; sums are over all runs with the fault. Milliseconds."""

    fault: str
    repetitions: int
    median_outage_ms: float
    maximum_outage_ms: float
    control_median_ms: float
    control_maximum_ms: float
    failed_statements: int
    unknown_statements: int
    acknowledged: int
    lost: int
    phantoms: int
    duplicates: int
    changes_of_leader: int
    epochs: int
    """By how much the epoch grew."""
    survived: bool
    struck_median_ms: float | None = None
    """Where every node takes writes: outages of the clients that were on the struck node, and of the others."""
    struck_maximum_ms: float | None = None
    others_median_ms: float | None = None
    others_maximum_ms: float | None = None
    others_failed: int | None = None
    """Statements of clients of other nodes that were not acknowledged."""
    cut_off_acknowledged: int | None = None
    """`partition`: what the node that was cut off has acknowledged meanwhile."""


def summary(drill: Drill) -> Summary:
    """The figures of the table."""
    faulty = [repetition.faulty for repetition in drill.repetitions]
    controls = [repetition.control for repetition in drill.repetitions]
    outage = median_and_maximum([run.outage_ms for run in faulty])
    control = median_and_maximum([run.outage_ms for run in controls])
    return Summary(
        fault=drill.options.fault.value,
        repetitions=len(faulty),
        median_outage_ms=round(outage[0], 1),
        maximum_outage_ms=round(outage[1], 1),
        control_median_ms=round(control[0], 1),
        control_maximum_ms=round(control[1], 1),
        failed_statements=sum(run.audit.failed for run in faulty),
        unknown_statements=sum(run.audit.unknown for run in faulty),
        acknowledged=sum(run.audit.acknowledged for run in faulty),
        # A loss in a control run is a loss as well.
        lost=sum(len(run.audit.lost) for run in (*faulty, *controls)),
        phantoms=sum(len(run.audit.phantoms) for run in (*faulty, *controls)),
        duplicates=sum(run.audit.duplicates for run in faulty),
        changes_of_leader=sum(run.leader_before != run.leader_after for run in faulty),
        epochs=sum(run.epoch_after - run.epoch_before for run in faulty),
        survived=drill.survived,
        **_apart(faulty),
    )


def _apart(faulty: list[Run]) -> dict[str, Any]:
    sides = [run.apart for run in faulty if run.apart is not None]
    if not sides:
        return {}
    struck = median_and_maximum([each.struck_outage_ms for each in sides])
    others = median_and_maximum([each.others_outage_ms for each in sides])
    alone = [each.cut_off_acknowledged for each in sides if each.cut_off_acknowledged is not None]
    return {
        "struck_median_ms": round(struck[0], 1),
        "struck_maximum_ms": round(struck[1], 1),
        "others_median_ms": round(others[0], 1),
        "others_maximum_ms": round(others[1], 1),
        "others_failed": sum(each.others_failed for each in sides),
        "cut_off_acknowledged": sum(alone) if alone else None,
    }


def machine() -> str:
    """The machine in one line, so that figures are never quoted without it."""
    return f"{os.cpu_count()} × {processor()}, {memory_gib():.0f} GiB, Linux {platform.release()}"


def memory_gib() -> float:
    """All there is."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def processor() -> str:
    """Its model, as the kernel names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def to_json(drill: Drill) -> dict[str, Any]:
    """Everything, raw series included. Times of attempts are milliseconds since the run's begin."""
    return {
        "schema": SCHEMA,
        "machine": machine(),
        "cluster": drill.cluster,
        "options": {**asdict(drill.options), "fault": drill.options.fault.value},
        "summary": asdict(summary(drill)),
        "repetitions": [_repetition(repetition) for repetition in drill.repetitions],
    }


def _repetition(repetition: Repetition) -> dict[str, Any]:
    return {"control": _run(repetition.control), "faulty": _run(repetition.faulty)}


def _run(run: Run) -> dict[str, Any]:
    audit = asdict(run.audit)
    return {
        "length_ms": round(run.to_ms - run.from_ms, 1),
        "fault_at_ms": None if run.fault_ms is None else round(run.fault_ms - run.from_ms, 1),
        "target": run.target,
        "outage_ms": round(run.outage_ms, 1),
        "outage_from_ms": round(run.longest.from_ms - run.from_ms, 1),
        "outage_to_ms": round(run.longest.to_ms - run.from_ms, 1),
        "served_again": not run.longest.open_end,
        "epoch_before": run.epoch_before,
        "epoch_after": run.epoch_after,
        "leader_before": run.leader_before,
        "leader_after": run.leader_after,
        "apart": None if run.apart is None else asdict(run.apart),
        "audit": {**audit, "lost": [list(key) for key in audit["lost"]]},
        "acknowledged_per_bin": acknowledged_per_bin(run.attempts, run.from_ms, run.to_ms, BIN_MS),
        "bin_ms": BIN_MS,
        "attempts": [_attempt(attempt, run.from_ms) for attempt in run.attempts],
        "beside": [_attempt(attempt, run.from_ms) for attempt in run.beside],
    }


def _attempt(attempt: Attempt, from_ms: float) -> dict[str, Any]:
    return {
        "client": attempt.client,
        "number": attempt.number,
        "attempt": attempt.attempt,
        "started_ms": round(attempt.started_ms - from_ms, 2),
        "ended_ms": round(attempt.ended_ms - from_ms, 2),
        "outcome": attempt.outcome.value,
        **({"why": attempt.why} if attempt.why else {}),
        **({"node": attempt.node} if attempt.node else {}),
    }
