"""When a node that leaves has written its last."""

from __future__ import annotations

from twinstar.agent.active_active.leaving import LastWrite


def test_what_counts_is_the_first_look_since_nobody_writes() -> None:
    last = LastWrite()
    assert last.end(False, 10, 9, 100) is None
    assert last.end(True, 20, 19, 200) is None, "looked at before"
    assert last.end(True, 30, 19, 200) is None
    assert last.end(True, 40, 35, 300) == 300
    assert last.end(True, 50, 45, 400) == 300, "that is the others' writes"


def test_who_writes_again_begins_it_anew() -> None:
    last = LastWrite()
    last.end(True, 10, 9, 100)
    assert last.end(True, 20, 15, 200) == 200
    assert last.end(False, 30, 25, 300) is None
    assert last.end(True, 40, 39, 400) is None
    assert last.end(True, 50, 45, 500) == 500
