"""A member that was declared dead: survivors stop receiving from it, say how far they are, and fetch what they lack."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twinstar.rules.active_active.membership import end_of, missing
from twinstar.simulation.multiwriter.database import Steps
from twinstar.simulation.multiwriter.node import Node
from twinstar.simulation.multiwriter.safeguards import Safeguard
from twinstar.simulation.multiwriter.stream import Sent


def settling(node: Node, dead: int, survivors: Callable[[], list[Node]], chance: Random) -> Steps[None]:
    """One survivor's part; it may be interrupted anywhere, and begins anew."""
    for _ in range(chance.randint(0, 200)):
        yield
    here = node.received.setdefault(dead, [])
    node.stopped.setdefault(dead, len(here))
    while True:
        yield
        seals = {each.number: each.stopped[dead] for each in survivors() if dead in each.stopped}
        numbers = [each.number for each in survivors()]
        end = end_of(seals, numbers)
        if end is not None:
            break
    lacking = missing(node.number, seals, numbers)
    if lacking is not None and Safeguard.FETCH not in node.without:
        source = next(each for each in survivors() if each.number == lacking.source)
        there = source.received[dead][: lacking.upto]
        if Safeguard.FETCH_BY_POSITION in node.without:
            here += _newer(here, there)
        else:
            here += there[len(here) :]
        node.seen("fetched from another survivor")
    node.ends[dead] = len(here)
    while True:
        yield


def _newer(here: list[Sent], there: list[Sent]) -> list[Sent]:
    greatest = max((stamp for sent in here for stamp in sent.stamps), default=-1)
    return [sent for sent in there if any(stamp > greatest for stamp in sent.stamps)]
