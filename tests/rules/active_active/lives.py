"""A small world for the rules of `life`: logs that are lists, rows that are sets, agents that know what was said last.

What a slot or a copy leaves out is missing here as it would be in a database. Appliers refuse a slot that begins later
than what they have; a world whose appliers are `careless` reads on, so that it shows what only the rules prevent.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from twinstar.model.membership import Membership, NodeState
from twinstar.rules.active_active.life import decide
from twinstar.rules.active_active.plan import Become, Copy, Database, Effect, Make, Own, Plan, Said, Start, View

REMOVAL_MS = 1_000.0
Row = tuple[int, int]
"""(number of the node that wrote it, its place in that node's log from 1 on)"""


@dataclass
class Data:
    """What is in one data directory."""

    database: Database
    number: int = 0
    made_for: int = 0
    log: int = 0
    """How far its own log reaches."""
    rows: set[Row] = field(default_factory=set)
    applied: dict[int, int] = field(default_factory=dict)
    slots: dict[int, int] = field(default_factory=dict)
    stopped: set[int] = field(default_factory=set)
    """Whose logs are read no more."""
    comparing: dict[int, Taken] = field(default_factory=dict)
    """What has been read of others' databases, and is not here yet."""


@dataclass
class Taken:
    """A database's state of one moment."""

    rows: set[Row]
    applied: dict[int, int]
    """Its own log included."""
    place: int
    """Where its place for the reader begins."""


@dataclass
class Member:
    name: str
    data: Data | None = None
    running: bool = False
    """The database."""
    up: bool = True
    """The machine."""
    admitted: bool = False
    leave: bool = False
    blind: int = 0
    """For so many turns its store does not answer."""
    knows: Membership | None = None
    store_seen: bool = False
    said: dict[str, Said] = field(default_factory=dict)
    heard_ms: dict[str, float] = field(default_factory=dict)
    plan: Plan | None = None


class World:
    def __init__(
        self, seed: int, members: int, taken: Callable[[World, str, str], None], *, careless: bool = False
    ) -> None:
        self.taken = taken
        """Called when a member has copied and is let in, begun or ended a comparison, fetched: it, and from whom."""
        self.quiet = False
        self.careless = careless
        self.chance = random.Random(seed)
        self.members = {name: Member(name) for name in (f"n{i}" for i in range(1, members + 1))}
        self.store: Membership | None = None
        self.now_ms = 0.0
        self.lives: dict[int, str] = {}
        """Number -> whose; a second one is an error."""
        self.left: set[Row] = set()
        """What was written by nodes that have left in order."""
        self.cut: set[frozenset[str]] = set()
        self.coming: list[tuple[int, Callable[[], None]]] = []
        """Faults that follow in so many turns."""
        self.met: set[str] = set()
        self.story: list[str] = []

    # -- what members do -----------------------------------------------------------------------------------------------

    def step(self, name: str) -> None:
        """One turn of a member's agent: look, decide, act."""
        member = self.members[name]
        if not member.up:
            return
        member.blind = max(0, member.blind - 1)
        if not member.blind and self.chance.random() < 0.7:  # else the store is slow, and what is known is old
            member.knows, member.store_seen = self.store, True
        plan = decide(self.view(member))
        member.plan = plan
        self.met.add(plan.state.value)
        if plan.admit is not None:
            member.admitted = plan.admit and member.running
        if plan.change is not None:
            self._change(member, plan.change)
        data = member.data
        if data is not None and data.database is Database.NODE and member.running:
            self._keep_places(data, plan)
            self._seal(member, data, plan)
            self._fetch(member, data, plan)
            self._compare(member, data, plan)
        self._act(member, plan.engine)

    def view(self, member: Member) -> View:
        fresh = {n: s for n, s in member.said.items() if self.now_ms - member.heard_ms[n] < 100}
        fresh[member.name] = self.own_word(member)
        return View(
            me=member.name,
            store_seen=member.store_seen,
            membership=member.knows,
            own=self._own(member),
            said=fresh,
            silent_ms={n: self.now_ms - member.heard_ms.get(n, 0.0) for n in self.members if n != member.name},
            removal_ms=REMOVAL_MS,
            leave=member.leave,
        )

    def _own(self, member: Member) -> Own:
        data = member.data
        if data is None:
            return Own(Database.NONE)
        return Own(
            data.database, data.number if data.database is Database.NODE else 0, data.made_for, member.running,
            dict(data.slots), dict(data.applied), {number: data.applied.get(number, 0) for number in data.stopped},
            None if member.admitted else data.log,
        )  # fmt: skip

    def own_word(self, member: Member) -> Said:
        data = member.data
        if data is None or data.database is not Database.NODE or not member.running:
            return Said(0)
        return Said(data.number, dict(data.slots), dict(data.applied), data.log)

    def _change(self, member: Member, change: Membership) -> None:
        before = self.store.epoch if self.store else 0
        if change.epoch != before + 1 or member.knows != self.store:
            return  # somebody was faster
        for node in change.nodes:
            if self.store is None or self.store.node(node.number) is None:
                assert node.number not in self.lives, f"number {node.number} is given twice"
                self.lives[node.number] = node.member
        if self.store is not None and change.reason == "left":
            (gone,) = {n.number for n in self.store.nodes} - {n.number for n in change.nodes}
            data = self.members[self.lives[gone]].data
            assert data is not None
            self.left |= {(gone, place) for place in range(1, data.log + 1)}
        self.met.add(change.reason)
        self.story.append(f"{self.now_ms:7.0f} {member.name}: epoch {change.epoch} {change.reason} {change.nodes}")
        self.store = change
        if change.reason == "joined" and (mine := change.of(member.name)) and mine.donor in self.lives:
            self.taken(self, member.name, self.lives[mine.donor])

    def _keep_places(self, data: Data, plan: Plan) -> None:
        if plan.places is None:
            return
        for number in sorted(plan.places - data.slots.keys()):
            if self.chance.random() < 0.7:  # else it takes longer
                data.slots[number] = data.log
        for number in data.slots.keys() - plan.places:
            del data.slots[number]

    def _seal(self, member: Member, data: Data, plan: Plan) -> None:
        dead = member.knows.in_state(NodeState.DEAD) if member.knows else ()
        for node in dead:
            if node.number not in plan.read:
                data.stopped.add(node.number)

    def _fetch(self, member: Member, data: Data, plan: Plan) -> None:
        if plan.fetch is None or self.chance.random() < 0.5:
            return
        number, lacking = plan.fetch
        source = next(
            (m.data for m in self.members.values() if m.up and m.data and m.data.number == lacking.source), None
        )
        if source is not None:
            wanted = {(number, place) for place in range(lacking.after + 1, lacking.upto + 1)}
            data.rows |= source.rows & wanted
            data.applied[number] = lacking.upto
            self.met.add("fetched")
            self.taken(self, member.name, self.lives[lacking.source])

    def _compare(self, member: Member, data: Data, plan: Plan) -> None:
        """Takes some time: what an earlier turn has read is taken in now, if it is still wanted."""
        for number in list(data.comparing):
            taken = data.comparing[number]
            if number not in plan.compare:
                del data.comparing[number]
            elif self.chance.random() < 0.5:
                data.rows |= taken.rows
                for sender, upto in self.claimed(number, taken).items():
                    if sender != data.number:
                        data.applied[sender] = max(data.applied.get(sender, 0), upto)
                self.met.add("compared")
                del data.comparing[number]
                self.taken(self, member.name, self.lives[number])
        for number, name in plan.compare.items():
            other = self.members[name]
            source = other.data
            reached = other.up and other.running and frozenset((member.name, name)) not in self.cut
            readable = source is not None and source.number == number and data.number in source.slots
            if reached and readable and source is not None and number not in data.comparing:
                claims = {**source.applied, number: source.log}
                data.comparing[number] = Taken(set(source.rows), claims, source.slots[data.number])
                self.taken(self, member.name, name)

    def claimed(self, _number: int, taken: Taken) -> dict[int, int]:
        """How far a database that joined this state has everybody's logs."""
        return taken.applied

    def _act(self, member: Member, effect: Effect | None) -> None:
        data = member.data
        match effect:
            case Start():
                member.running = member.running or self.chance.random() < 0.5
            case Make(number):
                member.data, member.running = Data(Database.MADE, made_for=number), False
            case Copy(donor, number):
                self._copy(member, donor, number)
            case Become(number):
                assert data is not None
                data.database, data.number = Database.NODE, number
            case None:
                pass

    def _copy(self, member: Member, donor: str, number: int) -> None:
        source = self.members[donor]
        member.running = False
        reached = source.up and source.running and frozenset((member.name, donor)) not in self.cut
        # A donor that keeps no place for the copy refuses it.
        if not reached or source.data is None or number not in source.data.slots or self.chance.random() < 0.3:
            member.data = Data(Database.UNFINISHED, made_for=number)
            return
        member.data = Data(
            Database.MADE,
            made_for=number,
            rows=set(source.data.rows),
            applied={**source.data.applied, source.data.number: self.end_of_copy(source.data, number)},
        )
        self.taken(self, member.name, donor)

    def end_of_copy(self, donor: Data, _number: int) -> int:
        return donor.log

    def lose_a_place(self, name: str) -> None:
        data = self.members[name].data
        if data is not None and data.slots and not self.careless:
            del data.slots[self.chance.choice(sorted(data.slots))]

    def lose_the_place(self, receiver: str, sender: str) -> None:
        data, other = self.members[sender].data, self.members[receiver].data
        if data is not None and other is not None and not self.careless:
            data.slots.pop(other.number, None)

    def others_that_are_in(self, name: str) -> int:
        """How many others have a database that is in: who loses all of them has lost everything."""
        inside = self.store.in_state(NodeState.IN) if self.store else ()
        data = [self.members[each.member].data for each in inside if each.member != name]
        numbers = {each.number for each in inside}
        return sum(each is not None and each.number in numbers for each in data)

    def data(self, name: str) -> Data:
        data = self.members[name].data
        assert data is not None
        return data

    def state_of(self, number: int) -> NodeState | None:
        node = self.store.node(number) if self.store else None
        return node.state if node else None

    def seals_of(self, number: int) -> tuple[tuple[int, int], ...]:
        node = self.store.node(number) if self.store else None
        return node.seals if node else ()

    # -- what goes on beside them --------------------------------------------------------------------------------------

    def write(self, name: str) -> None:
        member = self.members[name]
        if member.up and member.running and member.admitted and member.data:
            member.data.log += 1
            member.data.rows.add((member.data.number, member.data.log))

    def apply(self, name: str) -> None:
        """Reads some more of each log that the plan names."""
        member = self.members[name]
        data = member.data
        if not member.up or not member.running or data is None or data.database is not Database.NODE:
            return
        for number, sender in (member.plan.read if member.plan else {}).items():
            other = self.members[sender]
            source = other.data
            linked = other.up and other.running and frozenset((name, sender)) not in self.cut
            if not linked or source is None or source.number != number or data.number not in source.slots:
                continue
            if not self.careless and source.slots[data.number] > data.applied.get(number, 0):
                continue
            begin = max(data.applied.get(number, 0), source.slots[data.number])
            source.slots[data.number] = begin  # confirmed
            end = self.chance.randint(begin, source.log)
            data.rows |= {(number, place) for place in range(begin + 1, end + 1)}
            data.applied[number] = end

    def talk(self) -> None:
        """Everybody hears everybody who can be heard; now and then not."""
        for member in self.members.values():
            for other in self.members.values():
                linked = frozenset((member.name, other.name)) not in self.cut
                if member is not other and member.up and other.up and linked:
                    member.said[other.name], member.heard_ms[other.name] = self.own_word(other), self.now_ms

    def crash(self, name: str) -> None:
        member = self.members[name]
        member.running = member.admitted = False
        member.store_seen, member.knows, member.plan = False, None, None
        if member.data is not None:
            member.data.comparing.clear()

    def unlike_its_word(self) -> str:
        """Who has not exactly what it says it has; empty when nobody."""
        for name, member in self.members.items():
            data = member.data
            if data is None or data.database is not Database.NODE:
                continue
            says = {**data.applied, data.number: data.log}
            here = {(number, place) for number, upto in says.items() for place in range(1, upto + 1)}
            if here != data.rows:
                return f"{name} (node {data.number}) says {says}, but: {sorted(here ^ data.rows)}"
        return ""
