"""What can be asked for by hand, and what is refused with a sentence that says what to do instead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.rules.views import ABSENT, EPOCH, HERE, LIVING, REGISTER, SETTINGS, SILENT, attachment, electing, view
from twinstar.model.effects import Reason
from twinstar.model.engine import Primary
from twinstar.model.register import Phase
from twinstar.rules.active_passive import operator
from twinstar.rules.active_passive.operator import Refused

NOBODY = {"n1": SILENT, "n3": SILENT}


def test_a_switchover_goes_to_whom_it_names_or_to_the_best() -> None:
    asked = operator.switchover(view("n1"), "n2", 5_000).register.switchover
    assert asked is not None
    assert (asked.to, asked.deadline_wall_ms) == ("n2", 1_700_000_005_000)
    chosen = operator.switchover(view("n1"), None, 5_000).register.switchover
    assert chosen is not None
    assert chosen.to == "n3", "equals: the last name"
    preferring = replace(SETTINGS, priorities={"n2": 1})
    chosen = operator.switchover(view("n1", settings=preferring), None, 5_000).register.switchover
    assert chosen is not None
    assert chosen.to == "n2"


@pytest.mark.parametrize(
    "but",
    [
        {"primary": Primary(HERE, (attachment("n3"),))},
        {"primary": Primary(HERE, (attachment("n2", streaming=False),))},
        {"primary": Primary(HERE, (attachment("n2", genuine=False),))},
        {"opened": 0},
        {"register": electing()},
        {"store_ok": False},
        {"register": REGISTER.but(copies=frozenset({"n1", "n3"}))},
    ],
    ids=["not attached", "not streaming", "not genuine", "not open", "an election is on", "no store", "no voter"],
)
def test_a_switchover_that_could_not_succeed_is_refused(but: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        operator.switchover(view("n1", **but), "n2", 5_000)


def test_a_failover_is_a_candidacy_without_a_vote() -> None:
    begun = operator.failover(view("n2"), None, accept_loss=False).register
    assert (begun.epoch, begun.phase, begun.reason) == (EPOCH + 1, Phase.ELECTING, Reason.OPERATOR)
    assert (begun.copies, begun.required, begun.leader) == (REGISTER.copies, REGISTER.required, "n1")


def test_a_failover_may_say_for_whom() -> None:
    begun = operator.failover(view("n2"), "n3", accept_loss=False).register
    assert begun.switchover is not None
    assert begun.switchover.to == "n3"


@pytest.mark.parametrize(
    ("to", "but", "says"),
    [
        ("n1", {}, "leads already"),
        ("n3", {"register": REGISTER.but(copies=frozenset({"n1", "n2"}))}, "copies"),
        ("n3", {"settings": replace(SETTINGS, nofailover=frozenset({"n3"}))}, "nofailover"),
        ("n3", {"peers": {"n3": SILENT}}, "answer"),
        ("n3", {"peers": {"n3": replace(LIVING, has_data=False)}}, "answer"),
    ],
)
def test_a_failover_to_one_that_could_not_lead_is_refused(to: str, but: dict[str, Any], says: str) -> None:
    with pytest.raises(Refused, match=says):
        operator.failover(view("n2", **but), to, accept_loss=False)


def test_a_failover_that_accepts_loss_counts_one_copy_alone() -> None:
    forced = operator.failover(view("n2", peers=NOBODY), "n2", accept_loss=True).register
    assert (forced.copies, forced.required, forced.epoch) == (frozenset({"n2"}), 0, EPOCH + 1)
    assert forced.reason == Reason.FORCED


@pytest.mark.parametrize(
    ("me", "to", "but"),
    [
        ("n2", None, {"peers": NOBODY}),
        ("n2", "n2", {"peers": NOBODY | {"n3": LIVING}}),
        ("n2", "n3", {"peers": NOBODY}),
        ("n2", "n2", {"peers": NOBODY, "store_ok": False}),
        ("n2", "n2", {"peers": NOBODY, "settings": replace(SETTINGS, nofailover=frozenset({"n2"}))}),
        ("n3", "n3", {"peers": NOBODY | {"n2": SILENT}, "engine": ABSENT}),
    ],
    ids=["nobody is named", "another copy answers", "this copy answers itself", "no store", "nofailover", "no data"],
)
def test_loss_is_not_accepted_lightly(me: str, to: str | None, but: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        operator.failover(view(me, **but), to, accept_loss=True)


def test_a_copy_without_data_does_not_stand_in_the_way() -> None:
    without = NOBODY | {"n3": replace(LIVING, has_data=False)}
    assert operator.failover(view("n2", peers=without), "n2", accept_loss=True).register.copies == {"n2"}
    asking = view("n3", engine=ABSENT, peers={"n1": SILENT, "n2": SILENT})
    assert operator.failover(asking, "n2", accept_loss=True).register.copies == {"n2"}


@pytest.mark.parametrize("paused", [True, False])
def test_pausing_changes_nothing_else(paused: bool) -> None:
    change = operator.pause(view("n2"), paused)
    assert change.register == REGISTER.but(paused=paused)
