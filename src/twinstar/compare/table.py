"""The comparison in the terminal: one table, a sentence for each line below it."""

from __future__ import annotations

from itertools import groupby

from rich.console import Console
from rich.table import Table

from twinstar.compare.comparison import Comparison
from twinstar.compare.why import short


def show(out: Console, made: Comparison) -> None:
    """Prints it."""
    out.print(table(made))
    out.print()
    out.print("[bold]Why[/]")
    for topic, group in groupby(made.lines, key=lambda line: line.topic):
        out.print(f"[dim]{topic}[/]")
        for line in group:
            out.print(f"  {line.line}: {line.why}", highlight=False, markup=False)
    out.print()
    out.print(f"[dim]{about(made)}[/]", highlight=False)


def table(made: Comparison) -> Table:
    """A column for each contestant; AP, AA: active-passive, active-active."""
    shown = Table(box=None, pad_edge=False, header_style="dim")
    shown.add_column("")
    shown.add_column("")
    for name in made.contestants:
        shown.add_column(short(name), justify="right")
    last = ""
    for line in made.lines:
        figures = [line.figures[name].text if name in line.figures else "" for name in made.contestants]
        shown.add_row(line.topic if line.topic != last else "", line.line, *figures)
        last = line.topic
    return shown


def about(made: Comparison) -> str:
    """Where and how it was measured, in one line."""
    machine, options = made.machine, made.options
    how = "quick" if options.quick else "full"
    rtt = f", {options.rtt_ms:g} ms added to each round trip between nodes" if options.rtt_ms else ""
    return (
        f"{machine.cores} × {machine.cpu}, {machine.memory_gib:.0f} GiB, PostgreSQL {machine.postgresql}, "
        f"Twinstar {machine.commit}; nodes and clients on one machine; {how}, {options.repeat} ×{rtt}; {made.made}"
    )
