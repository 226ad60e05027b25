"""One run: a seed, its plan, its day."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from twinstar.simulation.multiwriter.plan import Plan, draw
from twinstar.simulation.multiwriter.safeguards import Safeguard
from twinstar.simulation.multiwriter.world import World


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one seed."""

    seed: int
    plan: Plan
    breach: str | None
    """What was broken; None when all is well."""
    steps: int = 0
    commits: int = 0
    """Transactions that were committed and sent, reports and removals among them."""
    faults: Counter[str] = field(default_factory=Counter)
    sometimes: Counter[str] = field(default_factory=Counter)
    log: tuple[str, ...] = ()
    """The story, when it was asked for."""
    digest: str = ""
    """Of the whole history; equal for equal histories."""


def run_one(
    seed: int, plan: Plan | None = None, without: frozenset[Safeguard] = frozenset(), *, story: bool = False
) -> Outcome:
    """Plays a seed, on the plan that it draws unless one is given. Never raises for what the rules or the model do."""
    plan = plan or draw(seed)
    lines: list[str] = []
    world = World(seed, plan, without, lines.append if story else lambda _: None)
    breach = None
    try:
        world.play()
    except AssertionError as error:
        breach = str(error) or repr(error)
    return Outcome(
        seed=seed,
        plan=plan,
        breach=breach,
        steps=world.steps,
        commits=world.witness.commits,
        faults=world.faults,
        sometimes=world.witness.figures(world.nodes),
        log=tuple(lines),
        digest=world.digest,
    )
