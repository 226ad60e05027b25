"""`twinstar simulate --strategy active-active`: many seeds, one with its story, and safeguards left out."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from twinstar.cli.output import console, print_line, stop_on_sigterm
from twinstar.cli.run_simulation import write_json
from twinstar.model.errors import UsageError
from twinstar.simulation.multiwriter.campaign import Finding, Tally, chosen, play_many, search
from twinstar.simulation.multiwriter.plan import draw
from twinstar.simulation.multiwriter.run import Outcome, run_one
from twinstar.simulation.multiwriter.safeguards import REMOVED, focused

_SHOWN = 5
_SAY_EVERY_S = 5.0


class _Saying:
    """A line on standard error now and then."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._said = self.began

    @property
    def real_s(self) -> float:
        return time.monotonic() - self.began

    def say(self, what: str) -> None:
        now = time.monotonic()
        if now - self._said >= _SAY_EVERY_S:
            self._said = now
            sys.stderr.write(f"simulate: {what}, {self.real_s:.0f} s\n")
            sys.stderr.flush()


def replay(seed: int, nodes: int | None, words: list[str], json_file: Path | None) -> None:
    """Plays one seed, without a safeguard if one is named, and tells its story. Exit status 1 when it ends badly.

    Raises UsageError when the words fit several safeguards.
    """
    without = chosen(words) if words else []
    if len(without) > 1:
        raise UsageError(f"{', '.join(without)} are left out one at a time: name one of them with --without.")
    plan = focused(seed, without[0]) if without else draw(seed, nodes)
    outcome = run_one(seed, plan, frozenset(without), story=True)
    if write_json(json_file, {**_document(outcome), "log": outcome.log}):
        print_line(f"seed {seed}: {outcome.plan}")
        for line in outcome.log:
            print_line(line)
        print_line(f"broken: {outcome.breach}" if outcome.breach else "all nodes are equal, and nothing is lost")
        print_line(f"digest {outcome.digest}")
    if outcome.breach:
        raise typer.Exit(1)


def simulate(first: int, count: int, jobs: int | None, nodes: int | None, json_file: Path | None) -> None:
    """Plays seeds on all processors. Exit status 1 when one failed; 130 after Ctrl-C."""
    stop_on_sigterm()
    tally, saying, stopped = Tally(), _Saying(), False
    try:
        with contextlib.closing(play_many(range(first, first + count), jobs or os.cpu_count() or 1, nodes)) as playing:
            for outcome in playing:
                tally.add(outcome)
                saying.say(f"{tally.seeds} of {count} seeds, {len(tally.failures)} failed")
    except KeyboardInterrupt:
        stopped = True
    if write_json(json_file, _report(tally, saying.real_s)):
        show(tally, saying.real_s)
    if tally.failures:
        raise typer.Exit(1)
    if stopped:
        raise typer.Exit(130)


def ablate(words: list[str], first: int, most: int, jobs: int | None, json_file: Path | None) -> None:
    """Prints in which seed each safeguard is missed. Exit status 1 when one is not; 130 after Ctrl-C."""
    stop_on_sigterm()
    safeguards, saying, found, stopped = chosen(words), _Saying(), list[Finding](), False
    try:
        with contextlib.closing(search(safeguards, first, most, jobs or os.cpu_count() or 1)) as searching:
            for finding in searching:
                found.append(finding)
                saying.say(f"{len(found)} of {len(safeguards)} safeguards")
    except KeyboardInterrupt:
        stopped = True
    found.sort(key=lambda each: safeguards.index(each.safeguard))
    missed = [each for each in found if each.seed is None]
    document = [{"safeguard": each.safeguard, "seed": each.seed, "breach": each.breach} for each in found]
    if write_json(json_file, {"schema": 1, "most": most, "safeguards": document}):
        table = Table("left out", "what happens instead", "noticed in seed", box=None, pad_edge=False)
        for each in found:
            table.add_row(each.safeguard, REMOVED[each.safeguard], str(each.seed or f"none of {most}"))
        console().print(table, highlight=False)
    if stopped:
        raise typer.Exit(130)
    if missed:
        raise typer.Exit(1)


def show(tally: Tally, real_s: float) -> None:
    """What was found, for people. `real_s`: what it took, in seconds."""
    out = console()
    for outcome in tally.failures[:_SHOWN]:
        out.print(f"seed {outcome.seed} ({outcome.plan.kind}) failed:", style="bold red")
        out.print(f"  {outcome.breach}\n  see it again: {_again(outcome)}", highlight=False, markup=False)
    if rest := tally.failures[_SHOWN:]:
        out.print(f"and {len(rest)} more: seeds {', '.join(str(each.seed) for each in rest)}")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row(
        "seeds", f"{tally.seeds}, {len(tally.failures)} failed, in {real_s:.1f} s: {_rate(tally, real_s):.0f} a minute"
    )
    table.add_row("steps", f"{tally.steps}, with {tally.commits} transactions that were sent")
    for name, counted in (("faults", tally.faults), ("sometimes", tally.sometimes)):
        table.add_row(name, ", ".join(f"{what} {count}" for what, count in sorted(counted.items())))
    out.print(table, highlight=False)
    if tally.failures:
        out.print(f"[bold red]{len(tally.failures)} of {tally.seeds} seeds failed.[/]")
    else:
        out.print("[bold green]In every seed all nodes ended equal, and nothing that was acknowledged is lost.[/]")


def _rate(tally: Tally, real_s: float) -> float:
    return tally.seeds / real_s * 60 if real_s else 0.0


def _report(tally: Tally, real_s: float) -> dict[str, Any]:
    return {
        "schema": 1,
        "strategy": "active-active",
        "seeds": tally.seeds,
        "failed": [{**_document(outcome), "again": _again(outcome)} for outcome in tally.failures],
        "real_seconds": real_s,
        "seeds_per_minute": _rate(tally, real_s),
        "steps": tally.steps,
        "transactions": tally.commits,
        "faults": tally.faults,
        "sometimes": tally.sometimes,
    }


def _again(outcome: Outcome) -> str:
    """The command that shows it again."""
    wished = f" --members {outcome.plan.nodes}" if outcome.plan != draw(outcome.seed) else ""
    return f"twinstar simulate --strategy active-active --seed {outcome.seed}{wished}"


def _document(outcome: Outcome) -> dict[str, Any]:
    return {
        "seed": outcome.seed,
        "plan": outcome.plan.kind,
        "breach": outcome.breach,
        "steps": outcome.steps,
        "digest": outcome.digest,
    }
