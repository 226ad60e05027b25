"""`twinstar drill`: on the running cluster or on a throw-away one, with a table, JSON and a page."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from twinstar.cli.local_cluster import LocalCluster
from twinstar.cli.local_files import find_config
from twinstar.cli.make_cluster import Wishes, hosts_of, throw_away
from twinstar.cli.namespaces import Network, network
from twinstar.cli.output import console, print_json, progress, stop_on_sigterm
from twinstar.cli.show_drill import show_drill
from twinstar.cli.up import serving_cluster
from twinstar.drill import idle
from twinstar.drill.faults import Fault
from twinstar.drill.page import page
from twinstar.drill.report import machine, to_json
from twinstar.drill.run import Options, drill
from twinstar.drill.target import wait_until_serving
from twinstar.model.errors import EnvironmentTrouble, UsageError
from twinstar.ports import procfs

_IDLE = "idle"
_CLIENTS = "clients"
"""In a network of the cluster's own, where the clients and this command are."""
_SETTLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Files:
    """Where results go, besides the terminal."""

    json: Path | None = None
    html: Path | None = None

    @property
    def print_json(self) -> bool:
        return str(self.json) == "-"

    def write(self, report: dict[str, Any]) -> None:
        """Raises UsageError when a file cannot be written."""
        try:
            if self.print_json:
                print_json(report)
            elif self.json is not None:
                self.json.write_text(json.dumps(report), encoding="utf-8")
            if self.html is not None:
                self.html.write_text(page(report), encoding="utf-8")
        except OSError as trouble:
            raise UsageError(f"{trouble.filename} cannot be written ({trouble.strerror}): name another file.") from None


def run_drill(
    fault: str,
    options: dict[str, Any],
    wishes: Wishes,
    files: Files,
    config: Path | None,
    *,
    throw_away: bool,
    seconds: float,
) -> None:
    """The command. Exit status 1 when something was lost or a fault was not survived."""
    stop_on_sigterm()
    if fault != _IDLE and fault not in set(Fault):
        raise UsageError(f"There is no fault {fault!r}: choose one of {', '.join(Fault)}, or {_IDLE}.")
    apart = fault == Fault.PARTITION
    if apart and wishes.store in ("embedded", "kubernetes"):
        raise UsageError(
            f"A drill reaches the store {wishes.store} without a network, so nobody can be cut off from it: leave out "
            "--store, or choose etcd, zookeeper or managed."
        )
    with progress(f"drill {fault}") as say, _cluster(config, wishes, throw_away, say, apart=apart) as cluster:
        if fault == _IDLE:
            _show_idle(_measure_idle(cluster, seconds, say), files)
            return
        about = describe(cluster)
        per_node = 2 * int(about["nodes"]) if about["strategy"] == "active-active" else 2
        options["clients"] = options["clients"] or per_node
        result = drill(cluster, Options(Fault(fault), **options), about, say)
    files.write(to_json(result))
    if not files.print_json:
        show_drill(result, [file for file in (files.json, files.html) if file is not None])
    if not result.survived:
        raise typer.Exit(1)


@contextlib.contextmanager
def _cluster(
    config: Path | None, wishes: Wishes, wanted: bool, say: Callable[[str], None], *, apart: bool
) -> Iterator[LocalCluster]:
    """The running one, or one made for it; `apart`: with a network namespace for each node."""
    running = None if wanted else _running(config)
    if running is not None:
        if wishes != Wishes():
            raise UsageError(
                "The running cluster of this folder is as it is: add --throw-away for a new one with these options, "
                "or leave them out."
            )
        if apart:
            running.network()
        yield running
        return
    with (
        _own_network(wishes) if apart else contextlib.nullcontext() as net,
        throw_away(wishes, "drill", net) as file,
        serving_cluster(file, say) as (_, cluster, _view),
    ):
        yield cluster


@contextlib.contextmanager
def _own_network(wishes: Wishes) -> Iterator[Network]:
    """Namespaces for everybody of a new cluster; this process is among the clients meanwhile."""
    with network([*hosts_of(wishes), _CLIENTS]) as net, net.inside(_CLIENTS):
        yield net


def _running(config: Path | None) -> LocalCluster | None:
    try:
        cluster = LocalCluster(find_config(config))
    except UsageError:
        if config is not None:
            raise
        return None
    if cluster.state() is not None:
        return cluster
    if config is not None:
        raise UsageError("This cluster is not up on this machine: start it with `twinstar up`, or add --throw-away.")
    return None


def describe(cluster: LocalCluster) -> dict[str, str]:
    """What a report says about the cluster."""
    status = cluster.status()
    return {
        "nodes": str(len(status["members"])),
        "strategy": status["strategy"],
        "durability": status["durability"],
        "required": str(status["required"]),
        "preset": cluster.config.preset,
        "store": status["store"]["kind"],
        "policy": status["policy"],
    }


def _measure_idle(cluster: LocalCluster, seconds: float, say: Callable[[str], None]) -> list[idle.Cost]:
    """Of each node's agent and guard."""
    view = wait_until_serving(cluster, 60.0, say)
    runs = {}
    for member in (view.member(view.leader), *view.standbys):
        for part, pid in (("agent", member.agent_pid), ("guard", member.guard_pid)):
            run = procfs.run_id(pid) if pid else None
            if run is None:
                raise EnvironmentTrouble(
                    f"The {part} of {member.name} does not run here: `twinstar start {member.name}`."
                )
            runs[f"{member.name} ({member.role}) {part}"] = run
    say("letting it come to rest")
    time.sleep(_SETTLE_S)
    say(f"measuring for {seconds:g} s")
    return idle.measure(runs, seconds)


def _show_idle(costs: list[idle.Cost], files: Files) -> None:
    if files.json is not None:
        document = {"schema": 1, "machine": machine(), "costs": [asdict(cost) for cost in costs]}
        if files.print_json:
            print_json(document)
            return
        files.json.write_text(json.dumps(document), encoding="utf-8")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in ("process", "RSS MiB", "PSS MiB", "% of a core"):
        table.add_column(head, justify="left" if head == "process" else "right")
    for cost in costs:
        table.add_row(
            cost.name, f"{cost.rss_bytes / 2**20:.1f}", f"{cost.pss_bytes / 2**20:.1f}", f"{cost.cpu_share * 100:.2f}"
        )
    console().print(table)
