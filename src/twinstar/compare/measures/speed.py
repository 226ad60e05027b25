"""How fast reads and writes are: one client and many, all beside one node, and spread over the nodes.

Clients connect straight to the databases. A read is done on the node that the client is beside. So is a write where
every node takes writes; elsewhere it is done on the leader, wherever the client is.
"""

from __future__ import annotations

from collections.abc import Callable

from twinstar.compare.clients import Job
from twinstar.compare.comparison import Throughput
from twinstar.compare.figures import throughput
from twinstar.compare.load import Place, Window, run_jobs
from twinstar.compare.tables import READ_ROWS
from twinstar.drill.target import View

MANY = 6
"""Clients: two for each of three nodes."""
Places = Callable[[str], Place]
"""Where clients of a node are."""


def name_of(kind: str, *, many: bool, spread: bool) -> str:
    return f"{kind}-{'many' if many else 'one'}-{'spread' if spread else 'one-node'}"


def measure(view: View, places: Places, seconds: float, seed: int, say: Callable[[str], None]) -> dict[str, Throughput]:
    """Everything but writes of many spread clients, which are measured together with resources."""
    found = {}
    for kind in ("write", "read"):
        for many in (False, True):
            for spread in (False, True):
                name = name_of(kind, many=many, spread=spread)
                if name == MEASURED_WITH_RESOURCES:
                    continue
                say(name)
                window = run_jobs(jobs(view, places, kind, seconds, seed, many=many, spread=spread))
                seed += 1
                found[name] = figures(window)
    return found


MEASURED_WITH_RESOURCES = name_of("write", many=True, spread=True)


def jobs(
    view: View,
    places: Places,
    kind: str,
    seconds: float,
    seed: int,
    *,
    many: bool,
    spread: bool,
    rows: int = READ_ROWS,
) -> list[tuple[Place, Job]]:
    """Many clients are three processes with two each, in one place or in three: the clients' own speed is the same.

    A single client is beside the first node or the leader; when it is to be spread, beside another one.
    """
    first, others = view.struck, [member for member in view.members if member.name != view.struck.name]
    beside = [*others, first] if spread else [first] * len(view.members)
    beside, share = (beside, MANY // len(beside)) if many else (beside[:1], 1)
    made = []
    for number, member in enumerate(beside):
        works = member if kind == "read" or view.all_write else first
        job = Job(kind, (works.dsn,) * share, seconds, seed, rows=rows, first=number * share)
        made.append((places(member.name), job))
    return made


def figures(window: Window) -> Throughput:
    answers = [(told.node, at, took) for told in window.told for at, took in told.answers]
    failed = sum(len(told.failed) for told in window.told)
    return throughput(answers, window.from_ms, window.to_ms, len(window.told), failed)
