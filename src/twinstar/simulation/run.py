"""One run: a whole cluster, on virtual time, from a seed that decides everything."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from twinstar.model.register import Phase
from twinstar.simulation.chronicle import listening
from twinstar.simulation.cluster import Cluster
from twinstar.simulation.faults.disaster import Disaster
from twinstar.simulation.plan import Plan, draw
from twinstar.simulation.world.virtual_time import Deadlock, VirtualLoop, run_virtually

Story = Callable[[Cluster], Awaitable[None]]

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
"""Where there is one, the members' state files are written there: no run waits for a disk."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one seed."""

    seed: int
    plan: Plan
    breach: str | None
    """What was broken, and the state then; None when all is well."""
    sometimes: Counter[str] = field(default_factory=Counter)
    """How often each interesting state was reached."""
    faults: Counter[str] = field(default_factory=Counter)
    """How often each fault was done."""
    virtual_ms: float = 0.0
    failovers: int = 0
    """How often another member than before was named leader."""
    log: tuple[str, ...] = ()
    """The story: what was done, and what came of it."""
    digest: str = ""
    """Of the whole history; equal for equal histories."""

    @property
    def kind(self) -> str:
        return self.plan.kind


def run_one(seed: int, plan: Plan | None = None, closely: bool = False) -> Outcome:
    """Plays the disaster of a seed, on the plan that it draws unless one is given. Never raises for what the cluster
    does: a broken invariant, a service that does not come back and a process that ends by itself are breaches.
    `closely`: with what the agents log in the story.
    """
    plan = plan or draw(seed)
    memory = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="twinstar-simulation-", dir=memory) as directory:
        loop = VirtualLoop()
        clusters: list[Cluster] = []
        breach: str | None = None
        try:
            run_virtually(_played(loop, seed, Path(directory), plan, _disaster, clusters.append, closely), loop)
        except (AssertionError, Deadlock) as error:
            breach = str(error) or repr(error)
    (cluster,) = clusters
    return Outcome(
        seed=seed,
        plan=plan,
        breach=breach,
        sometimes=cluster.witness.sometimes,
        faults=cluster.chronicle.faults,
        virtual_ms=cluster.clock.now_ms(),
        failovers=failovers(cluster),
        log=tuple(cluster.chronicle.lines),
        digest=cluster.chronicle.digest,
    )


def play(directory: Path, story: Story, seed: int, plan: Plan | None = None) -> Cluster:
    """Begins the story when the cluster is whole. Raises AssertionError when an invariant is broken on the way."""
    loop = VirtualLoop()
    return run_virtually(_played(loop, seed, directory, plan or Plan(), story, lambda _: None, False), loop)


async def _played(
    loop: VirtualLoop,
    seed: int,
    directory: Path,
    plan: Plan,
    story: Story,
    made: Callable[[Cluster], None],
    closely: bool,
) -> Cluster:
    cluster = Cluster(loop, seed, directory, plan)
    made(cluster)
    unexpected = cluster.witness.breaches.append
    loop.set_exception_handler(lambda _, context: unexpected(f"{context['message']}: {context.get('exception')!r}"))
    with listening(cluster.chronicle, unexpected, closely):
        try:
            cluster.start_all()
            await cluster.until("whole", cluster.whole)
            await story(cluster)
            cluster.check()
        finally:
            cluster.chronicle.mark(cluster.randomness.token())  # whatever was drawn before has moved it
            cluster.end()
    return cluster


async def _disaster(cluster: Cluster) -> None:
    await Disaster(cluster).run()


def failovers(cluster: Cluster) -> int:
    """How often the register named another leader than before."""
    leaders = [each.leader for each in cluster.registers if each.phase is Phase.LEADING and each.leader]
    return sum(before != after for before, after in pairwise(leaders))
