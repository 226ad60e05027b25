"""The demo's second part: three nodes that all take writes. One of them dies, and two change one row at once."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console

from twinstar.api.all_nodes import Verifier, everywhere
from twinstar.cli.ask import asker
from twinstar.cli.demo_screen import Screen
from twinstar.cli.local_cluster import LocalCluster
from twinstar.cli.make_cluster import Wishes, throw_away
from twinstar.cli.run_drill import describe
from twinstar.cli.show_conflicts import merged
from twinstar.cli.show_drill import sides_table
from twinstar.cli.up import serving_cluster
from twinstar.config.tables import DEFAULT_SCHEMA
from twinstar.drill.faults import Fault
from twinstar.drill.report import summary
from twinstar.drill.run import Drill, Options, drill
from twinstar.drill.target import View
from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports.clock import SystemClock

_TABLE = "twinstar_demo"
_FIRST = "at first"
_CLIENTS = 6
_AFTER_MS = 2_500.0
_SOON_S = 20.0
_PAUSE_S = 0.05
_VERIFY_PAUSE_MS = 500.0


@dataclass(frozen=True, slots=True)
class Crossing:
    """Two nodes changed one row at once."""

    won: str
    lost: str
    differing: int
    """Rows that are not the same on all nodes in the end."""


@dataclass(frozen=True, slots=True)
class Shown:
    drill: Drill
    crossing: Crossing

    @property
    def survived(self) -> bool:
        return self.drill.survived and not self.crossing.differing

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"summary": asdict(summary(self.drill)), "crossing": asdict(self.crossing)}


def play(screen: Screen, bin_dir: Path | None) -> Shown:
    """On a throw-away cluster. Raises TwinstarError."""
    screen.say("Starting three other nodes, which all take writes: the first is made, the others are copied from it.")
    wishes = Wishes(nodes=3, strategy="active-active", preset="fast", bin_dir=bin_dir)
    with throw_away(wishes, "demo") as file, serving_cluster(file, screen.detail) as (_, cluster, view):
        screen.say(f"Clients write on all nodes, once in peace, and once while {view.struck.name} is killed.")
        options = Options(Fault.KILL_NODE, clients=_CLIENTS, after_ms=_AFTER_MS)
        result = drill(cluster, options, describe(cluster), screen.detail)
        screen.say("Two nodes change one row at once.")
        return Shown(result, _cross(cluster, cluster.view()))


def show(out: Console, shown: Shown) -> None:
    """What it cost, and what became of the row."""
    table = sides_table(shown.drill)
    table.title, table.title_justify = "What the death of a node costs where every node takes writes", "left"
    out.print(table)
    crossing = shown.crossing
    out.print(
        f"Two nodes changed one row at once: “{crossing.won}” stays on all of them; “{crossing.lost}” is in the "
        "conflict log, and can be restored from there.\n"
        f"Rows that differ between nodes: {crossing.differing}.",
        highlight=False,
    )


def _cross(cluster: LocalCluster, view: View) -> Crossing:
    one, other = view.members[0], view.members[1]
    for member in view.members:
        _run(member.dsn, f"CREATE TABLE {_TABLE} (id int PRIMARY KEY, v text)")
    cluster.take_in(_TABLE)
    _run(one.dsn, f"INSERT INTO {_TABLE} VALUES (1, '{_FIRST}')")
    _until_equal(view, first=True)
    with psycopg.connect(one.dsn) as here, psycopg.connect(other.dsn) as there:
        for session, name in ((here, one.name), (there, other.name)):
            session.execute(f"UPDATE {_TABLE} SET v = 'written on {name}'".encode())
        here.commit()
        there.commit()
    _until_equal(view, first=False)
    members, ask = [member.name for member in view.members], asker(cluster.config)
    answers = asyncio.run(everywhere(members, ask, "conflicts/list", {"schema": DEFAULT_SCHEMA, "table": _TABLE}))
    conflict = merged(answers, 1)[0]
    verifier = Verifier(members, ask, SystemClock(), DEFAULT_SCHEMA, _TABLE, _VERIFY_PAUSE_MS)
    verified = asyncio.run(verifier.compare(lambda _: None))
    return Crossing(conflict["winner_image"]["v"], conflict["loser_image"]["v"], verified.unequal)


def _until_equal(view: View, *, first: bool) -> None:
    """Until all nodes have the row as it was at first, or all have another one. Raises EnvironmentTrouble."""
    until = time.monotonic() + _SOON_S
    while True:
        found = {_run(member.dsn, f"SELECT v FROM {_TABLE}") for member in view.members}
        if found == {_FIRST} if first else len(found) == 1 and _FIRST not in found:
            return
        if time.monotonic() > until:
            raise EnvironmentTrouble(f"The nodes differ in a row after {_SOON_S:.0f} s: run `twinstar demo` again.")
        time.sleep(_PAUSE_S)


def _run(dsn: str, statement: str) -> str | None:
    """The first column of the first row."""
    try:
        with psycopg.connect(dsn, autocommit=True) as session:
            cursor = session.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
            return None if row is None else str(row[0])
    except psycopg.Error as trouble:
        raise EnvironmentTrouble(
            f"A node does not do what the demo needs ({' '.join(str(trouble).split())}): run `twinstar demo` again."
        ) from trouble
