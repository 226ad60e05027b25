"""How nodes come, go, die and return, through random lives of whole clusters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.rules.active_active.lives import REMOVAL_MS, World
from twinstar.model.membership import Membership, Node, NodeState
from twinstar.rules.active_active import life
from twinstar.rules.active_active.life import decide
from twinstar.rules.active_active.plan import Database, Own, Plan, Said, State, View

_SEEDS = 400


def play(seed: int, *, careless: bool = False, watched: bool = True) -> World:
    """A day of faults, then everything is healed, and time passes until nothing changes any more."""
    world = World(seed, 3 + seed % 3, _taken, careless=careless)
    chance = world.chance
    names = list(world.members)
    for turn in range(chance.randint(50, 400)):
        world.now_ms += chance.choice((5, 20, 20, 200 if turn % 7 == 0 else 20))
        if chance.random() < 0.8:
            world.talk()
        for name in chance.sample(names, len(names)):
            world.step(name)
            world.apply(name)
            for _ in range(chance.randint(0, 2)):
                world.write(name)
        assert not watched or not world.unlike_its_word(), world.unlike_its_word()
        _fault(world)
        for due in [each for each in world.coming if each[0] == 0]:
            due[1]()
        world.coming = [(left - 1, act) for left, act in world.coming if left > 0]
    world.quiet = True
    for member in world.members.values():
        member.up, member.leave, member.blind = True, False, 0
    world.cut.clear()
    for _ in range(300):
        world.now_ms += 20
        world.talk()
        for name in names:
            world.step(name)
            world.apply(name)
    return world


def _fault(world: World) -> None:
    chance = world.chance
    name = chance.choice(list(world.members))
    member = world.members[name]
    match chance.randint(0, 60):
        case 0 | 1:
            world.crash(name)
        case 2:
            world.crash(name)
            member.up = False
        case 3 | 4 | 5:
            member.up = True
        case 6:
            world.cut.add(frozenset((name, chance.choice([n for n in world.members if n != name]))))
        case 7 | 8:
            world.cut.clear()
        case 9 if sum(m.leave for m in world.members.values()) == 0:
            member.leave = True
        case 10:
            member.leave = False
        case 11:
            _lose(world, name)
        case 12 if sum(m.up for m in world.members.values()) > 2:
            world.crash(name)
            member.up = False
            world.now_ms += REMOVAL_MS
        case 13 | 14 | 15:
            world.lose_a_place(name)
        case 16 | 17 if not world.coming:
            _two_go(world)
        case _:
            pass


def _two_go(world: World) -> None:
    """One that only a second one hears is lost; the others are to learn of its last writes by the second one."""
    chance = world.chance
    first, second, third = chance.sample(list(world.members), 3)
    world.cut |= {frozenset((first, name)) for name in world.members if name not in (first, second)}
    turns = [chance.randint(0, 12) for _ in range(3)]
    world.coming += [
        (sum(turns[:1]), lambda: world.lose_the_place(third, second)),
        (sum(turns[:2]), lambda: _lose(world, first)),
        (sum(turns[:3]), world.cut.clear),
    ]


def _taken(world: World, taker: str, source: str) -> None:
    """Right after somebody has taken something from somebody, now and then its source is lost, and it cannot tell."""
    chance = world.chance
    if not world.quiet and chance.random() < 0.15:
        world.members[taker].blind = chance.randint(0, 8)
        world.cut |= {frozenset((source, name)) for name in world.members if name != source}
        world.coming += [(chance.randint(0, 6), lambda: _lose(world, source)), (10, world.cut.clear)]


def _lose(world: World, name: str) -> None:
    """A data directory is gone; never the last one."""
    if world.others_that_are_in(name) > 1:
        world.crash(name)
        world.members[name].data = None


def trouble(world: World) -> str:
    """What is wrong in the end; empty when nothing is."""
    inside = world.store.in_state(NodeState.IN) if world.store else ()
    if world.store is None or not inside:
        return "nobody is in"
    if {each.state for each in world.store.nodes} != {NodeState.IN}:
        return "it is not whole again"
    rows: dict[int, set[tuple[int, int]]] = {}
    for each in inside:
        data = world.members[each.member].data
        assert data is not None
        rows[each.number] = data.rows
        if not {(each.number, place) for place in range(1, data.log + 1)} <= data.rows:
            return f"node {each.number} lacks its own rows"
    first = rows[inside[0].number]
    for number, here in rows.items():
        if here != first:
            return f"node {number} differs: {sorted(here ^ first)}"
    return f"what had left is missing: {sorted(world.left - first)}" if world.left - first else ""


@pytest.mark.parametrize("part", range(4))
def test_all_who_are_in_have_the_same_rows_in_the_end(part: int) -> None:
    met: set[str] = set()
    for seed in range(part, _SEEDS // 2, 4):
        world = play(seed)
        met |= world.met
        assert not trouble(world), "\n".join([f"seed {seed}", *world.story])
    wanted = {
        "founded",
        "joined",
        "left",
        "settled",
        "sealed",
        "fetched",
        "silent for too long",
        "database lost",
        "stays",
    }
    assert wanted <= met


def _noticed(known: int, *, careless: bool) -> bool:
    """Whether a seed ends badly: the known one, or if the model has changed since, any."""
    for seed in (known, *range(_SEEDS)):
        try:
            ends_badly = bool(trouble(play(seed, careless=careless, watched=False)))
        except AssertionError:
            ends_badly = True
        if ends_badly:
            return True
    return False


def _donor_may_lag(view: View, membership: Membership, mine: Node, _donor: Node) -> str:
    said = [life._said(view, sender) for sender in membership.in_state(NodeState.IN, NodeState.LEAVING)]
    return "" if all(each is not None and mine.number in each.slots for each in said) else "waiting"


def _in_at_once(view: View, membership: Membership, mine: Node) -> Plan:
    plan = _COMPLETE(view, membership, mine)
    joined = membership.having(replace(mine, state=NodeState.IN), "joined")
    return replace(plan, change=joined) if view.own.running else plan


def _newcomers_stay(membership: Membership, node: Node, reason: str) -> Membership:
    return membership.having(replace(node, state=NodeState.DEAD), reason)


def _seals_stay(membership: Membership, node: Node, reason: str) -> Membership:
    dead = _DYING(membership, node, reason)
    return replace(
        dead,
        nodes=tuple(replace(each, seals=_of(membership, each).seals) for each in dead.nodes),
    )


def _of(membership: Membership, node: Node) -> Node:
    before = membership.node(node.number)
    assert before is not None
    return before


def _leaves_at_once(view: View, membership: Membership, mine: Node) -> Plan:
    plan = _LEAVE(view, _hiding(membership, NodeState.JOINING, NodeState.DEAD), mine)
    left = plan.change is not None and plan.change.reason == "left"
    return replace(plan, change=membership.without(mine.number, "left") if left else None)


def _comes_at_once(view: View, membership: Membership) -> Plan:
    plan = _COME(view, _hiding(membership, NodeState.LEAVING, NodeState.DEAD))
    newcomer = plan.change.of(view.me) if plan.change else None
    return replace(plan, change=membership.having(newcomer, "joining")) if newcomer else plan


def _hiding(membership: Membership, *states: NodeState) -> Membership:
    return replace(membership, nodes=tuple(each for each in membership.nodes if each.state not in states))


def _dead_are_read(view: View, membership: Membership, mine: Node, state: State) -> Plan:
    plan = _CONNECTED(view, membership, mine, state)
    dead = {each.number: each.member for each in membership.in_state(NodeState.DEAD)}
    return replace(plan, read={**plan.read, **dead})


def _settled_at_once(_view: View, membership: Membership, _mine: Node) -> Membership | None:
    for dead in membership.in_state(NodeState.DEAD):
        return membership.without(dead.number, "settled")
    return None


_COMPLETE, _LEAVE, _COME, _CONNECTED, _DYING = life._complete, life._leave, life._come, life._connected, life._dying


@pytest.mark.parametrize(
    ("rule", "without", "known"),
    [
        ("_unready", lambda *_: "", 26),
        ("_unready", _donor_may_lag, 12),
        ("_complete", _in_at_once, 16),
        ("_dying", _newcomers_stay, 5),
        ("_leave", _leaves_at_once, 0),
        ("_come", _comes_at_once, 2),
        ("_connected", _dead_are_read, 1),
        ("_settle", _settled_at_once, 1),
    ],
    ids=[
        "a copy waits for places",
        "a donor has applied what places leave out",
        "a newcomer keeps places before it is in",
        "a death sends newcomers back",
        "who leaves waits for newcomers",
        "newcomers wait for who goes",
        "the dead are read no more",
        "survivors seal",
    ],
)
def test_without_a_rule_somebody_misses_something(
    monkeypatch: pytest.MonkeyPatch, rule: str, without: object, known: int
) -> None:
    monkeypatch.setattr(life, rule, without)
    assert _noticed(known, careless=True)


@pytest.mark.parametrize(
    ("word", "wrong", "known"),
    [
        ("claimed", lambda _world, number, taken: {number: taken.place}, 152),
        ("claimed", lambda _world, number, taken: {number: taken.applied[number]}, 143),
        ("end_of_copy", lambda _world, donor, number: donor.slots[number], 89),
    ],
    ids=[
        "of the log of whom it was compared with",
        "of the logs that that one reads",
        "of its donor's log",
    ],
)
def test_who_has_more_than_it_says_has_it_alone_in_the_end(
    monkeypatch: pytest.MonkeyPatch, word: str, wrong: object, known: int
) -> None:
    monkeypatch.setattr(World, word, wrong)
    assert _noticed(known, careless=False)


def _the_last_witness_dies() -> World:
    """Node 4 dies, and only node 3 has all of its log; node 2 fetches it, and 3 dies before 2 can say so."""
    world = World(0, 4, lambda *_: None)

    def until(done: Callable[[], object], *names: str) -> None:
        for _ in range(500):
            if done():
                return
            world.now_ms += 20
            world.talk()
            for name in names:
                world.step(name)
                world.apply(name)
        raise AssertionError("\n".join(world.story))

    until(lambda: world.store and len(world.store.in_state(NodeState.IN)) == 4, *world.members)
    one, two, three, four = (world.lives[number] for number in (1, 2, 3, 4))
    until(lambda: world.members[four].admitted, *world.members)
    world.cut |= {frozenset((four, one)), frozenset((four, two))}
    world.write(four)
    until(lambda: (4, 1) in world.data(three).rows, three)
    _lose(world, four)
    until(lambda: world.state_of(4) is NodeState.DEAD, four)
    until(lambda: len(world.seals_of(4)) == 3, one, two, three)
    until(lambda: (4, 1) in world.data(two).rows, two)
    world.members[two].blind = 20
    _lose(world, three)
    until(lambda: world.state_of(3) is NodeState.DEAD, three)
    for _ in range(20):
        world.step(one)
    world.cut.clear()
    until(lambda: world.state_of(4) is None, one, two)
    return world


def test_a_death_begins_every_settling_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _differs(_the_last_witness_dies()) is False
    monkeypatch.setattr(life, "_dying", _seals_stay)
    assert _differs(_the_last_witness_dies()) is True


def _differs(world: World) -> bool:
    one, two = (world.data(world.lives[number]).rows for number in (1, 2))
    return one != two


IN = Node(1, "a", NodeState.IN)


def test_a_store_that_is_older_than_the_database_is_not_believed() -> None:
    old = Membership(3, (IN,), next_number=2)
    plan = decide(View("b", True, old, Own(Database.NODE, number=2, running=True), {}))
    assert plan.state is State.WAITING
    assert plan.change is None
    assert plan.engine is None
    assert "older" in plan.note


def test_a_store_that_is_silent_changes_nothing_for_a_node_that_runs() -> None:
    plan = decide(View("a", False, None, Own(Database.NODE, number=1, running=True), {}))
    assert plan.admit is None
    assert plan.places is None


def test_a_member_that_is_dead_lets_nobody_in() -> None:
    dead = Membership(3, (replace(IN, state=NodeState.DEAD),), next_number=2)
    plan = decide(View("a", True, dead, Own(Database.NODE, number=1, running=True), {}))
    assert plan.admit is False
    assert plan.state is State.DEAD


def test_a_node_whose_clock_is_wrong_lets_nobody_in_and_reads_on() -> None:
    inside = Membership(3, (IN, Node(2, "b", NodeState.IN)), next_number=3)
    view = View("a", True, inside, Own(Database.NODE, 1, running=True, slots={2: 0}), {"a": Said(1), "b": Said(2)})
    fenced = decide(replace(view, fenced=True))
    assert (fenced.state, fenced.admit, fenced.read) == (State.FENCED, False, {2: "b"})
    assert decide(view).admit is True


def test_who_leaves_waits_for_its_clients_to_be_gone_and_for_what_it_has_written_until_then() -> None:
    """What the others write meanwhile makes its log longer, and they need not have it from here."""
    inside = Membership(3, (replace(IN, state=NodeState.LEAVING), Node(2, "b", NodeState.IN)), next_number=3)

    def leaving(closed_at: int | None, applied: int) -> Plan:
        own = Own(Database.NODE, 1, running=True, closed_at=closed_at)
        said = {"a": Said(1, end=99), "b": Said(2, applied={1: applied})}
        return decide(View("a", True, inside, own, said, leave=True))

    assert leaving(None, 99).change is None
    assert leaving(50, 49).change is None
    gone = leaving(50, 50).change
    assert gone is not None
    assert gone.node(1) is None
    assert leaving(50, 50).admit is False


def test_a_database_that_is_older_than_what_others_have_of_it_is_not_the_one_it_was() -> None:
    inside = Membership(3, (IN, Node(2, "b", NodeState.IN)), next_number=3)
    said = {"a": Said(1, {2: 5}, end=7), "b": Said(2, {1: 0}, applied={1: 9})}
    plan = decide(View("a", True, inside, Own(Database.NODE, 1, running=True, applied={2: 0}), said))
    assert plan.change is not None
    assert plan.change.node(1) == replace(IN, state=NodeState.DEAD)
    assert plan.admit is False


def test_who_has_a_gap_compares_before_it_reads_on() -> None:
    inside = Membership(3, (IN, Node(2, "b", NodeState.IN)), next_number=3)
    said = {"a": Said(1, {2: 5}, end=7), "b": Said(2, {1: 4}, applied={1: 7})}
    plan = decide(View("a", True, inside, Own(Database.NODE, 1, running=True, slots={2: 5}, applied={2: 3}), said))
    assert plan.read == {}
    assert plan.compare == {2: "b"}
    assert plan.admit
