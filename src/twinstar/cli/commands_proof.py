"""Commands that show what is promised: drill, demo and simulate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twinstar.cli.output import ConfigOption, JsonOption
from twinstar.model.errors import UsageError

_FAULTS = (
    "kill-database, kill-node, hang-node, kill-standby, kill-backend, hang-database, kill-agent, hang-agent, "
    "kill-guard, kill-agent-then-database, partition, stop-store, switchover; with a managed store: fill-store, "
    "kill-witness; active-active: leave; `idle` measures "
    "what agent and guard cost"
)


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command()(drill)
    app.command()(demo)
    app.command()(compare)
    app.command()(simulate)


def drill(
    fault: Annotated[str, typer.Argument(help=_FAULTS + ".")],
    repeat: Annotated[int, typer.Option(min=1, help="How often.")] = 1,
    busy_standby: Annotated[
        bool, typer.Option("--busy-standby", help="With a long repeatable-read query on every standby.")
    ] = False,
    clients: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="How many clients write; else 2, or 2 for each node that takes writes."),
    ] = None,
    pause_ms: Annotated[float, typer.Option(min=0, help="Of a client, between two writes.")] = 5.0,
    deadline_ms: Annotated[float, typer.Option(min=50, help="Of a client, for one write.")] = 3_000.0,
    length_ms: Annotated[float, typer.Option(min=500, help="How long a run goes on after the fault.")] = 4_000.0,
    seconds: Annotated[float, typer.Option(min=1, help="With `idle`: how long is measured.")] = 30.0,
    throw_away: Annotated[
        bool, typer.Option("--throw-away", help="On a cluster made for it, although one is here.")
    ] = False,
    nodes: Annotated[int | None, typer.Option(help="Of the throw-away cluster, as with `up`.")] = None,
    strategy: Annotated[str | None, typer.Option(help="As with `up`.")] = None,
    durability: Annotated[str | None, typer.Option(help="As with `up`.")] = None,
    store: Annotated[str | None, typer.Option(help="As with `up`.")] = None,
    witnesses: Annotated[int | None, typer.Option(min=0, help="As with `up`.")] = None,
    policy: Annotated[str | None, typer.Option(help="As with `up`.")] = None,
    preset: Annotated[str | None, typer.Option(help="As with `up`.")] = None,
    bin_dir: Annotated[Path | None, typer.Option(help="As with `up`.")] = None,
    lease_ms: Annotated[int | None, typer.Option(help="As with `up`.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything to this file ('-': print).")
    ] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a page with plots to this file.")] = None,
    config: ConfigOption = None,
) -> None:
    """Break the cluster on purpose, and measure how long clients were without service and what was lost.

    It works on the running cluster of this folder, or on one that is made for it and removed afterwards.
    """
    from twinstar.cli.run_drill import Files, run_drill
    from twinstar.cli.wishes import wishes_of

    kept_in = store or ("etcd" if fault == "partition" else None)
    wishes = wishes_of(nodes, strategy, durability, kept_in, policy, preset, bin_dir, lease_ms, witnesses)
    options = {
        "repeat": repeat,
        "busy_standby": busy_standby,
        "clients": clients,
        "pause_ms": pause_ms,
        "deadline_ms": deadline_ms,
        "after_ms": length_ms,
    }
    run_drill(fault, options, wishes, Files(json_file, html_file), config, throw_away=throw_away, seconds=seconds)


def demo(
    bin_dir: Annotated[Path | None, typer.Option(help="Where PostgreSQL's programs are.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Both strategies on three nodes each: clients that write, faults, and what they cost. Takes some two minutes."""
    from twinstar.cli.demo import run_demo

    run_demo(bin_dir, as_json=as_json)


def compare(
    quick: Annotated[bool, typer.Option("--quick", help="Two faults and short windows: under two minutes.")] = False,
    repeat: Annotated[int, typer.Option(min=1, help="How often each fault strikes.")] = 1,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="A strategy, a durability or both (active-active-quorum); or a measure: speed, resources, staleness, "
            "conflicts, availability, complexity. Can be given several times."
        ),
    ] = None,
    rtt: Annotated[
        str | None, typer.Option(help="Round trip between any two nodes: 40ms. Needs root, for networks of its own.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides which rows the clients choose.")] = 1,
    bin_dir: Annotated[Path | None, typer.Option(help="Where PostgreSQL's programs are.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything to this file ('-': print).")
    ] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a page with plots to this file.")] = None,
) -> None:
    """Measure what each strategy and durability really costs: the same faults and clients, one table, and why.

    On clusters that are made for it and removed afterwards; takes some ten minutes.
    """
    from twinstar.cli.run_compare import Wanted, run_compare
    from twinstar.compare.needs import milliseconds

    rtt_ms = milliseconds(rtt) if rtt is not None else 0.0
    run_compare(Wanted(quick, repeat, rtt_ms, tuple(only or ()), seed, bin_dir), json_file, html_file)


def simulate(
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many; else 1000, or as many as --minutes allow; with --ablations at most, else 200 "
            "(active-active: 3000).",
        ),
    ] = None,
    first_seed: Annotated[int, typer.Option(min=0, help="They are counted from this one.")] = 1,
    seed: Annotated[int | None, typer.Option(min=0, help="Play this one alone, and tell its story.")] = None,
    strategy: Annotated[
        str, typer.Option(help="active-passive, or active-active: the rules for conflicts, on models of databases.")
    ] = "active-passive",
    verbose: Annotated[bool, typer.Option("--verbose", help="With --seed: also what the agents log.")] = False,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Begin no seed after this time.")] = None,
    members: Annotated[int | None, typer.Option(min=2, max=7, help="How many; else the seed decides.")] = None,
    durability: Annotated[str, typer.Option(help="quorum, async, or all: the seed decides.")] = "all",
    store: Annotated[
        str, typer.Option(help="embedded, etcd, zookeeper, kubernetes, or all: the seed decides.")
    ] = "all",
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; else one for each processor.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything to this file ('-': print).")
    ] = None,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="Take out each safeguard in turn: within how many seeds is it noticed?")
    ] = False,
    without: Annotated[
        list[str] | None, typer.Option(help="Only safeguards with this in their name; with --seed: play it without.")
    ] = None,
) -> None:
    """Play invented disasters on virtual time, with the very code that agents and guards run.

    Each seed decides one cluster and its bad day; the same seed gives the same story. Exit status 1 when an
    acknowledged write was lost, another invariant was broken, or a cluster did not serve again.
    """
    if strategy == "active-active":
        fixed = members is not None and (ablations or bool(without))
        _refuse(verbose=verbose, minutes=minutes, durability=durability != "all", store=store != "all", members=fixed)
        _simulate_multiwriter(seeds, first_seed, seed, members, jobs, json_file, ablations=ablations, without=without)
        return
    if strategy != "active-passive":
        raise UsageError(f"There is no strategy {strategy!r}: choose active-passive or active-active.")
    from twinstar.cli.run_simulation import Order, replay, simulate_many

    order = Order.of(members, durability, store)
    if ablations or without:
        from twinstar.cli.run_ablations import ablate, replay_without

        if seed is None:
            ablate(without or [], first_seed, seeds or 200, jobs, json_file)
        else:
            replay_without(without or [], seed, order, json_file, verbose=verbose)
    elif seed is not None:
        replay(seed, order, json_file, verbose=verbose)
    else:
        count = seeds if seeds is not None or minutes is not None else 1000
        simulate_many(first_seed, count, minutes, jobs, order, json_file)


def _refuse(**given: object) -> None:
    """Raises UsageError for options that are nothing to active-active here."""
    if unfit := [f"--{name}" for name, there in given.items() if there]:
        raise UsageError(f"With --strategy active-active there is no {', '.join(unfit)} here: leave it out.")


def _simulate_multiwriter(
    seeds: int | None,
    first_seed: int,
    seed: int | None,
    members: int | None,
    jobs: int | None,
    json_file: Path | None,
    *,
    ablations: bool,
    without: list[str] | None,
) -> None:
    from twinstar.cli import run_multiwriter

    if seed is not None:
        run_multiwriter.replay(seed, members, without or [], json_file)
    elif ablations or without:
        run_multiwriter.ablate(without or [], first_seed, seeds or 3000, jobs, json_file)
    else:
        run_multiwriter.simulate(first_seed, seeds or 1000, jobs, members, json_file)
