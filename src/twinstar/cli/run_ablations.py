"""`twinstar simulate --ablations`: what the simulator notices when a safeguard is taken out."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from twinstar.cli.output import console, stop_on_sigterm
from twinstar.cli.run_simulation import Order, replay, write_json
from twinstar.simulation.ablations.swap import Ablation
from twinstar.simulation.ablations.table import Finding, chosen, search, without

_SAY_EVERY_S = 10.0


def ablate(words: list[str], first: int, most: int, jobs: int | None, json_file: Path | None) -> None:
    """Prints the table. Exit status 1 when a removal was not noticed, 130 after Ctrl-C. Raises UsageError."""
    stop_on_sigterm()
    ablations, began, stopped = chosen(words), time.monotonic(), False
    found = {each.name: Finding(each.name) for each in ablations}
    said = 0.0
    try:
        with contextlib.closing(search(ablations, first, most, jobs or os.cpu_count() or 1)) as searching:
            for finding in searching:
                found[finding.name] = finding
                if (now := time.monotonic() - began) - said >= _SAY_EVERY_S:
                    said = now
                    sys.stderr.write(f"ablations: {_state(found)}, {now:.0f} s\n")
                    sys.stderr.flush()
    except KeyboardInterrupt:
        stopped = True
    if write_json(json_file, _document(ablations, found, time.monotonic() - began)):
        _show(ablations, found, time.monotonic() - began)
    if stopped:
        raise typer.Exit(130)
    if not all(found[each.name].noticed for each in ablations):
        raise typer.Exit(1)


def replay_without(words: list[str], seed: int, order: Order, json_file: Path | None, *, verbose: bool) -> None:
    """Plays one seed without one safeguard, and tells its story. Raises UsageError."""
    ablation = chosen(words)[0]
    with without(ablation):
        replay(seed, order, json_file, verbose=verbose, plan=ablation.plan(seed))


def _state(found: dict[str, Finding]) -> str:
    noticed = sum(finding.noticed for finding in found.values())
    return f"{noticed} of {len(found)} noticed, {sum(finding.seeds for finding in found.values())} seeds played"


def _show(ablations: list[Ablation], found: dict[str, Finding], real_s: float) -> None:
    table = Table("without", "seeds", "noticed", "what", box=None, pad_edge=False)
    for each in ablations:
        finding = found[each.name]
        seeds = str(finding.seeds) if finding.noticed else f"not in {finding.seeds}"
        also = f" (and {', '.join(each.partners)})" if each.partners else ""
        table.add_row(each.name + also, seeds, finding.invariant or "no", finding.sentence or each.removed)
    out = console()
    out.print(table, highlight=False, markup=False)
    out.print(f"{_state(found)} in {real_s / 60:.1f} minutes", highlight=False)


def _document(ablations: list[Ablation], found: dict[str, Finding], real_s: float) -> dict[str, Any]:
    rows = [
        {
            **asdict(found[each.name]),
            "section": each.section,
            "removed": each.removed,
            "covered": each.covered,
            "partners": each.partners,
            "durability": each.durability,
            "noticed": found[each.name].noticed,
            "invariant": found[each.name].invariant,
        }
        for each in ablations
    ]
    return {"schema": 1, "real_minutes": real_s / 60, "ablations": rows}
