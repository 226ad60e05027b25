"""What a fault costs clients: outage, statements that were not acknowledged, and writes that are gone afterwards.

The drill's own runs (`drill.run`), one after the other on one cluster, which is whole again before each. First the
control, without a fault; a figure of a fault says nothing without it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from twinstar.compare.comparison import ClientSeries, FaultRun, Refusal
from twinstar.compare.figures import error_name, longest_gap, outage, per_bin, refusals
from twinstar.drill.faults import Fault
from twinstar.drill.history import Attempt
from twinstar.drill.rows import make_tables, put_away
from twinstar.drill.run import Options, Run, run_once
from twinstar.drill.session import boot_ms
from twinstar.drill.target import Target, wait_until_serving
from twinstar.histories.operation import Outcome
from twinstar.model.errors import EnvironmentTrouble

Say = Callable[[str], None]
History = Callable[[], list[dict[str, Any]]]
"""Every change of leader that the cluster has recorded, oldest first."""

CLIENTS = 6
"""For every contestant the same: two for each of three nodes."""


@contextlib.contextmanager
def clients_table(target: Target, patience_s: float, say: Say) -> Iterator[None]:
    """The table that the clients write to. Raises TwinstarError."""
    view = wait_until_serving(target, patience_s, say)
    make_tables(target, view)
    try:
        yield
    finally:
        with contextlib.suppress(EnvironmentTrouble):
            put_away(target, view)


def measure(target: Target, history: History, fault: Fault | None, options: Options, say: Say) -> tuple[FaultRun, ...]:
    """The runs with this fault, or without. Leaves the cluster whole. Raises TwinstarError."""
    runs = []
    for number in range(1, options.repeat + 1):
        run = run_once(target, options, fault, _prefixed(f"{number} of {options.repeat}: ", say))
        recorded = history() if fault and not target.view().all_write else []
        runs.append(_with_record(condense(run), recorded, run))
    return tuple(runs)


def _prefixed(prefix: str, say: Say) -> Say:
    return lambda text: say(prefix + text)


def condense(run: Run) -> FaultRun:
    """A drill's run with its times from its own begin."""
    window = (0.0, round(run.to_ms - run.from_ms, 1))
    clients = _clients(run, run.attempts)
    apart = run.apart is not None
    made = FaultRun(
        outage_ms=0.0,
        others_outage_ms=0.0 if apart else None,
        failed=refusals(clients),
        unknown=sum(refused.outcome == Outcome.UNKNOWN for client in clients for refused in client.refused),
        others_failed=run.apart.others_failed if run.apart else None,
        acknowledged=run.audit.acknowledged,
        lost=len(run.audit.lost),
        duplicates=run.audit.duplicates,
        window_ms=window,
        fault_at_ms=None if run.fault_ms is None else round(run.fault_ms - run.from_ms, 1),
        struck=run.target,
        served_again=run.survived or not run.longest.open_end,
        acks_per_100ms=per_bin((at for client in clients for at in client.acknowledged_ms), *window),
        gaps_ms=tuple(round(longest_gap(client, window), 1) for client in clients),
        clients=clients,
        beside=_clients(run, run.beside),
        lost_rows=run.audit.lost,
    )
    others = round(outage(made, others=True), 1) if apart else None
    return replace(made, outage_ms=round(outage(made), 1), others_outage_ms=others)


def _clients(run: Run, all_attempts: Iterable[Attempt]) -> tuple[ClientSeries, ...]:
    by_client: dict[int, list[Attempt]] = {}
    for attempt in all_attempts:
        by_client.setdefault(attempt.client, []).append(attempt)
    return tuple(_client(number, attempts, run) for number, attempts in sorted(by_client.items()))


def _client(number: int, attempts: list[Attempt], run: Run) -> ClientSeries:
    ordered = sorted(attempts, key=lambda each: each.started_ms)
    before = [each for each in ordered if run.fault_ms is None or each.started_ms <= run.fault_ms]
    told = [each for each in ordered if each.ended_ms >= run.from_ms]
    return ClientSeries(
        client=number,
        node=before[-1].node if before else "",
        acknowledged_ms=tuple(
            round(each.ended_ms - run.from_ms, 1) for each in told if each.outcome is Outcome.ACKNOWLEDGED
        ),
        refused=tuple(
            Refusal(round(each.ended_ms - run.from_ms, 1), each.outcome.value, error_name(each.why))
            for each in told
            if each.outcome is not Outcome.ACKNOWLEDGED
        ),
    )


def _with_record(made: FaultRun, entries: list[dict[str, Any]], run: Run) -> FaultRun:
    """With what the cluster wrote down about the change of leader that the fault has caused, if it has."""
    entry = next((each for each in entries if each["epoch"] > run.epoch_before), None)
    if entry is None or run.fault_ms is None:
        return made
    fault_wall_ms = time.time() * 1000 - boot_ms() + run.fault_ms
    steps = steps_after(fault_wall_ms, float(entry["at_wall_ms"]), entry.get("milestones_ms") or {})
    return replace(made, steps_ms=steps, reason=str(entry.get("reason") or ""), evidence=str(entry["evidence"] or ""))


def steps_after(fault_wall_ms: float, opened_wall_ms: float, marks: Mapping[str, float]) -> dict[str, float]:
    """When the new leader was sealed, named, promoted and opened, from the fault on; as far as it was written down.

    `marks` are milliseconds from the naming on, `opened` among them; the times of day belong to the fault and to the
    opening.
    """
    if "opened" not in marks:
        return {}
    named = opened_wall_ms - marks["opened"] - fault_wall_ms
    return {
        name: round(named + after, 1) for name, after in sorted({"named": 0.0, **marks}.items(), key=lambda e: e[1])
    }
