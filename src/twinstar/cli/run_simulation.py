"""`twinstar simulate`: many seeds with a table, or one with its story."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from twinstar.cli.output import console, print_json, print_line, stop_on_sigterm
from twinstar.model.errors import UsageError
from twinstar.model.register import Durability
from twinstar.simulation.campaign import Tally, play_many
from twinstar.simulation.coverage import SOMETIMES
from twinstar.simulation.plan import Plan, StoreKind, Wishes, draw
from twinstar.simulation.run import Outcome, run_one

Word = TypeVar("Word", bound=StrEnum)

_ALL = "all"
_HOUR_MS = 3_600_000
_STORY_END = 12
"""So many lines of a failed seed's story are shown."""
_SHOWN = 5
"""So many failures are shown in full."""
_SAY_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for on the command line, apart from how many seeds."""

    wishes: Wishes
    options: str
    """The same as options, for the command that shows a seed again."""

    @classmethod
    def of(cls, members: int | None, durability: str, store: str) -> Order:
        """Raises UsageError for a word that is none."""
        wishes = Wishes(members, _word(Durability, "durability", durability), _word(StoreKind, "store", store))
        given = {"members": wishes.members, "durability": wishes.durability, "store": wishes.store}
        return cls(wishes, "".join(f" --{name} {value}" for name, value in given.items() if value is not None))

    def again(self, seed: int) -> str:
        """The command that shows a seed again."""
        return f"twinstar simulate --seed {seed}{self.options}"


def _word(kind: type[Word], what: str, given: str) -> Word | None:
    if given == _ALL:
        return None
    if given not in set(kind):
        raise UsageError(f"There is no {what} {given!r}: choose one of {', '.join(kind)}, or {_ALL}.")
    return kind(given)


# -- one seed ----------------------------------------------------------------------------------------------------------


def replay(seed: int, order: Order, json_file: Path | None, *, verbose: bool, plan: Plan | None = None) -> None:
    """Plays one seed and tells its story, with what the agents log if `verbose`. Exit status 1 when something was
    broken.
    """
    outcome = run_one(seed, plan or draw(seed, order.wishes), closely=verbose)
    if write_json(json_file, _document(outcome, order)):
        print_line(_plan(outcome))
        for line in outcome.log:
            print_line(line)
        print_line(f"broken: {outcome.breach}" if outcome.breach else "nothing was broken")
        print_line(f"digest {outcome.digest}")
    if outcome.breach:
        raise typer.Exit(1)


def _plan(outcome: Outcome) -> str:
    plan = outcome.plan
    return (
        f"seed {outcome.seed}: {plan.size} members, {plan.durability}, policy {plan.policy}, store {plan.store}; "
        f"{outcome.virtual_ms / 1000:.1f} s of virtual time, {outcome.failovers} failover(s)"
    )


def _document(outcome: Outcome, order: Order) -> dict[str, Any]:
    plan = outcome.plan
    return {
        "seed": outcome.seed,
        "again": order.again(outcome.seed),
        "members": plan.size,
        "durability": plan.durability,
        "policy": plan.policy,
        "store": plan.store,
        "breach": outcome.breach,
        "virtual_ms": round(outcome.virtual_ms, 1),
        "failovers": outcome.failovers,
        "faults": outcome.faults,
        "sometimes": outcome.sometimes,
        "digest": outcome.digest,
        "log": outcome.log,
    }


# -- many seeds --------------------------------------------------------------------------------------------------------


def simulate_many(
    first: int, count: int | None, minutes: float | None, jobs: int | None, order: Order, json_file: Path | None
) -> None:
    """Plays seeds on all processors. Exit status 1 when one failed, or none had a failover; 130 after Ctrl-C."""
    stop_on_sigterm()
    tally, began, stopped = Tally(), time.monotonic(), False
    seeds = range(first, first + count) if count is not None else itertools.count(first)
    playing = play_many(seeds, order.wishes, jobs or os.cpu_count() or 1, minutes)
    try:
        with contextlib.closing(playing), _progress(count) as show:
            for outcome in playing:
                tally.add(outcome)
                show(tally, time.monotonic() - began)
    except KeyboardInterrupt:
        stopped = True
    real_s = time.monotonic() - began
    if write_json(json_file, _report(tally, real_s, order)):
        show_campaign(tally, real_s, order)
    if tally.failures or not (tally.failovers or stopped):
        raise typer.Exit(1)
    if stopped:
        raise typer.Exit(130)


@contextlib.contextmanager
def _progress(total: int | None) -> Iterator[Callable[[Tally, float], None]]:
    """A bar on a terminal; elsewhere a line now and then. Both on standard error."""
    if not sys.stderr.isatty():
        said = [-_SAY_EVERY_S]

        def say(tally: Tally, real_s: float) -> None:
            if real_s - said[0] >= _SAY_EVERY_S:
                said[0] = real_s
                sys.stderr.write(f"simulate: {len(tally.outcomes)} seeds, {_state(tally, real_s)}\n")
                sys.stderr.flush()

        yield say
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("seeds, {task.fields[state]}"), TimeElapsedColumn())
    # Without a thread that refreshes it: the processes are forks.
    with Progress(*columns, console=console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=total, state="starting")
        yield lambda tally, real_s: bar.update(
            task, completed=len(tally.outcomes), state=_state(tally, real_s), refresh=True
        )


def _state(tally: Tally, real_s: float) -> str:
    return f"{len(tally.failures)} failed, {_speed(tally, real_s):.1f} virtual hours a minute"


def _speed(tally: Tally, real_s: float) -> float:
    """Virtual hours per real minute."""
    return tally.virtual_ms / _HOUR_MS / (real_s / 60) if real_s else 0.0


def show_campaign(tally: Tally, real_s: float, order: Order) -> None:
    """The failures first, then the figures, what was never reached, and the verdict."""
    out = console()
    for outcome in tally.failures[:_SHOWN]:
        out.print(f"seed {outcome.seed} ({outcome.kind}, {outcome.plan.store}) failed:", style="bold red")
        for line in (*outcome.log[-_STORY_END:], outcome.breach or "", f"see it again: {order.again(outcome.seed)}"):
            out.print(f"  {line}", highlight=False, markup=False)
    if rest := tally.failures[_SHOWN:]:
        out.print(f"and {len(rest)} more: seeds {', '.join(str(each.seed) for each in rest)}")
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in _figures(tally, real_s).items():
        table.add_row(name, value)
    out.print(table, highlight=False)
    for what in tally.never:
        out.print(f"No run ever reached this: {SOMETIMES[what]} ({what}).", style="yellow")
    out.print(_verdict(tally))


def _figures(tally: Tally, real_s: float) -> dict[str, str]:
    return {
        "seeds": f"{len(tally.outcomes)}, {len(tally.failures)} failed",
        "virtual time": f"{tally.virtual_ms / _HOUR_MS:.2f} hours in {real_s / 60:.1f} minutes: "
        f"{_speed(tally, real_s):.1f} hours a minute",
        "failovers": f"{tally.failovers}, in {sum(each.failovers > 0 for each in tally.outcomes)} of the seeds",
        "faults": ", ".join(f"{name} {count}" for name, count in sorted(tally.faults.items())),
        "sometimes": ", ".join(f"{name} {tally.sometimes[name]}" for name in SOMETIMES),
    }


def _verdict(tally: Tally) -> str:
    if tally.failures:
        return f"[bold red]{len(tally.failures)} of {len(tally.outcomes)} seeds failed.[/]"
    if not tally.failovers:
        return "[bold red]No failover ever happened, so this proves nothing: play more seeds.[/]"
    return "[bold green]Every seed ended well: no invariant broken, all served again.[/]"


def _report(tally: Tally, real_s: float, order: Order) -> dict[str, Any]:
    return {
        "schema": 1,
        "seeds": len(tally.outcomes),
        "failed": [outcome.seed for outcome in tally.failures],
        "virtual_hours": tally.virtual_ms / _HOUR_MS,
        "real_minutes": real_s / 60,
        "virtual_hours_per_minute": _speed(tally, real_s),
        "failovers": tally.failovers,
        "faults": tally.faults,
        "sometimes": {what: tally.sometimes[what] for what in SOMETIMES},
        "never": tally.never,
        "runs": [_document(outcome, order) for outcome in tally.outcomes],
    }


def write_json(file: Path | None, document: dict[str, Any]) -> bool:
    """Writes JSON where it is wanted; whether the terminal is free for people. Raises UsageError."""
    if str(file) == "-":
        print_json(document)
        return False
    if file is not None:
        try:
            file.write_text(json.dumps(document), encoding="utf-8")
        except OSError as trouble:
            raise UsageError(f"{file} cannot be written ({trouble.strerror}): name another file.") from None
    return True
