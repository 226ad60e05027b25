"""What a drill has found, for people."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from twinstar.cli.output import console
from twinstar.drill.report import machine, summary
from twinstar.drill.run import Drill


def show_drill(result: Drill, written: list[Path]) -> None:
    """The table, and the figures in a sentence."""
    out = console()
    many = any(repetition.faulty.apart for repetition in result.repetitions)
    out.print(sides_table(result) if many else _of_leaders(result))
    out.print(f"[dim]{machine()}; {', '.join(f'{key} {value}' for key, value in result.cluster.items())}[/]")
    if (alone := summary(result).cut_off_acknowledged) is not None:
        out.print(
            f"The node that was cut off has acknowledged {alone} writes meanwhile, to a client that stayed with it."
        )
    out.print(_verdict(result))
    for file in written:
        out.print(f"Written: {file}", highlight=False)


def _verdict(result: Drill) -> str:
    figures = summary(result)
    if figures.lost or figures.phantoms:
        return f"[bold red]{figures.lost} acknowledged writes lost, {figures.phantoms} rows that nobody wrote.[/]"
    if figures.others_failed:
        return f"[bold red]{figures.others_failed} statements failed on nodes that nothing had struck.[/]"
    if not figures.survived:
        return "[bold red]Clients were not served again in every run.[/]"
    return f"[bold green]Survived {figures.repetitions} of {figures.repetitions}; no acknowledged write lost.[/]"


def _of_leaders(result: Drill) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    heads = ("run", "outage ms", "control ms", "acked", "failed", "unknown", "lost", "twice", "epoch")
    for head in heads:
        table.add_column(head, justify="left" if head == "run" else "right")
    table.add_column("leader")
    for number, repetition in enumerate(result.repetitions, 1):
        run, found = repetition.faulty, repetition.faulty.audit
        table.add_row(
            *(str(number), f"{run.outage_ms:.0f}", f"{repetition.control.outage_ms:.0f}", str(found.acknowledged)),
            *(str(found.failed), str(found.unknown), str(len(found.lost)), str(found.duplicates)),
            *(f"{run.epoch_before} → {run.epoch_after}", f"{run.leader_before} → {run.leader_after}"),
        )
    figures = summary(result)
    medians = (f"{figures.median_outage_ms:.0f}", f"{figures.control_median_ms:.0f}")
    table.add_row("median", *medians, *[""] * 7, style="bold")
    table.add_row("maximum", f"{figures.maximum_outage_ms:.0f}", f"{figures.control_maximum_ms:.0f}", *[""] * 7)
    return table


def sides_table(result: Drill) -> Table:
    """Where every node takes writes: the clients of the struck node and all others."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    heads = ("run", "its clients ms", "others ms", "control ms", "acked", "others failed", "unknown", "lost", "twice")
    for head in heads:
        table.add_column(head, justify="left" if head == "run" else "right")
    table.add_column("node")
    for number, repetition in enumerate(result.repetitions, 1):
        run, found, sides = repetition.faulty, repetition.faulty.audit, repetition.faulty.apart
        if sides is None:
            continue
        table.add_row(
            *(str(number), f"{sides.struck_outage_ms:.0f}", f"{sides.others_outage_ms:.0f}"),
            *(f"{repetition.control.outage_ms:.0f}", str(found.acknowledged), str(sides.others_failed)),
            *(str(found.unknown), str(len(found.lost)), str(found.duplicates), run.target),
        )
    figures = summary(result)
    for name in ("median", "maximum"):
        kinds = (f"struck_{name}_ms", f"others_{name}_ms", f"control_{name}_ms")
        table.add_row(name, *(f"{getattr(figures, kind):.0f}" for kind in kinds), *[""] * 6, style="bold")
    return table
