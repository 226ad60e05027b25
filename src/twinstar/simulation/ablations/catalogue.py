"""All ablations."""

from __future__ import annotations

from twinstar.simulation.ablations.changing import CHANGING
from twinstar.simulation.ablations.counting import COUNTING
from twinstar.simulation.ablations.detecting import DETECTING
from twinstar.simulation.ablations.electing import ELECTING
from twinstar.simulation.ablations.following import FOLLOWING
from twinstar.simulation.ablations.leases import LEASES
from twinstar.simulation.ablations.serving import SERVING
from twinstar.simulation.ablations.storing import STORING
from twinstar.simulation.ablations.swap import Ablation

CATALOGUE: tuple[Ablation, ...] = (
    *COUNTING, *ELECTING, *FOLLOWING, *SERVING, *DETECTING, *LEASES, *CHANGING, *STORING,
)  # fmt: skip
