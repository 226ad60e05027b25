"""`twinstar demo`: both strategies, three nodes each, clients that write, faults, and a table of what they cost.

Active-passive first: the acts are the drill's own faults on a throw-away cluster; one workload writes through the
router all the time, and at the end every acknowledged row is looked for. Then active-active (`demo_nodes`).
"""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from twinstar.cli import demo_nodes
from twinstar.cli.ask import ask_history
from twinstar.cli.demo_screen import LiveScreen, PlainScreen, Screen
from twinstar.cli.local_cluster import LocalCluster
from twinstar.cli.make_cluster import Wishes, throw_away
from twinstar.cli.output import console, print_json, stop_on_sigterm
from twinstar.cli.show_history import completed, history_table
from twinstar.cli.up import serving_cluster
from twinstar.drill.driver import Workload, make_table, present
from twinstar.drill.faults import Fault, inject
from twinstar.drill.history import Attempt, Audit, audit, longest_gap
from twinstar.drill.session import boot_ms
from twinstar.drill.target import wait_until_serving
from twinstar.histories.operation import Outcome
from twinstar.model.errors import EnvironmentTrouble

_CALM_S = 3.0
_HEAL_S = 45.0
_SERVICE_S = 20.0
_BEFORE_MS = 500.0
_TICK_S = 0.05
_CLIENTS = 2
_PAUSE_MS = 5.0
_DEADLINE_MS = 3_000.0


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that happens in the demo. Times are the boot clock's."""

    title: str
    struck: str
    from_ms: float
    to_ms: float
    served_again: bool
    leader_after: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What an act cost its clients."""

    act: str
    struck: str
    outage_ms: float
    failed_statements: int
    leader_after: str
    survived: bool


_ACTS = (
    (
        Fault.KILL_NODE,
        "The leader's node dies",
        "Killing {leader}, which leads: agent, guard and database at once.",
    ),
    (
        Fault.KILL_DATABASE,
        "The leader's database dies",
        "Killing the database of {leader} alone, which leads now.",
    ),
    (
        Fault.SWITCHOVER,
        "Planned switchover",
        "Handing the leadership of {leader} over, as for maintenance.",
    ),
)


def run_demo(bin_dir: Path | None, *, as_json: bool) -> None:
    """The command. Exit status 0 only if nothing was lost and every fault was survived."""
    stop_on_sigterm()
    out = console(stderr=as_json)
    screen: Screen = LiveScreen(out) if out.is_terminal else PlainScreen(out)
    with screen:
        costs, found, history = _play(screen, bin_dir)
        nodes = demo_nodes.play(screen, bin_dir)
    survived = found.sound and len(costs) == len(_ACTS) and all(cost.survived for cost in costs) and nodes.survived
    if as_json:
        acts = [asdict(cost) for cost in costs]
        print_json({"acts": acts, "audit": asdict(found), "history": history, "active_active": nodes.facts()})
    else:
        _show(out, costs, found, history)
        demo_nodes.show(out, nodes)
        _verdict(out, survived)
    if not survived:
        raise typer.Exit(1)


def _play(screen: Screen, bin_dir: Path | None) -> tuple[list[Cost], Audit, list[dict[str, Any]]]:
    screen.say("Starting three PostgreSQL nodes, their guards and agents, a store and a router on this machine.")
    wishes = Wishes(nodes=3, preset="fast", bin_dir=bin_dir)
    with throw_away(wishes, "demo") as file, serving_cluster(file, screen.detail) as (_, cluster, view):
        make_table(view.write)
        run = secrets.token_hex(4)
        with Workload(view.write, run, _CLIENTS, _PAUSE_MS, _DEADLINE_MS) as clients, screen.watching(cluster, clients):
            acts = [_perform(act, cluster, clients, screen) for act in _ACTS]
            attempts = clients.stop()
        screen.say("Looking for every acknowledged row on the leader.")
        wait_until_serving(cluster, _HEAL_S, screen.detail)
        found = audit(attempts, present(view.write, run))
        return [_cost(act, attempts) for act in acts], found, completed(ask_history(cluster.config))


def _perform(act: tuple[Fault, str, str], cluster: LocalCluster, clients: Workload, screen: Screen) -> Act:
    """Strikes, waits for service, heals, waits until all are back, and lets the clients write for a while."""
    fault, title, sentence = act
    _write_in_calm(clients, screen)
    view = wait_until_serving(cluster, _HEAL_S, screen.detail)
    screen.say(sentence.format(leader=view.leader))
    from_ms = boot_ms() - _BEFORE_MS
    injected = inject(fault, cluster, view)
    served = _await_service(clients)
    to_ms = boot_ms()
    screen.say(
        f"Clients are served again; {view.leader} comes back." if served else "Clients are still without service."
    )
    injected.heal(cluster)
    after = wait_until_serving(cluster, _HEAL_S, screen.detail)
    return Act(title, view.leader, from_ms, to_ms, served, after.leader)


def _write_in_calm(clients: Workload, screen: Screen) -> None:
    before, until = clients.counters.acknowledged, time.monotonic() + _CALM_S
    screen.say("All three nodes stream; clients write through the router.")
    while time.monotonic() < until:
        time.sleep(_TICK_S)
    if clients.counters.acknowledged == before:
        raise EnvironmentTrouble("The clients cannot write although the cluster serves: look at the router's log.")


def _await_service(clients: Workload) -> bool:
    """Whether clients have been served for a while again: a second with writes in each part of it."""
    until, calm_parts = time.monotonic() + _SERVICE_S, 0
    last = clients.counters.acknowledged
    while time.monotonic() < until:
        time.sleep(0.25)
        now = clients.counters.acknowledged
        calm_parts = calm_parts + 1 if now - last > 10 else 0
        if calm_parts == 6:
            return True
        last = now
    return False


def _cost(act: Act, attempts: list[Attempt]) -> Cost:
    gap = longest_gap(attempts, act.from_ms, act.to_ms)
    failed = [
        attempt
        for attempt in attempts
        if attempt.outcome is not Outcome.ACKNOWLEDGED and act.from_ms <= attempt.ended_ms <= act.to_ms
    ]
    return Cost(act.title, act.struck, gap.length_ms, len(failed), act.leader_after, act.served_again)


def _show(out: Console, costs: list[Cost], found: Audit, history: list[dict[str, Any]]) -> None:
    table = Table(title="What it cost", title_justify="left", box=None, pad_edge=False, header_style="dim")
    for head in ("fault", "at", "outage", "failed statements", "leads afterwards"):
        table.add_column(head, justify="right" if head in ("outage", "failed statements") else "left")
    for cost in costs:
        table.add_row(
            *(cost.act, cost.struck, f"{cost.outage_ms:.0f} ms", str(cost.failed_statements), cost.leader_after)
        )
    out.print(table)
    led = history_table(history)
    led.title, led.title_justify = "Who led", "left"
    out.print(led)
    out.print(
        f"Acknowledged writes: {found.acknowledged}. Acknowledged writes lost: {len(found.lost)}.", highlight=False
    )


def _verdict(out: Console, survived: bool) -> None:
    if survived:
        out.print("[bold green]Every fault was survived and nothing was lost.[/]")
    else:
        out.print("[bold red]Not every fault was survived, or something was lost.[/]")
