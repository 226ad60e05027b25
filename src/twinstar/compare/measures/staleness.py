"""How old is what a read on another node sees.

One client writes a number that grows, on the leader or on the first node; on each other node one looks for it all the
time. Each acknowledged number has an age on each of them: from its acknowledgement to the end of the first read that
saw it, or a later one. Nothing else runs meanwhile; a busy cluster is slower.
"""

from __future__ import annotations

from twinstar.compare.clients import Job
from twinstar.compare.comparison import Staleness
from twinstar.compare.figures import ages, condensed, percentile
from twinstar.compare.load import Window, merged, run_jobs
from twinstar.compare.measures.speed import Places
from twinstar.drill.target import View


def measure(view: View, places: Places, seconds: float, seed: int) -> Staleness:
    """Each client is beside its node. Raises EnvironmentTrouble."""
    others = [member for member in view.members if member.name != view.struck.name]
    jobs = [
        (places(member.name), Job("staleness", (member.dsn,), seconds, seed, first=number))
        for number, member in enumerate([view.struck, *others])
    ]
    return figures(run_jobs(merged(jobs)), seconds)


def figures(window: Window, seconds: float) -> Staleness:
    """What was written in the window's last tenth, and may be seen after it, does not count."""
    writer, *readers = window.told
    until = window.from_ms + seconds * 900
    written = [(number, at) for number, at in writer.numbers if at <= until]
    found: list[float] = []
    where: list[str] = []
    unseen = 0
    for reader in readers:
        own, missing = ages(written, reader.numbers)
        found += own
        where += [reader.node] * len(own)
        unseen += missing
    values = condensed(found)
    return Staleness(percentile(values, 0.5), percentile(values, 0.99), tuple(found), tuple(where), unseen)
