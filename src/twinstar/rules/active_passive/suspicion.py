"""When a voter may start a candidacy against a leader (durability `quorum`).

One member's suspicion never moves anything while others still hear the leader: a majority of the voters must suspect,
and enough copies must be able to seal. A guard's word that its database died, with no process of it left, needs no
vote: nothing can be acknowledged any more. (`docs/protocol.md`, "How leadership ends".)

A *witness* has no copy and no vote. Its word holds an accusation of silence back, for a while, where it could bring no
service by itself: where those who accuse are too few to confirm anything. With two data nodes that is always so, and
then the witness tells a dead leader from a broken link between the two. ("Witnesses" there.)
"""

from __future__ import annotations

from twinstar.model.effects import ChangeRegister, Reason
from twinstar.model.register import Durability, Register
from twinstar.model.view import Peer, View
from twinstar.model.wire import EngineWord
from twinstar.rules.active_passive.local import can_seal, candidacy
from twinstar.rules.election import majority

_SWITCHOVER_MARGIN_MS = 1_000
"""For how long after a switchover's deadline its leader may still be on its way back."""
_WITNESS_REMOVALS, _WITNESS_ELECTIONS = 2, 5
"""How many times `voter_removal_ms` and `election_timeout_ms` a witness may hold an accusation back: by then a leader
that reaches the store has noticed that its voter is gone (`wal_sender_timeout`), and gone on without it."""
_WORD_DELAY_MS = 40
"""The leader's own agent is nearer: the voters act on the guard's word this much later, or when it is stuck."""


def suspects(view: View, leader: Peer) -> Reason | None:
    """Whether this member by itself holds that the leader does not lead, and why."""
    if leader.silent and (leader.ever_heard or _may_judge_unheard(view)):
        return Reason.SUSPECTED
    if leader.heard and leader.not_leading_ms > view.settings.election_timeout_ms and not _hands_over(view):
        return Reason.NOT_LEADING
    return Reason.DEAF if _is_deaf(view, leader) else None


def case_against(view: View, register: Register) -> ChangeRegister | None:
    """The candidacy that this voter may start now, if any."""
    leader = view.peer(register.leader)
    if view.me not in register.voters or not can_seal(view, register) or register.paused:
        return None
    if _declared_dead(view, register, leader):
        why = f"the guard of {register.leader} says that its database died and no process of it is left"
        return _against(view, register, Reason.DATABASE_DEAD, why)
    reason = suspects(view, leader)
    if reason is None or view.epoch_age_ms < view.forbearance_ms:
        return None
    accusers = [m for m in register.voters if m == view.me or view.peer(m).suspects]
    sealable = [m for m in register.copies if m == view.me or view.peer(m).can_seal]
    if len(accusers) < majority(len(register.voters)) or len(sealable) < len(register.copies) - register.required:
        return None
    if reason is Reason.SUSPECTED and _held_back(view, register, leader, accusers):
        return None
    return _against(view, register, reason, f"suspected by {', '.join(sorted(accusers))}")


def _held_back(view: View, register: Register, leader: Peer, accusers: list[str]) -> bool:
    """Whether most of the witnesses that are there do not say that the leader is silent."""
    if len(accusers) > register.required:
        return False
    settings = view.settings
    patience_ms = _WITNESS_REMOVALS * settings.voter_removal_ms + _WITNESS_ELECTIONS * settings.election_timeout_ms
    if min(leader.silent_for_ms, view.epoch_age_ms) >= patience_ms:
        return False
    there = [view.peer(witness) for witness in settings.witnesses if _is_there(view, witness)]
    return 2 * sum(not witness.suspects for witness in there) > len(there)


def _is_there(view: View, witness: str) -> bool:
    """Heard, and its agent gets on, so that it answers."""
    peer = view.peer(witness)
    return peer.heard and peer.agent_age_ms <= view.settings.election_timeout_ms


def _against(view: View, register: Register, reason: Reason, evidence: str) -> ChangeRegister:
    return ChangeRegister(candidacy(register, reason), view.revision, reason, evidence)


def _declared_dead(view: View, register: Register, leader: Peer) -> bool:
    if leader.engine is not EngineWord.DEAD or leader.epoch != register.epoch or not leader.leading:
        return False
    agent_gets_on = leader.agent_age_ms <= 5 * view.settings.heartbeat_ms
    return not agent_gets_on or leader.not_leading_ms >= _WORD_DELAY_MS


def _is_deaf(view: View, leader: Peer) -> bool:
    """Whether the leader is heard and says itself that it hears fewer voters than must confirm, this member not being
    one of them: a link that passes one way. Only where another leader would find enough that hear it.
    """
    register = view.register
    if register is None or register.durability is not Durability.QUORUM or not leader.heard:
        return False
    others = [m for m in register.voters if m != view.me and view.peer(m).heard]
    return leader.deaf_ms > view.settings.election_timeout_ms and len(
        register.voters - leader.unheard
    ) < register.required <= len(others)


def _hands_over(view: View) -> bool:
    """A leader in a switchover has stopped on purpose; until its time is over, by one's own clock."""
    planned = view.register.switchover if view.register else None
    return planned is not None and view.register_age_ms < planned.within_ms + _SWITCHOVER_MARGIN_MS


def _may_judge_unheard(view: View) -> bool:
    """A peer nobody ever heard is a configuration error; after the start's grace it is silent like any other,
    provided another member is heard, or there is no other."""
    others = [m for m in view.settings.members if m != view.me]
    return view.up_ms >= view.settings.start_grace_ms and (len(others) < 2 or any(view.peer(m).heard for m in others))
