"""However sources break and overlap, what a watch has told adds up to what stands. And nothing waits twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twinstar.store.base import Changed, Lost, Synced, Versioned, WatchEvent
from twinstar.store.inbox import Inbox, slot_of
from twinstar.store.story import Story

KEYS = ("a", "b", "c")
History = list[tuple[str, Versioned | None]]
"""Change number n of a store, counted from 1, is the entry n - 1."""


@st.composite
def histories(draw: st.DrawFn) -> History:
    raw = draw(st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), max_size=12))
    return [
        (key, None if gone else Versioned(key, str(revision).encode(), revision))
        for revision, (key, gone) in enumerate(raw, 1)
    ]


def standing(history: History, revision: int) -> dict[str, Versioned]:
    found: dict[str, Versioned] = {}
    for key, value in history[:revision]:
        found.pop(key, None)
        if value:
            found[key] = value
    return found


def believe(told: dict[str, Versioned], events: list[Changed]) -> None:
    for event in events:
        told.pop(event.key, None)
        if event.value:
            told[event.key] = event.value


@given(histories(), st.data())
def test_parallel_and_broken_sources_tell_one_true_story(history: History, data: st.DataObject) -> None:
    """Two sources, each at a revision of its own, step, break and list again in any order."""
    story, told = Story(), dict[str, Versioned]()
    at: list[int | None] = [None, None]  # how far each source has come; None: not connected
    for _ in range(data.draw(st.integers(0, 25))):
        source = data.draw(st.integers(0, 1))
        position = at[source]
        if position is None:
            newest = data.draw(st.integers(story.revision if at == [None, None] else 0, len(history)))
            present = list(standing(history, newest).values())
            tell = story.restart if at == [None, None] else story.listing
            believe(told, tell(present, newest))
            at[source] = newest
        elif position == len(history) or data.draw(st.booleans()):
            at[source] = None
        else:
            key, value = history[position]
            believe(told, story.change(key, value, position + 1))
            at[source] = position + 1
        assert told == standing(history, story.revision)
        assert story.revision >= max((each for each in at if each is not None), default=0)


@given(histories(), st.integers(0, 12), st.integers(0, 12))
def test_after_a_loss_everything_comes_again_also_from_a_store_that_went_back(
    history: History, first: int, second: int
) -> None:
    first, second = min(first, len(history)), min(second, len(history))
    story, told = Story(), dict[str, Versioned]()
    believe(told, story.restart(standing(history, first).values(), first))
    again = story.restart(standing(history, second).values(), second)
    believe(told, again)
    assert told == standing(history, second)
    assert {event.key for event in again if event.value} == set(told)


@given(st.lists(st.one_of(st.sampled_from(KEYS), st.none()), min_size=1, max_size=20))
async def test_of_each_slot_only_the_newest_waits_and_in_its_order(puts: list[str | None]) -> None:
    inbox: Inbox[WatchEvent] = Inbox()
    events: list[WatchEvent] = [
        Lost(str(number)) if key is None else Changed(key, Versioned(key, b"", number))
        for number, key in enumerate(puts, 1)
    ]
    for event in events:
        inbox.put(slot_of(event), event)
    newest = {slot_of(event): event for event in events}
    assert await inbox.take() == [event for event in events if newest[slot_of(event)] is event]
    inbox.put(slot_of(Synced()), Synced())
    assert await inbox.take() == [Synced()]
    inbox.put("x", Synced())
    inbox.close()
    assert await inbox.take() == []
