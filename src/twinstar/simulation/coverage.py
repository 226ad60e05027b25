"""Interesting states that runs should go through: a green campaign that was nowhere near them proves nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from twinstar.model.effects import Reason
from twinstar.model.register import Durability, Phase, Register
from twinstar.simulation.plan import StoreKind

SOMETIMES = {
    "promoted": "a database was promoted",
    "sealed failover": "an election named another member, sealed, instead of the last leader",
    "suspected": "a leader that was silent was accused",
    "declared dead": "a leader was replaced on the word of its guard or its agent",
    "contested candidacy": "two members stood for the same epoch at once",
    "election superseded": "an election was not finished in time, and another one began",
    "leader dead during promotion": "the leader that had just been named failed before it was open",
    "store down during failover": "the store went away while nobody led",
    "retaken": "a running leader took its leadership back after a false alarm",
    "leader restarted": "a leader came back before anybody replaced it, under an epoch of its own",
    "switchover done": "a planned change of leader was carried through",
    "switchover given up": "a planned change of leader was begun and not carried through",
    "lease expired": "`async`: a leader was replaced because its lease had run out",
    "lease given up": "`async`: a leader gave its lease up",
    "lost within the bound": "`async`: a leader began without a write that had been acknowledged",
    "quorum degraded": "fewer had to confirm than before",
    "quorum restored": "and again as many as before",
    "acknowledged late": "a write was acknowledged after a later leader had begun with it",
    "guard fired": "a guard ended a database",
    "rewound": "a former leader was rewound",
    "cloned": "a copy was made anew, the first ones included",
    "paused": "an operator stopped everything automatic",
    "member added": "a member was added, and every machine read of it, while other things went on",
    "member removed": "a standby was removed",
    "led by a stranger": "a new member led before the others had heard of it",
    "leader removed": "who led was removed",
    "required changed": "another number of confirmations was read by every machine",
    "policy changed": "the other policy was",
    "tags changed": "who had confirmed commits and might lead did so no more, or again, or had another priority",
    "bounds changed": "other bounds on lag, and on how long a voter may be away, were",
    "loss accepted": "somebody had one copy count alone, by `failover --accept-loss`",
    "accepted loss was one": "and writes that had been acknowledged were lost by it",
    "durability changed": "the other durability was",
    "to async": "a leader had its first lease instead of confirmations",
    "to quorum": "a leader had confirmations again instead of a lease",
    "a witness told a broken link from a dead leader": "two copies did not hear each other, and nobody changed places",
    "a note beside the register": "Kubernetes: other people's edit moved the register's revision, and its value stood",
    "refused over a note": "Kubernetes: a change was refused although nothing of ours had changed",
    "history gone": "Kubernetes: a watch began from what the API server had forgotten",
    "an old answer": "ZooKeeper: a server showed what it had, and a majority had something newer",
    "ambushed": "a fault came at once after a step of the protocol",
}
"""What is counted, and what it means."""

_OF_STORE = {
    "a note beside the register": StoreKind.KUBERNETES,
    "refused over a note": StoreKind.KUBERNETES,
    "history gone": StoreKind.KUBERNETES,
    "an old answer": StoreKind.ZOOKEEPER,
}
"""What can be reached with one kind of store alone."""

_DECLARED = {Reason.DATABASE_DEAD.value, Reason.GIVEN_UP.value}


def never(been: Counter[str], stores: Collection[StoreKind]) -> list[str]:
    """What no run has reached that could be with these kinds of store."""
    return [what for what in SOMETIMES if not been[what] and (what not in _OF_STORE or _OF_STORE[what] in stores)]


class Scout:
    """Counts what can be told from the register's versions, and tells each change for the story."""

    def __init__(self, sometimes: Counter[str], tell: Callable[[str], None]) -> None:
        self._sometimes, self._tell = sometimes, tell
        self._last: Register | None = None
        self._most = 0
        """The highest `required` so far."""

    def changed(self, new: Register) -> None:
        """The register has a new version."""
        old, self._last = self._last, new
        if old is None or new == old.but(nonce=new.nonce, renewals=new.renewals, position=new.position):
            return
        self._tell(_change(old, new))
        for what in _reached(old, new):
            self._sometimes[what] += 1
        if old.required < new.required == self._most:
            self._sometimes["quorum restored"] += 1
        self._most = max(self._most, new.required)

    def refused(self, wanted: Register) -> None:
        """Somebody came too late with a version."""
        stands, candidacy = self._last, wanted.phase is Phase.ELECTING
        if stands is not None and candidacy and (stands.epoch, stands.phase) == (wanted.epoch, wanted.phase):
            self._sometimes["contested candidacy"] += 1


def _reached(old: Register, new: Register) -> list[str]:
    found = []
    began, another = new.epoch > old.epoch, new.leader != old.leader
    if old.phase is Phase.ELECTING and new.phase is Phase.LEADING and another and not new.lease_ms:
        found.append("sealed failover")
    if began and old.phase is new.phase is Phase.ELECTING:
        found.append("election superseded")
    if began and new.reason == Reason.SUSPECTED:
        found.append("suspected")
    if began and new.reason in _DECLARED:
        found.append("declared dead")
    if began and new.reason == Reason.RESTARTED:
        found.append("leader restarted")
    if began and new.reason == Reason.LEASE_LOST:
        found.append("lease expired")
    if began and new.reason == Reason.GIVEN_UP:
        found.append("lease given up")
    if old.switchover is not None and new.switchover is None and old.phase is Phase.LEADING:
        found.append("switchover done" if new.leader == old.switchover.to else "switchover given up")
    if new.required < old.required:
        found.append("quorum degraded")
    if new.durability is not old.durability:
        found.append("to async" if new.durability is Durability.ASYNC else "to quorum")
    if new.paused and not old.paused:
        found.append("paused")
    return found


def _change(old: Register, new: Register) -> str:
    """One version of the register in a line."""
    author = new.nonce.split(":")[0]
    more = [f"copies {','.join(sorted(new.copies))} required {new.required}"]
    more += [f"switchover to {new.switchover.to}"] if new.switchover else []
    more += ["paused"] if new.paused else []
    lead = f"leader {new.leader}" + (f" (was {old.leader})" if new.leader != old.leader else "")
    return f"register by {author}: epoch {new.epoch} {new.phase}, {lead}, {', '.join(more)}; {new.reason}"
