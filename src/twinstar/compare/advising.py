"""Which strategy and configuration fit what somebody wants. Pure.

Theory. Five facts decide, all of them consequences of who may acknowledge a write:

    1. *Isolation between nodes, and one winner per row, need one place that orders writes*: active-passive. Where every
       node takes writes, of two that change one row at once one gives way (it is logged and can be restored).
    2. *Whoever is cut off from that place cannot write.* To write on both sides of a cut, every node must take writes.
    3. *No loss needs a second copy before the answer*: `quorum`. The wait for it is a round trip to the nearest place
       that confirms. Within a region that is little (`NEAR_MS`), between regions it is on every commit.
    4. *A machine that is silent is replaced after it was silent for some time.* In active-passive everybody waits for
       that and for the take-over; in active-active the clients of that machine alone wait, and only for a router.
    5. *Replacing without asking the silent machine's copies takes a majority*: three places, or the loss of the one
       that has most of them is repaired by hand.

Where wishes contradict each other, the one is kept whose breach cannot be repaired afterwards: isolation first, then no
loss, then that everybody is served; and `contradictions` says so (`hurting.py`). What was measured
(`experience.Experience`) makes the bounds tighter: without it the times here are what follows from the configuration
alone, so the least that is possible.
"""

from __future__ import annotations

from dataclasses import dataclass

from twinstar.compare.experience import Experience
from twinstar.compare.needs import Conflicts, Needs
from twinstar.config.schema import Strategy
from twinstar.model.register import Durability
from twinstar.model.timing import LeaseTimes, Timings
from twinstar.router.choosing import SILENCE_MS

NEAR_MS = 5.0
"""A round trip below which waiting for another region costs a commit about what a disk's flush does."""
CHANGE_TRIPS = 8
"""Round trips between regions in a change of leader: three changes of the register, each to etcd's leader and from it
to a majority, one for the followers to attach, and one for the first commit."""
PROBE_TRIPS = 3
"""Round trips that a probe of a silent node must have time for: a connection, a question, and one lost packet."""
RENEWAL_TRIPS = 6
"""Round trips that must fit between two renewals of a lease: a change of the register takes two."""
SHORTEST_LEASE_MS = 1_000
LONGEST_LEASE_MS = 10_000
LONG_ABSENCE_MS = 86_400_000
"""`removal_ms` where both sides of a cut write: what a node took while it was declared dead is not brought together."""

ACTIVE_PASSIVE: Strategy = "active-passive"
ACTIVE_ACTIVE: Strategy = "active-active"


@dataclass(frozen=True, slots=True)
class Choice:
    """A configuration, as far as it was chosen."""

    strategy: Strategy
    durability: Durability
    preset: str
    nodes: tuple[int, ...]
    """How many in each region; clients of the first one write where the leader is."""
    stores: tuple[int, ...]
    """etcd's members, likewise."""
    elsewhere: int
    """etcd's members in a place that is none of the regions."""
    required: int | None
    """Other nodes that confirm a commit; None: nobody waits (`async`)."""
    policy: str | None
    lease_ms: int | None
    removal_ms: int | None
    outage_ms: float
    """What a silent death is expected to cost the clients that it concerns, at least."""
    reasons: tuple[str, ...]

    @property
    def contestant(self) -> str:
        """Its name in a comparison."""
        return f"{self.strategy}-{self.durability}"

    @property
    def local_confirmation(self) -> bool:
        """A commit is confirmed within its region."""
        return self.durability is Durability.QUORUM and self.required == 1 and self.nodes[0] > 1


def choose(needs: Needs, seen: Experience) -> Choice:
    """The recommendation."""
    strategy, why = _strategy(needs, seen)
    durability, how = _durability(needs, strategy, seen)
    nodes = _nodes(needs, strategy, durability)
    lease_ms = _lease_ms(needs, seen) if (strategy, durability) == (ACTIVE_PASSIVE, Durability.ASYNC) else None
    preset = _preset(needs, seen) if strategy == ACTIVE_PASSIVE and lease_ms is None else _calmest(needs)
    stores, elsewhere = _stores(needs.regions)
    quorum = durability is Durability.QUORUM
    return Choice(
        strategy=strategy,
        durability=durability,
        preset=preset,
        nodes=nodes,
        stores=stores,
        elsewhere=elsewhere,
        required=(1 if max(nodes) > 1 else sum(nodes) // 2) if quorum else None,
        policy=("block" if needs.loss.none else "degrade") if quorum else None,
        lease_ms=lease_ms,
        removal_ms=LONG_ABSENCE_MS if strategy == ACTIVE_ACTIVE and needs.writes_when_cut else None,
        outage_ms=_outage_ms(strategy, durability, preset, lease_ms, needs, seen),
        reasons=(why, how),
    )


def shortest_outage_ms(needs: Needs, seen: Experience) -> float:
    """Of active-passive with `quorum`, in the fastest preset that such a network allows."""
    return min(_quorum_outage_ms(preset, needs, seen) for preset in _presets(needs))


def _strategy(needs: Needs, seen: Experience) -> tuple[Strategy, str]:
    """With the reason, in one sentence."""
    if needs.isolated:
        return ACTIVE_PASSIVE, "Transactions that must be isolated whichever node they are on need one leader."
    if needs.conflicts.gives_way and needs.loss.none:
        return ACTIVE_PASSIVE, (
            "Where every node takes writes, of two acknowledged writes to one row at once one gives way: with "
            "conflicts and no loss allowed, one leader must order them."
        )
    if needs.writes_when_cut:
        return ACTIVE_ACTIVE, "To take writes on both sides of a cut, every node must take writes."
    if needs.conflicts is Conflicts.OFTEN:
        return (
            ACTIVE_PASSIVE,
            "Where writes conflict often, one leader orders them; elsewhere each conflict costs one of the two.",
        )
    shortest_ms = shortest_outage_ms(needs, seen)
    if needs.outage_ms < shortest_ms:
        return ACTIVE_ACTIVE, (
            f"Replacing a leader takes at least {shortest_ms:,.0f} ms here, longer than the {needs.outage_ms:,.0f} ms "
            "that are acceptable; where every node takes writes, the clients of other nodes do not notice a death."
        )
    if needs.rtt_ms > NEAR_MS and not needs.conflicts.gives_way:
        return ACTIVE_ACTIVE, (
            f"Each region's clients read and write at home, instead of across {needs.rtt_ms:g} ms to a leader, and "
            "what they write does not conflict."
        )
    return ACTIVE_PASSIVE, "One leader is simpler, promises more, and nothing that was asked for needs more."


def _durability(needs: Needs, strategy: Strategy, seen: Experience) -> tuple[Durability, str]:
    """With the reason, in one sentence."""
    if needs.loss.none:
        return (
            Durability.QUORUM,
            "Nothing acknowledged may be lost, so a commit waits until a second machine has it on disk.",
        )
    doubt = _doubt(needs, strategy, seen)
    if doubt is not None:
        return Durability.QUORUM, doubt
    if strategy == ACTIVE_ACTIVE:
        return Durability.ASYNC, (
            "The acceptable loss covers what is on its way when a machine dies, so commits wait for nobody."
        )
    if needs.rtt_ms <= NEAR_MS:
        return Durability.QUORUM, (
            "A loss would be acceptable, but with machines so near to each other a confirmed commit costs little, and "
            "a leader that needs confirmations is replaced sooner than one whose lease must run out."
        )
    shortest_ms = _lease_outage_ms(_shortest_lease_ms(needs), needs, seen)
    if needs.outage_ms < shortest_ms:
        return Durability.QUORUM, (
            f"A loss would be acceptable, but without confirmations a lease has to run out first: {shortest_ms:,.0f} "
            "ms at the least."
        )
    return Durability.ASYNC, (
        f"The acceptable loss covers what is on its way when the leader dies, and commits do not wait {needs.rtt_ms:g} "
        "ms for another region."
    )


def _doubt(needs: Needs, strategy: Strategy, seen: Experience) -> str | None:
    """Why the acceptable loss may be exceeded without confirmations; None when it is not."""
    name = f"{strategy}-{Durability.ASYNC}"
    if needs.loss.writes:
        if name not in seen.lost:
            return (
                "How many writes are on their way when a machine dies was not measured, so a bound in writes is kept "
                "by confirmations."
            )
        if seen.lost[name] > needs.loss.writes:
            return (
                f"Without confirmations a fault took {seen.lost[name]} writes when it was measured, more than the "
                f"acceptable {needs.loss.writes}."
            )
        return None
    lag_ms = needs.rtt_ms + seen.stale_ms.get(name, 0.0)
    if 1000 * needs.loss.seconds < lag_ms:
        return (
            f"Without confirmations the last {lag_ms:,.0f} ms may be lost, more than the acceptable "
            f"{1000 * needs.loss.seconds:,.0f} ms."
        )
    return None


def _nodes(needs: Needs, strategy: Strategy, durability: Durability) -> tuple[int, ...]:
    """Three at least. Two in a region where a commit is to be confirmed at home."""
    if needs.regions == 1:
        return (3,)
    at_home = needs.writes_when_cut or needs.regions == 2
    if strategy == ACTIVE_ACTIVE and durability is Durability.QUORUM and at_home:
        return (2,) * needs.regions
    return (2, 1) if needs.regions == 2 else (1,) * needs.regions


def _stores(regions: int) -> tuple[tuple[int, ...], int]:
    """An odd number that no single region has most of."""
    if regions == 1:
        return (3,), 0
    if regions == 2:
        return (1, 1), 1
    there = 3 if regions < 5 else 5
    return (1,) * there + (0,) * (regions - there), 0


def _presets(needs: Needs) -> tuple[str, ...]:
    """The calmest first: those whose probe has the time that the round trip needs."""
    names = ("balanced", "fast") if needs.regions == 1 else ("patient", "balanced", "fast")
    fit = tuple(name for name in names if Timings.preset(name).probe_deadline_ms >= PROBE_TRIPS * needs.rtt_ms)
    return fit or names[:1]


def _calmest(needs: Needs) -> str:
    return _presets(needs)[0]


def _preset(needs: Needs, seen: Experience) -> str:
    """The calmest that keeps to the outage, or else the fastest that there is."""
    names = _presets(needs)
    return next((name for name in names if _quorum_outage_ms(name, needs, seen) <= needs.outage_ms), names[-1])


def _shortest_lease_ms(needs: Needs) -> int:
    """Five renewals fit into a lease (`LeaseTimes`)."""
    return max(SHORTEST_LEASE_MS, round(5 * RENEWAL_TRIPS * needs.rtt_ms))


def _lease_ms(needs: Needs, seen: Experience) -> int:
    """The longest that keeps to the outage, in whole 100 ms."""
    shortest_ms = _shortest_lease_ms(needs)
    fitting = (
        ms for ms in range(LONGEST_LEASE_MS, shortest_ms, -100) if _lease_outage_ms(ms, needs, seen) <= needs.outage_ms
    )
    return next(fitting, shortest_ms)


def _trips_ms(needs: Needs, seen: Experience) -> float:
    """What the network between regions adds to a change of leader, beyond what is in the measured figures."""
    return CHANGE_TRIPS * max(0.0, needs.rtt_ms - seen.rtt_ms)


def _quorum_outage_ms(preset: str, needs: Needs, seen: Experience) -> float:
    return Timings.preset(preset).suspicion_ms + seen.take_over_ms + _trips_ms(needs, seen)


def _lease_outage_ms(lease_ms: int, needs: Needs, seen: Experience) -> float:
    return LeaseTimes.of(lease_ms).take_over_ms + seen.take_over_ms + _trips_ms(needs, seen)


def _outage_ms(
    strategy: Strategy, durability: Durability, preset: str, lease_ms: int | None, needs: Needs, seen: Experience
) -> float:
    if strategy == ACTIVE_ACTIVE:
        return max(SILENCE_MS, seen.outage_ms.get(f"{strategy}-{durability}", 0.0))
    if lease_ms is not None:
        return _lease_outage_ms(lease_ms, needs, seen)
    return _quorum_outage_ms(preset, needs, seen)
