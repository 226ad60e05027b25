"""Which fault there is for which strategy, and when a cluster is whole."""

from __future__ import annotations

from dataclasses import replace

import pytest

from twinstar.drill.faults import ALL_WRITE, NO_LEADER, Fault, refuse_impossible
from twinstar.drill.target import MemberView, View
from twinstar.model.errors import UsageError

MEMBERS = tuple(MemberView(name, "", "node", "serving", None, None, None, "", {}) for name in ("n1", "n2"))
ACTIVE = View("active-active", 1, "serving", "", True, "embedded", "any", MEMBERS, "", frozenset(), 0, "async")
PASSIVE = replace(ACTIVE, strategy="active-passive", leader="n1")


@pytest.mark.parametrize("fault", Fault)
def test_each_strategy_has_faults_of_its_own(fault: Fault) -> None:
    for view, foreign in ((ACTIVE, NO_LEADER), (PASSIVE, ALL_WRITE)):
        if fault in foreign:
            with pytest.raises(UsageError, match=f"An {view.strategy} cluster has nothing for {fault} to strike"):
                refuse_impossible(fault, view)
        else:
            refuse_impossible(fault, view)


def test_a_node_that_runs_and_lets_nobody_in_does_not_serve() -> None:
    assert ACTIVE.serving
    shut = replace(ACTIVE, members=(MEMBERS[0], replace(MEMBERS[1], open=False)))
    assert not shut.serving
    assert "n2 serving, not open" in str(shut)


def test_a_new_cluster_serves_once_a_commit_needs_a_second_disk() -> None:
    """The copies are counted first, and only then asked for: in between a commit is on the leader's disk alone."""
    leader, standby = (
        replace(member, state=state) for member, state in zip(MEMBERS, ("running", "streaming"), strict=True)
    )
    counted = replace(
        PASSIVE, members=(leader, standby), copies=frozenset({"n1", "n2"}), durability="quorum", required=0
    )
    assert not counted.serving
    assert replace(counted, required=1).serving
    assert replace(counted, durability="async").serving
    assert replace(counted, members=(leader,)).serving
