"""What people change of a running cluster, and what its members do while only some of them know of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.rules.views import EPOCH, HERE, LIVING, MEMBERS, PRIMARY, REGISTER, SETTINGS, SILENT, attachment, view
from twinstar.model.effects import Follow, Kill, Reason, Stop
from twinstar.model.engine import Names, Primary
from twinstar.model.position import Position
from twinstar.model.register import Durability, Phase, Register
from twinstar.model.view import Peer
from twinstar.rules.active_passive import decide

LEASES = replace(SETTINGS, durability=Durability.ASYNC, required=0, lease_ms=3_000)
LEASED = REGISTER.but(durability=Durability.ASYNC, required=0, lease_ms=2_000, position=HERE)
STRANGER = REGISTER.but(leader="n9", copies=frozenset({*MEMBERS, "n9"}))


def test_a_leader_that_is_not_in_this_members_file_is_waited_for_with_a_sentence() -> None:
    plan = decide(view("n2", register=STRANGER))
    assert (plan.engine, plan.change) == (None, None)
    assert "n9 leads and is not in this node's twinstar.yaml" in plan.note
    assert decide(view("n1", register=STRANGER.but(epoch=EPOCH + 1), engine=PRIMARY)).engine == Stop()


def test_who_does_not_know_the_leader_takes_over_from_it_as_from_any_other() -> None:
    register = LEASED.but(leader="n9")
    assert decide(view("n2", register=register, register_age_ms=2_500)).change is not None


@pytest.mark.parametrize(
    ("left_ms", "but", "ends"),
    [
        (2_000, {}, False),
        (300, {}, True),
        (2_000, {"guard_silent_ms": 3_001}, True),
        (300, {"asked_lease_ms": 0}, False),
    ],
)
def test_who_has_asked_for_a_lease_is_bound_by_it_before_it_is_known(
    left_ms: float, but: dict[str, Any], ends: bool
) -> None:
    asked = {"changing": True, "asked_lease_ms": 3_000, "lease_left_ms": left_ms, **but}
    assert (decide(view("n1", settings=LEASES, **asked)).engine == Kill()) == ends


def test_another_lease_comes_with_a_renewal_and_in_doubt_the_shorter_one_binds() -> None:
    renewing = view("n1", register=LEASED, settings=LEASES, renewed_age_ms=500)
    change = decide(renewing).change
    assert change is not None
    assert change.register.lease_ms == LEASES.lease_ms == 3_000
    for asked_ms in (3_000, 1_000):
        doubt = replace(renewing, changing=True, asked_lease_ms=asked_ms)
        assert decide(replace(doubt, lease_left_ms=250)).engine is None
        assert decide(replace(doubt, lease_left_ms=90)).engine == Kill()
        assert decide(replace(doubt, lease_left_ms=1_000, guard_silent_ms=2_001)).engine == Kill()


def test_no_lease_begins_before_it_is_known_where_the_log_ends() -> None:
    """Without a published position nothing would bound what is lost."""
    change = decide(view("n1", settings=LEASES, primary=None)).change
    assert change is None or change.register.durability is Durability.QUORUM


def test_under_a_lease_who_is_no_member_any_more_is_no_copy() -> None:
    here = Primary(HERE, (attachment("n2"), attachment("n3")))
    without = replace(LEASES, members=("n1", "n2"))
    change = decide(view("n1", register=LEASED, settings=without, primary=here)).change
    assert change is not None
    assert change.register.copies == {"n1", "n2"}


def test_under_a_lease_who_was_removed_and_has_not_heard_of_it_does_not_take_over() -> None:
    removed = LEASED.but(copies=frozenset({"n1", "n3"}))
    for register, takes in ((LEASED, True), (removed, False)):
        plan = decide(view("n2", register=register, register_age_ms=9_999, peers={"n1": SILENT}))
        assert (plan.change is not None) == takes


@pytest.mark.parametrize("register", [REGISTER, LEASED])
@pytest.mark.parametrize("of_n3", [LIVING, replace(LIVING, members=frozenset(MEMBERS) - {"n2"}), SILENT])
def test_a_new_member_counts_when_the_others_that_are_heard_know_it(register: Register, of_n3: Peer) -> None:
    two = register.but(copies=frozenset({"n1", "n3"}))
    settings = LEASES if register is LEASED else SETTINGS
    enforced = Names(EPOCH, frozenset() if register is LEASED else frozenset({"n3"}), two.required)
    plan = decide(view("n1", register=two, settings=settings, peers={"n3": of_n3}, enforced=enforced))
    taken_in = plan.change is not None and "n2" in plan.change.register.copies
    assert taken_in == (of_n3 is SILENT or "n2" in of_n3.members)


FORCED = LEASED.but(epoch=EPOCH + 1, phase=Phase.ELECTING, copies=frozenset({"n2"}), reason=Reason.FORCED.value)
BEHIND = replace(view("n2").engine, position=Position(EPOCH, 10), upstream=None, receiving=False)


def test_under_a_lease_an_accepted_loss_makes_the_chosen_copy_lead_however_far_behind_it_is() -> None:
    bound = replace(LEASES, maximum_lag_bytes=100)
    peers = {"n1": SILENT, "n3": LIVING}
    chosen = decide(view("n2", register=FORCED, settings=bound, engine=BEHIND, peers=peers)).change
    assert chosen is not None
    assert (chosen.register.leader, chosen.register.copies) == ("n2", frozenset({"n2"}))
    assert chosen.register.position == Position(EPOCH, 10), "what others are measured by is what it has"
    assert decide(view("n3", register=FORCED, settings=bound, peers={"n1": SILENT})).change is None


def test_the_former_leader_does_not_turn_an_accepted_loss_into_an_election() -> None:
    stopped = decide(view("n1", register=FORCED, engine=view("n2").engine)).change
    assert stopped is None


def test_a_voter_follows_a_new_member_when_it_knows_it() -> None:
    known = replace(view("n2", register=STRANGER), addresses={**view("n2").addresses, "n9": view("n2").addresses["n1"]})
    plan = decide(replace(known, peers={**known.peers, "n9": LIVING}))
    assert isinstance(plan.engine, Follow)
