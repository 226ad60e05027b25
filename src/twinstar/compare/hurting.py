"""What will hurt with a choice, and which wishes cannot be had together: sentences for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from twinstar.compare.advising import ACTIVE_ACTIVE, ACTIVE_PASSIVE, NEAR_MS, Choice
from twinstar.compare.experience import Experience
from twinstar.compare.needs import Conflicts, Needs
from twinstar.model.register import Durability
from twinstar.model.timing import Timings


def contradictions(needs: Needs, choice: Choice, seen: Experience) -> tuple[str, ...]:
    """What was asked for and cannot be had together, and which of it the choice keeps to."""
    return tuple(_contradictions(needs, choice, seen))


def hurts(needs: Needs, choice: Choice, seen: Experience) -> tuple[str, ...]:
    """What it costs, the most often felt first."""
    own = (
        _active_passive(needs, choice, seen)
        if choice.strategy == ACTIVE_PASSIVE
        else _active_active(needs, choice, seen)
    )
    return (*own, *_places(needs, choice))


def _contradictions(needs: Needs, choice: Choice, seen: Experience) -> Iterator[str]:
    if needs.writes_when_cut and needs.isolated:
        yield (
            "Isolated transactions and writes on both sides of a cut exclude each other: two sides that cannot hear "
            "each other cannot know what to exclude. This keeps the isolation; the side without most of the nodes "
            "waits."
        )
    elif needs.writes_when_cut and choice.strategy == ACTIVE_PASSIVE:
        yield (
            "No loss, writes that conflict, and writes on both sides of a cut exclude each other: when the sides meet "
            "again, of two acknowledged writes to one row one gives way. This keeps every acknowledged write; the side "
            "without most of the nodes waits."
        )
    elif needs.writes_when_cut and needs.loss.none:
        yield (
            "No loss and writes on both sides of a cut exclude each other as far as a whole region is concerned: what "
            "one side acknowledges meanwhile is on that side alone. This keeps each write on two machines, in a cut "
            "both of one side, so a machine that dies takes nothing with it, and a region that is lost during a cut "
            "takes what it wrote in it."
        )
    if choice.strategy == ACTIVE_ACTIVE and needs.conflicts is Conflicts.OFTEN:
        yield (
            "Writes that conflict often, taken on both sides of a cut: each such conflict makes one of two "
            "acknowledged writes give way. Make what adds up a counter, give each region rows of its own, or let one "
            "leader order them."
        )
    if choice.outage_ms > needs.outage_ms:
        yield _too_slow(needs, choice, seen)


def _too_slow(needs: Needs, choice: Choice, seen: Experience) -> str:
    asked = f"An outage of at most {needs.outage_ms:,.0f} ms"
    if choice.strategy == ACTIVE_ACTIVE:
        others_ms = seen.others_ms.get(choice.contestant)
        others = f" (they waited {others_ms:,.0f} ms at most when it was measured)" if others_ms is not None else ""
        return (
            f"{asked} cannot be had by the clients of the machine that dies: to be on another one they need at least "
            f"{choice.outage_ms:,.0f} ms. Those of other nodes are not touched{others}."
        )
    why = (
        "isolated transactions"
        if needs.isolated
        else "no loss where writes conflict"
        if needs.loss.none
        else "writes that conflict often"
    )
    return (
        f"{asked} and {why} exclude each other here: the latter needs one leader, and replacing one that is silent "
        f"takes at least {choice.outage_ms:,.0f} ms. This keeps the latter."
    )


def _active_passive(needs: Needs, choice: Choice, seen: Experience) -> Iterator[str]:
    timings = Timings.preset(choice.preset)
    measured = f", {seen.take_over_ms:,.0f} ms of it the take-over as measured" if seen.take_over_ms else ""
    yield (
        f"When the leader's machine dies, everybody who writes waits about {choice.outage_ms:,.0f} ms{measured}; a "
        "false alarm costs a shorter pause, and no data."
    )
    if choice.lease_ms is not None:
        yield (
            f"Without confirmations a silent leader is replaced only when its lease of {choice.lease_ms:,} ms has run "
            "out, and what had not arrived at the others by then is gone."
        )
    else:
        yield (
            f"Silence counts as death after {timings.suspicion_ms:,.0f} ms: a network that pauses for longer is taken "
            "for one."
        )
    yield (
        "One machine does all the writes; the others are copies that only readers can use, and what they show is a "
        f"little old{_age(choice, seen)}."
    )
    yield from _commit(needs, choice, seen)
    if needs.regions > 1:
        yield (
            f"Clients outside the leader's region pay {needs.rtt_ms:g} ms for every statement that they send it: ten "
            f"statements in a transaction are {10 * needs.rtt_ms:,.0f} ms."
        )


def _active_active(needs: Needs, choice: Choice, seen: Experience) -> Iterator[str]:
    yield (
        "Two transactions that would exclude each other on one server can both commit on two; a unique value can be "
        "taken twice, and one of the two rows gives way later; foreign keys are not checked between nodes "
        '(docs/active-active.md, "What is not promised").'
    )
    lost = seen.overwritten.get(choice.contestant)
    share = f" ({lost:.0%} of them, when the same few rows were changed everywhere at once)" if lost else ""
    if needs.conflicts is Conflicts.COUNTERS:
        yield (
            "Columns that add up must be declared as counters (`twinstar tables add T --counter C`); in others "
            f"increments are lost to concurrent ones{share}."
        )
    else:
        yield (
            "Where two nodes change one row at once all the same, the older of the two writes gives way although it "
            f"was acknowledged{share}: somebody has to look into `twinstar conflicts`."
        )
    yield (
        f"A read on another node shows what has arrived there{_age(choice, seen)}: a client that changes nodes may "
        "miss its own last write."
    )
    if choice.durability is Durability.ASYNC:
        yield "What a node has committed and no other has received is gone when its disk is."
    yield from _commit(needs, choice, seen)
    yield (
        "Every node applies every write, so nodes add reads and nearness, and hardly any room for "
        f"writes{_room(choice, seen)}."
    )
    yield (
        "Tables, columns and indexes are made on each node by hand, every table needs a primary key that no two nodes "
        "make, and TRUNCATE is refused."
    )
    if choice.removal_ms is not None:
        yield (
            f"A side without most of the nodes that is silent for more than {choice.removal_ms / 3_600_000:g} h is "
            "declared dead: it comes back as a copy, and what it took meanwhile is beside it in `data.old`, to be "
            "brought together by hand."
        )


def _commit(needs: Needs, choice: Choice, seen: Experience) -> Iterator[str]:
    if choice.durability is Durability.ASYNC:
        return
    if needs.rtt_ms > NEAR_MS and not choice.local_confirmation:
        yield f"Every commit waits for another region: {needs.rtt_ms:g} ms or more, in each transaction that writes."
    else:
        waited = seen.commit_ms.get(choice.contestant)
        alone = seen.commit_ms.get(f"{choice.strategy}-{Durability.ASYNC}")
        took = f" ({waited:.1f} ms instead of {alone:.1f} when it was measured)" if waited and alone else ""
        yield f"Every commit waits until a second machine has it on disk: a round trip and a flush{took}."
    if choice.policy == "block":
        few = "no other node" if choice.required == 1 else f"fewer than {choice.required} of the other nodes"
        yield f"Writes wait while {few} can confirm them: that is what no loss costs."
    else:
        yield (
            "With too few nodes left to confirm, writes wait for some seconds and then go on with fewer copies; what "
            "is acknowledged then is lost if that machine dies as well."
        )


def _age(choice: Choice, seen: Experience) -> str:
    stale_ms = seen.stale_ms.get(choice.contestant)
    return f" ({stale_ms:,.0f} ms or less in 99 of 100 reads when it was measured)" if stale_ms is not None else ""


def _room(choice: Choice, seen: Experience) -> str:
    here = seen.writes_per_s.get(choice.contestant)
    there = seen.writes_per_s.get(f"{ACTIVE_PASSIVE}-{choice.durability}")
    return f" ({here:,.0f}/s, and {there:,.0f}/s with one leader, when it was measured)" if here and there else ""


def _places(needs: Needs, choice: Choice) -> Iterator[str]:
    if needs.regions == 2 and choice.strategy == ACTIVE_PASSIVE:
        yield _two_regions(by_hand=choice.durability is Durability.QUORUM)
    elif choice.local_confirmation and needs.regions > 1:
        yield (
            "Commits are confirmed by the nearest node, within the region: a region that is gone as a whole takes with "
            "it what had not left it."
        )
    if choice.elsewhere:
        yield (
            "etcd needs one member in a third place, however small: with most of it in one region, that region decides "
            "alone."
        )


def _two_regions(*, by_hand: bool) -> str:
    if not by_hand:
        return (
            "If the first region is gone as a whole, the other takes over when the lease has run out, without what had "
            "not arrived."
        )
    return (
        "If the first region is gone as a whole, the other may lack the last writes, and takes over by hand alone "
        "(`twinstar failover --to NODE --accept-loss`): with two regions nobody can tell a region that is gone from "
        "one that is cut off. A node in a third place makes it automatic, and every commit wait for another place."
    )
