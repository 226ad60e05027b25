"""`twinstar advise`: asks what is wanted, and says which strategy and configuration fit, and what will hurt."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from twinstar.cli.output import console, print_json, print_line
from twinstar.compare.advising import Choice, choose
from twinstar.compare.comparison import Comparison
from twinstar.compare.experience import Experience
from twinstar.compare.hurting import contradictions, hurts
from twinstar.compare.measured import measured
from twinstar.compare.needs import Conflicts, Loss, Needs, milliseconds
from twinstar.compare.starting_file import starting_file
from twinstar.model.errors import UsageError

_Answer = TypeVar("_Answer")
_WIDTH = 110
_NOTHING_MEASURED = (
    "Nothing was measured, so the times above are the least that follows from the configuration. "
    "`twinstar compare --json compare.json` measures all four on this machine in some ten minutes; then give it with "
    "--measured compare.json."
)


def advise(
    loss: Annotated[
        str | None, typer.Option(help="The most that may be lost with a machine: none, a time (5s), or writes (100).")
    ] = None,
    outage: Annotated[
        str | None, typer.Option(help="The longest that a client may go without service when a machine dies: 500ms.")
    ] = None,
    regions: Annotated[int | None, typer.Option(min=1, max=16, help="How many places far from each other.")] = None,
    rtt: Annotated[str | None, typer.Option(help="Round trip between two regions: 40ms.")] = None,
    conflicts: Annotated[
        str | None,
        typer.Option(
            help="How often two places change one row at once: none, rare, often; or counters, when they add."
        ),
    ] = None,
    isolated: Annotated[
        bool | None,
        typer.Option("--isolated/--not-isolated", help="Transactions must be isolated, whichever nodes they are on."),
    ] = None,
    writes_when_cut: Annotated[
        bool | None,
        typer.Option(
            "--writes-when-cut/--no-writes-when-cut", help="A region that is cut off from the others goes on writing."
        ),
    ] = None,
    measured_file: Annotated[
        Path | None, typer.Option("--measured", help="Figures of your own, from `twinstar compare --json FILE`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    write: Annotated[Path | None, typer.Option(help="Write the configuration to start from to this file.")] = None,
) -> None:
    """Say which strategy and configuration fit, with the measured figures behind it, and what will hurt.

    What is not given is asked for on a terminal.
    """
    if write is not None and write.exists():
        raise UsageError(f"{write} exists already: name another file.")
    needs = _needs(loss, outage, regions, rtt, conflicts, isolated, writes_when_cut)
    comparison = measured(measured_file)
    seen = Experience.of(comparison) if comparison else Experience()
    choice = choose(needs, seen)
    text = starting_file(choice, write or Path("twinstar.yaml"))
    against, costs = contradictions(needs, choice, seen), hurts(needs, choice, seen)
    if write is not None:
        _write(write, text)
    if as_json:
        print_json(_document(needs, choice, against, costs, comparison, text))
    else:
        _show(choice, against, costs, comparison, text, write)


def _needs(
    loss: str | None,
    outage: str | None,
    regions: int | None,
    rtt: str | None,
    conflicts: str | None,
    isolated: bool | None,
    writes_when_cut: bool | None,
) -> Needs:
    """Asks for what is None. Raises UsageError where nobody can be asked."""
    kinds = ", ".join(Conflicts)
    wanted_loss = _asked(loss, "--loss", "Largest acceptable loss (none, 5s, or a number of writes)", Loss.parse)
    outage_ms = _asked(
        outage, "--outage", "Largest acceptable outage when a machine dies (such as 500ms)", milliseconds
    )
    count = regions or _asked(None, "--regions", "How many regions", _count)
    apart = count > 1 or rtt is not None
    rtt_ms = _asked(rtt, "--rtt", "Round trip between two regions (such as 40ms)", milliseconds) if apart else 0.0
    kind = _asked(conflicts, "--conflicts", f"How often do two places change one row at once ({kinds})", _kind)
    alone = _yes(isolated, "--isolated or --not-isolated", "Must transactions be isolated, whichever nodes they are on")
    cut = (
        _yes(
            writes_when_cut, "--writes-when-cut or --no-writes-when-cut", "Must a region that is cut off go on writing"
        )
        if count > 1
        else bool(writes_when_cut)
    )
    return Needs(wanted_loss, outage_ms, count, rtt_ms, kind, alone, cut)


def _asked(given: str | None, option: str, question: str, read: Callable[[str], _Answer]) -> _Answer:
    """What was given, or else answered."""
    if given is not None:
        return read(given)
    _somebody_to_ask(option)
    while True:
        answer: str = typer.prompt(question, err=True)
        try:
            return read(answer.strip())
        except UsageError as trouble:
            typer.echo(str(trouble), err=True)


def _yes(given: bool | None, option: str, question: str) -> bool:
    if given is not None:
        return given
    _somebody_to_ask(option)
    return typer.confirm(question, err=True)


def _somebody_to_ask(option: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"Say {option}: there is no terminal to ask at (`twinstar advise --help` explains each).")


def _count(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= 16:
        return int(text)
    raise UsageError(f"{text!r} is no number of regions: say 1 to 16.")


def _kind(text: str) -> Conflicts:
    if text in set(Conflicts):
        return Conflicts(text)
    raise UsageError(f"{text!r} is no answer: say {', '.join(Conflicts)}.")


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as trouble:
        raise UsageError(f"{file} cannot be written ({trouble.strerror}): name another file.") from None


def _document(
    needs: Needs,
    choice: Choice,
    against: tuple[str, ...],
    costs: tuple[str, ...],
    comparison: Comparison | None,
    text: str,
) -> dict[str, Any]:
    shown = asdict(choice)
    reasons = shown.pop("reasons")
    return {
        "needs": asdict(needs),
        "recommended": shown,
        "why": reasons,
        "contradictions": against,
        "hurts": costs,
        "measured": comparison
        and {
            "made": comparison.made,
            "machine": asdict(comparison.machine),
            "options": asdict(comparison.options),
            "contestant": choice.contestant,
            "lines": [asdict(line) for line in comparison.lines],
        },
        "twinstar_yaml": text,
    }


def _show(
    choice: Choice,
    against: tuple[str, ...],
    costs: tuple[str, ...],
    comparison: Comparison | None,
    text: str,
    written: Path | None,
) -> None:
    print_line(f"{choice.strategy} with durability {choice.durability}, preset {choice.preset}")
    for line in _placement(choice, measured=comparison is not None):
        print_line(f"  {line}")
    _sentences("Why", choice.reasons)
    _sentences("What cannot be had together", against)
    _figures(choice, comparison)
    _sentences("What will hurt", costs)
    keys = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    if written is not None:
        print_line(f"\nwrote  {written}")
    else:
        print_line("\ntwinstar.yaml to start from (--write FILE writes it, with a comment at each key)\n")
        print_line(textwrap.indent(keys, "  "))


def _placement(choice: Choice, *, measured: bool) -> list[str]:
    def places(counts: tuple[int, ...]) -> str:
        named = [f"{count} in region {number}" for number, count in enumerate(counts, 1) if count]
        return ", ".join(named) if len(choice.nodes) > 1 else "on machines that do not fail together"

    stores = sum(choice.stores) + choice.elsewhere
    third = f", {choice.elsewhere} in a third place" if choice.elsewhere else ""
    lines = [f"{sum(choice.nodes)} nodes: {places(choice.nodes)}", f"{stores} etcd: {places(choice.stores)}{third}"]
    if choice.required is not None:
        lines.append(f"a commit waits for {choice.required} other {'nodes' if choice.required > 1 else 'node'}")
    if choice.lease_ms is not None:
        lines.append(f"a lease of {choice.lease_ms:,} ms")
    lines.append(f"outage when a machine dies: {'about' if measured else 'at least'} {choice.outage_ms:,.0f} ms")
    return lines


def _sentences(title: str, sentences: tuple[str, ...]) -> None:
    if not sentences:
        return
    print_line(f"\n{title}")
    for sentence in sentences:
        print_line(textwrap.fill(sentence, _WIDTH, initial_indent="  - ", subsequent_indent="    "))


def _figures(choice: Choice, comparison: Comparison | None) -> None:
    """Every line of the comparison."""
    if comparison is None:
        print_line("\nFigures")
        print_line(textwrap.indent(textwrap.fill(_NOTHING_MEASURED, _WIDTH - 2), "  "))
        return
    from twinstar.compare.table import about, table
    from twinstar.compare.why import short

    print_line(f"\nFigures, measured; {short(choice.contestant)} is what is recommended")
    console().print(table(comparison))
    print_line(textwrap.fill(about(comparison), _WIDTH))
