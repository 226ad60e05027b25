"""How a node of an active-active cluster comes, goes, dies and returns: what it does next, given what it knows.

`decide` is a pure function from a `View` to a `Plan`, called again whenever something changes; it asks for the same as
long as it is wanted and remembers nothing. Whoever carries a plan out ends first what the one before named and this one
does not (a log that is read, a comparison, something that is fetched), and then writes its `change`. The design, with
the argument why survivors end equal, is `docs/decisions/active-active-life.md`.

What it guarantees
    1. *A number is one life.* Whoever has no database that the membership knows under its own number gets a new number
       before anything is made for it. So no stamp, slot or origin means two things. A membership that has not given out
       a number that a database here has is older than that database, and not believed.
    2. *Nothing is missed by a newcomer.* Its copy is begun only when everyone who may send keeps a place for it (a
       slot), and its donor has applied each sender at least up to that place. What the donor has applied by the moment
       of the copy is in the copy, with how far that is; the rest comes from the slots: from the donor's, what came
       after the end of the copy. Whose log ends meanwhile would leave a gap: so who leaves waits for newcomers,
       newcomers wait for who leaves or is dead, and a death sends newcomers back.
    3. *Nothing of a newcomer is missed.* It is let in only when it keeps a place for every other node.
    4. *Nobody serves who is not in.* A database is opened to clients when the membership was seen to have its number as
       in since the database was started. One that was declared dead while nobody could tell it goes on until it can be
       told: what it takes meanwhile is only there. That is what `removal_ms` is long for.
    5. *A gap is never skipped.* Whoever finds that a sender's place for it begins later than what it has (the place was
       lost, or given up for want of disk) reads no further before it has joined that sender's whole state with its own;
       joining states again does no harm. A database that is older than what others have of it (a restored one) is not
       taken for the one it was.
    6. *A node has exactly what it says it has.* How far it has each log rises in the very transaction that brings rows,
       whatever brings them: reading, a copy, a comparison, a fetch. Otherwise a survivor has rows beyond its seal that
       nobody asks it for, and has them alone for ever.
    7. *A dead one's log ends once.* It is settled when all survivors have sealed, and then have the same of it. A seal
       may rise by what other survivors have, and theirs are no lower. What was taken from one who has died since is in
       no seal: so each death begins the settling of all who are dead anew.

What it does not
    It declares nobody dead out of suspicion: serving without a silent node needs no declaration (routers leave it out),
    and nothing but disk is lost by waiting.
"""

from __future__ import annotations

from dataclasses import replace

from twinstar.model.membership import Membership, Node, NodeState
from twinstar.rules.active_active.membership import Missing, missing
from twinstar.rules.active_active.plan import Become, Copy, Database, Make, Plan, Said, Start, State, View

_SENDERS = (NodeState.IN, NodeState.LEAVING)
_PLACED = (NodeState.JOINING, NodeState.IN, NodeState.LEAVING)


def decide(view: View) -> Plan:
    """The next steps of one member."""
    membership = view.membership
    if membership is None:
        return _found(view) if view.store_seen else _unknown(view)
    if view.own.number >= membership.next_number:
        note = f"The store has not given out number {view.own.number} yet, which this database has: it is older. "
        return Plan(State.WAITING, note + "Restore the newest one.", admit=None)
    mine = membership.of(view.me)
    if mine is None or (mine.state is NodeState.DEAD and not _known(view, mine)):
        return _come(view, membership)
    if mine.state in _SENDERS and not _known(view, mine):
        # Its database is another life's, or gone: this life is over, and nobody can say any more what it wrote last.
        dead = _dying(membership, mine, "database lost")
        return Plan(State.DEAD, f"The database of node {mine.number} is not here any more.", change=dead)
    match mine.state:
        case NodeState.JOINING:
            return _join(view, membership, mine)
        case NodeState.IN:
            return _serve(view, membership, mine)
        case NodeState.LEAVING:
            return _leave(view, membership, mine)
        case NodeState.DEAD:
            return Plan(State.DEAD, "Declared dead: no client is let in. It comes back as a copy of another node.")


# -- coming ------------------------------------------------------------------------------------------------------------


def _unknown(view: View) -> Plan:
    """The store has not answered. A node that runs goes on as it was; nobody else is let in."""
    if view.own.database is Database.NODE and not view.own.running:
        return Plan(State.STARTING, "Waiting for the store before clients are let in.", Start())
    return Plan(State.WAITING, "Waiting for the store: nothing is known about who is in.", admit=None)


def _found(view: View) -> Plan:
    if view.own.database is Database.NODE:
        return Plan(
            State.WAITING,
            f"The store knows no cluster, but this database is its node {view.own.number}: restore the store, or point "
            "this member at the right one.",
        )
    first = Node(1, view.me, NodeState.JOINING)
    return Plan(State.JOINING, "Founding the cluster.", change=Membership(1, (first,), 2, reason="founded"))


def _come(view: View, membership: Membership) -> Plan:
    """It needs a number, and a donor."""
    if view.leave:
        return Plan(State.LEAVING, "Has left: start it again without `leave` to have it come back.")
    if ending := membership.in_state(NodeState.DEAD, NodeState.LEAVING):
        return Plan(State.WAITING, f"Waiting until node {ending[0].number} ({ending[0].member}) is gone for good.")
    donors = [each for each in membership.in_state(NodeState.IN) if _said(view, each)]
    if not donors:
        return Plan(State.WAITING, "No node that is in can be heard to copy from.")
    if len(membership.in_state(NodeState.JOINING)) > 0:
        return Plan(State.WAITING, "Another node is joining: one after the other.")
    # Who sends to the fewest has the most to spare.
    donor = min(donors, key=lambda each: (len(view.said[each.member].slots), each.number))
    newcomer = Node(membership.next_number, view.me, NodeState.JOINING, donor.number)
    change = membership.having(newcomer, "joining")
    return Plan(State.JOINING, f"Joins as node {newcomer.number}, by a copy of {donor.member}.", change=change)


def _join(view: View, membership: Membership, mine: Node) -> Plan:
    own = view.own
    if own.database is Database.NODE and own.number == mine.number:
        return _complete(view, membership, mine)
    if own.database is Database.MADE and own.made_for == mine.number:
        return Plan(State.JOINING, engine=Become(mine.number) if own.running else Start())
    if mine.donor is None:
        return Plan(State.JOINING, "Making the cluster's first database.", Make(mine.number))
    donor = membership.node(mine.donor)
    if donor is None or donor.state is not NodeState.IN:
        gone = membership.without(mine.number, "donor gone")
        return Plan(State.JOINING, "Its donor is in no more: it begins anew.", change=gone)
    if waits := _unready(view, membership, mine, donor):
        return Plan(State.JOINING, waits)
    return Plan(State.JOINING, f"Copying {donor.member}.", Copy(donor.member, mine.number))


def _unready(view: View, membership: Membership, mine: Node, donor: Node) -> str:
    """Whom the copy waits for; empty when it may begin (guarantee 2)."""
    for sender in membership.in_state(*_SENDERS):
        said = _said(view, sender)
        if said is None or mine.number not in said.slots:
            return f"Waiting for {sender.member} to keep a place for it."
    for sender in membership.in_state(*_SENDERS):
        begins = view.said[sender.member].slots[mine.number]
        if sender != donor and view.said[donor.member].applied.get(sender.number, 0) < begins:
            return f"Waiting for {donor.member} to apply what {sender.member} has sent."
    return ""


def _complete(view: View, membership: Membership, mine: Node) -> Plan:
    """The database is there: places first, then in (guarantee 3)."""
    plan = _connected(view, membership, mine, State.JOINING)
    if not view.own.running:
        return replace(plan, engine=Start())
    if (plan.places or frozenset()) - view.own.slots.keys():
        return replace(plan, note="Making places for the others.")
    return replace(plan, change=membership.having(replace(mine, state=NodeState.IN), "joined"))


# -- being in ----------------------------------------------------------------------------------------------------------


def _serve(view: View, membership: Membership, mine: Node) -> Plan:
    plan = _connected(view, membership, mine, State.SERVING)
    if not view.own.running:
        return replace(plan, state=State.STARTING, engine=Start())
    if _is_older(view, membership, mine):
        note = f"The database is older than what others have of node {mine.number}: it was restored, or lost its end."
        return Plan(State.DEAD, note, change=_dying(membership, mine, "database older"))
    if view.leave and membership.in_state(NodeState.IN) != (mine,):
        leaving = membership.having(replace(mine, state=NodeState.LEAVING), "leaving")
        return replace(plan, state=State.LEAVING, change=leaving)
    plan = replace(plan, change=_settle(view, membership, mine) or _declare(view, membership))
    plan = replace(plan, fetch=_fetch(membership, mine))
    if view.fenced:
        return replace(plan, state=State.FENCED, note="Its clock is wrong: no client is let in until it is right.")
    return replace(plan, admit=True)


def _leave(view: View, membership: Membership, mine: Node) -> Plan:
    plan = _connected(view, membership, mine, State.LEAVING)
    if not view.own.running:
        return replace(plan, engine=Start())
    plan = replace(plan, fetch=_fetch(membership, mine))
    if (change := _settle(view, membership, mine)) is not None:
        return replace(plan, change=change)
    if not view.leave:
        return replace(plan, change=membership.having(replace(mine, state=NodeState.IN), "stays"))
    if not membership.in_state(NodeState.IN):
        return replace(plan, note="Waiting for another node to be in.")
    if unsettled := membership.in_state(NodeState.JOINING, NodeState.DEAD):
        return replace(plan, note=f"Waiting for {unsettled[0].member} to be in, or gone.")
    if view.own.closed_at is None:
        return replace(plan, note="Waiting until its clients are gone.")
    # Who is leaving as well may yet stay, so it must not miss anything either.
    for other in (each for each in membership.in_state(*_SENDERS) if each != mine):
        said = _said(view, other)
        if said is None or said.applied.get(mine.number, 0) < view.own.closed_at:
            return replace(plan, note=f"Waiting for {other.member} to apply what is here.")
    return replace(plan, change=membership.without(mine.number, "left"))


def _settle(view: View, membership: Membership, mine: Node) -> Membership | None:
    """A dead node's seals: this survivor's own, and when all are there and equal, its end."""
    survivors = {each.number for each in membership.in_state(*_SENDERS)}
    for dead in membership.in_state(NodeState.DEAD):
        seals = dict(dead.seals)
        received = view.own.received.get(dead.number)
        if received is not None and received > seals.get(mine.number, -1):
            sealed = tuple(sorted((seals | {mine.number: received}).items()))
            return membership.having(replace(dead, seals=sealed), "sealed")
        settled = survivors <= seals.keys() and len({seals[each] for each in survivors}) == 1
        if settled and mine.number == min(survivors):
            return membership.without(dead.number, "settled")
    return None


def _fetch(membership: Membership, mine: Node) -> tuple[int, Missing] | None:
    survivors = [each.number for each in membership.in_state(*_SENDERS)]
    for dead in membership.in_state(NodeState.DEAD):
        seals = dict(dead.seals)
        lacking = missing(mine.number, seals, survivors) if mine.number in seals else None
        if lacking is not None:
            return dead.number, lacking
    return None


def _declare(view: View, membership: Membership) -> Membership | None:
    """Who has been silent for very long, if most of those who are in are heard here."""
    inside = membership.in_state(NodeState.IN)
    heard = sum(each.member in view.said for each in inside)
    if 2 * heard <= len(inside):
        return None
    for each in membership.nodes:
        if each.member in view.said or view.silent_ms.get(each.member, 0.0) < view.removal_ms:
            continue
        if each.state is NodeState.JOINING:
            return membership.without(each.number, "never came")
        if each.state in _SENDERS:
            return _dying(membership, each, "silent for too long")
    return None


def _dying(membership: Membership, node: Node, reason: str) -> Membership:
    """Its log ends, and who is being copied meanwhile would have a gap there: newcomers begin anew. So do seals, since
    somebody may have taken something from this node that is in none of them.
    """
    dead = membership.having(replace(node, state=NodeState.DEAD), reason)
    rest = (each for each in dead.nodes if each.state is not NodeState.JOINING)
    return replace(dead, nodes=tuple(replace(each, seals=()) for each in rest))


def _said(view: View, node: Node) -> Said | None:
    """What this very node says; None when its agent is not heard, or its database does not run."""
    said = view.said.get(node.member)
    return said if said is not None and said.number == node.number else None


def _known(view: View, mine: Node) -> bool:
    return view.own.database is Database.NODE and view.own.number == mine.number


def _connected(view: View, membership: Membership, mine: Node, state: State) -> Plan:
    """Places for everybody else, and their logs read: those of the dead no more, which is the first half of a seal."""
    others = [each for each in membership.nodes if each.number != mine.number]
    senders = [each for each in others if each.state in _SENDERS]
    gaps = {each.number: each.member for each in senders if _has_gap(view, each)}
    return Plan(
        state,
        places=frozenset(each.number for each in others if each.state in _PLACED),
        read={each.number: each.member for each in senders if each.number not in gaps},
        compare=gaps,
    )


def _has_gap(view: View, sender: Node) -> bool:
    """Its place for this node begins later than what is here."""
    said = _said(view, sender)
    begins = said.slots.get(view.own.number) if said is not None else None
    return begins is not None and begins > view.own.applied.get(sender.number, 0)


def _is_older(view: View, membership: Membership, mine: Node) -> bool:
    here = _said(view, mine)
    said = [_said(view, each) for each in membership.in_state(*_SENDERS) if each.number != mine.number]
    return here is not None and any(each.applied.get(mine.number, 0) > here.end for each in said if each is not None)
