"""`twinstar compare`: a throw-away cluster for each contestant, one after the other; a table, JSON and a page."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from twinstar import __version__
from twinstar.api.all_nodes import everywhere
from twinstar.cli.ask import ask_history, asker
from twinstar.cli.local_cluster import LocalCluster
from twinstar.cli.make_cluster import Wishes, hosts_of, throw_away
from twinstar.cli.namespaces import Far, Network, network
from twinstar.cli.output import console, print_json, progress, stop_on_sigterm
from twinstar.cli.programs import ETCD
from twinstar.cli.rubbish import Rubbish
from twinstar.cli.run_drill import describe
from twinstar.cli.show_conflicts import merged
from twinstar.cli.up import serving_cluster
from twinstar.compare.comparing import FULL, MEASURES, QUICK, Ground, Plan, measure, measures_named
from twinstar.compare.comparison import Comparison, Contestant, Machine, Options, to_json
from twinstar.compare.contestants import Entry, chosen
from twinstar.compare.lines import lines
from twinstar.compare.load import HERE, Place
from twinstar.compare.page import page
from twinstar.compare.table import show
from twinstar.compare.tables import execute
from twinstar.config.tables import DEFAULT_SCHEMA
from twinstar.drill.report import memory_gib, processor
from twinstar.model.errors import EnvironmentTrouble, UsageError

_CLIENTS = "clients"
_LOGGED_AT_MOST = 100_000
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The command's options."""

    quick: bool = False
    repeat: int = 1
    rtt_ms: float = 0.0
    only: tuple[str, ...] = ()
    seed: int = 1
    bin_dir: Path | None = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        return chosen([word for word in self.only if word not in MEASURES])

    @property
    def plan(self) -> Plan:
        measures = measures_named([word for word in self.only if word in MEASURES])
        return replace(QUICK if self.quick else FULL, repeat=self.repeat, measures=measures)


def run_compare(wanted: Wanted, json_file: Path | None, html_file: Path | None) -> None:
    """The command. Exit status 1 when something was lost that was promised, or a fault was not survived."""
    stop_on_sigterm()
    with Rubbish() as rubbish:
        made = compare(wanted, rubbish)
        _write(made, json_file, html_file)
        if str(json_file) != "-":
            show(console(), made)
    if not sound(made):
        raise typer.Exit(1)


def _write(made: Comparison, json_file: Path | None, html_file: Path | None) -> None:
    """Raises UsageError when a file cannot be written."""
    try:
        if str(json_file) == "-":
            print_json(to_json(made))
        elif json_file is not None:
            json_file.write_text(json.dumps(to_json(made), separators=(",", ":")), encoding="utf-8")
        if html_file is not None:
            html_file.write_text(page(made), encoding="utf-8")
    except OSError as trouble:
        raise UsageError(f"{trouble.filename} cannot be written ({trouble.strerror}): name another file.") from None


def sound(made: Comparison) -> bool:
    """What was promised was kept: clients were served again, and with `quorum` nothing acknowledged is gone."""
    return all(
        not any(why.startswith("failed") for why in contestant.skipped.values())
        and all(run.served_again for runs in contestant.availability.values() for run in runs)
        and (contestant.durability == "async" or not any(r.lost for rs in contestant.availability.values() for r in rs))
        and (contestant.conflicts is None or contestant.conflicts.differing == 0)
        for contestant in made.contestants.values()
    )


def compare(wanted: Wanted, rubbish: Rubbish) -> Comparison:
    """Measures every contestant, with progress on standard error. Raises TwinstarError."""
    contestants: dict[str, Contestant] = {}
    versions: set[str] = set()
    began = time.monotonic()
    entries = wanted.entries
    with progress("compare") as say:
        for number, entry in enumerate(entries, 1):
            told = _prefixed(f"{number} of {len(entries)}, {entry.name}", began, say)
            contestants[entry.name], version = _contestant(entry, wanted, rubbish, told)
            versions.add(version)
    options = Options(wanted.quick, wanted.rtt_ms, wanted.repeat, wanted.seed)
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    about = Machine(processor(), os.cpu_count() or 1, round(memory_gib(), 1), ", ".join(sorted(versions)), _commit())
    return Comparison(made, about, options, contestants, lines(contestants))


def _prefixed(prefix: str, began: float, say: Say) -> Say:
    return lambda text: say(f"{time.monotonic() - began:.0f} s, {prefix}: {text}")


def _contestant(entry: Entry, wanted: Wanted, rubbish: Rubbish, say: Say) -> tuple[Contestant, str]:
    """With PostgreSQL's version."""
    with _cluster(entry, wanted, rubbish, say) as (cluster, net, apart):
        say("waiting until the one before is removed")
        rubbish.wait()
        ground = _ground(cluster, net, apart)
        version = str(execute(cluster.view().struck.dsn, "SHOW server_version")[0][0])
        measured = measure(entry, ground, wanted.plan, wanted.seed, say)
        say("stopping the cluster")
        return measured, version


@contextlib.contextmanager
def _cluster(
    entry: Entry, wanted: Wanted, rubbish: Rubbish, say: Say
) -> Iterator[tuple[LocalCluster, Network | None, str]]:
    """The quick comparison's nodes share the loopback; a full one's have a network namespace each, where they can,
    since only so can one be cut off.
    """
    wishes = Wishes(
        strategy=entry.strategy, durability=entry.durability, lease_ms=entry.lease_ms, bin_dir=wanted.bin_dir
    )
    apart = "the quick comparison leaves it out" if wanted.quick and not wanted.rtt_ms else ""
    with contextlib.ExitStack() as stack:
        net = None
        if not apart:
            try:
                net = stack.enter_context(_own_network(wishes, wanted.rtt_ms))
                stack.enter_context(net.inside(_CLIENTS))
                wishes = replace(wishes, store="etcd")
            except EnvironmentTrouble as trouble:
                if wanted.rtt_ms:
                    raise
                apart = str(trouble)
        file = stack.enter_context(throw_away(wishes, "compare", net, rubbish.take))
        launched, cluster, _view = stack.enter_context(serving_cluster(file, say))
        launched.hurry()
        yield cluster, net, apart


def _own_network(wishes: Wishes, rtt_ms: float) -> contextlib.AbstractContextManager[Network]:
    """A region for each node, with an etcd in each; router and clients are in the first. Raises EnvironmentTrouble."""
    if shutil.which("etcd") is None:
        raise EnvironmentTrouble("etcd is not installed: install it (on Debian `apt-get install etcd-server`).")
    hosts = (*hosts_of(wishes), _CLIENTS)
    nodes = [f"n{number + 1}" for number in range(wishes.nodes)]
    regions = dict(zip((*nodes, *ETCD), (*nodes, *nodes), strict=False))
    return network(hosts, Far(rtt_ms, regions) if rtt_ms else None)


def _ground(cluster: LocalCluster, net: Network | None, apart: str) -> Ground:
    state = cluster.state()
    return Ground(
        target=cluster,
        about=describe(cluster),
        programs=tuple(program.name for program in state.programs) if state else (),
        history=lambda: ask_history(cluster.config),
        logged=lambda table: _logged(cluster, table),
        places=lambda node: Place(net.beside(node)) if net else HERE,
        apart=apart,
    )


def _logged(cluster: LocalCluster, table: str) -> list[dict[str, Any]]:
    members = [member.name for member in cluster.view().members]
    fields = {"schema": DEFAULT_SCHEMA, "table": table, "limit": _LOGGED_AT_MOST}
    answers = asyncio.run(everywhere(members, asker(cluster.config), "conflicts/list", fields))
    return merged(answers, _LOGGED_AT_MOST)


def _commit() -> str:
    """The version; with the commit, where this runs from a checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return __version__
    return f"{__version__} ({found})"
