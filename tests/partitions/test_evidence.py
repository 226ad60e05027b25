"""The check itself, on histories made by hand: what it must object to, and what it must not."""

from __future__ import annotations

from tests.partitions.evidence import Row, objections
from twinstar.drill.history import Attempt
from twinstar.histories.operation import Outcome

OLD, NEW = "10.0.0.1", "10.0.0.2"


def told(number: int, started_ms: float, ended_ms: float, outcome: Outcome = Outcome.ACKNOWLEDGED) -> Attempt:
    return Attempt(0, number, 0, started_ms, ended_ms, outcome)


def row(run: str, number: int, server: str, timeline: int, epoch: int = 0) -> Row:
    return Row(run, (0, number, 0), server, timeline, epoch)


SOUND = {"old": [told(1, 0, 1), told(2, 2, 9)], "new": [told(1, 4, 5)]}
"""The old leader's last confirmation was under way when the new one acknowledged its first write."""
THERE = [row("old", 1, OLD, 1, 1), row("old", 2, OLD, 1, 1), row("new", 1, NEW, 2, 2)]


def test_a_sound_history() -> None:
    assert objections(SOUND, THERE) == []


def test_an_acknowledged_row_that_is_gone() -> None:
    (found,) = objections(SOUND, THERE[:1] + THERE[2:])
    assert "gone" in found
    assert objections(SOUND, THERE[:1] + THERE[2:], may_lose=True) == []


def test_a_row_that_was_refused_and_is_there() -> None:
    refused = {**SOUND, "new": [told(1, 4, 5), told(2, 6, 7, Outcome.FAILED)]}
    (found,) = objections(refused, [*THERE, row("new", 2, NEW, 2, 2)])
    assert "nobody wrote it" in found


def test_two_servers_in_one_epoch_or_one_timeline() -> None:
    assert len(objections(SOUND, [*THERE[:2], row("new", 1, NEW, 2, 1)])) == 1
    assert len(objections(SOUND, [*THERE[:2], row("new", 1, NEW, 1, 2)])) == 1


def test_what_was_begun_after_a_later_leader_acknowledged() -> None:
    late = {**SOUND, "old": [told(1, 0, 1), told(2, 6, 9)]}
    (found,) = objections(late, THERE)
    assert "timeline 1" in found


def test_it_is_noticed_also_when_the_row_is_lost() -> None:
    late = {**SOUND, "old": [told(1, 0, 1), told(2, 6, 9)]}
    (found,) = objections(late, [THERE[0], THERE[2]], may_lose=True)
    assert "timeline 1" in found
