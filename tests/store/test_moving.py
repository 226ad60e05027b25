"""A register that moves between two stores while it is written to: nothing that was acknowledged is lost, and at no
moment can both stores be right, wherever whoever moves it stops, and whatever gets lost on the way.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest

from twinstar.model.errors import StoreUnavailable, UsageError
from twinstar.simulation.stores.memory import MemoryServer, MemoryStore
from twinstar.simulation.world.virtual_time import SeededRandomness, VirtualClock, VirtualLoop, run_virtually
from twinstar.store.base import ABSENT, Applied, Changed, Conflict, Lost, Synced, Unknown, Versioned, WatchEvent
from twinstar.store.moving.papers import CLAIM, Mark, claim_in, mark_in
from twinstar.store.moving.places import Places
from twinstar.store.moving.steps import look, move
from twinstar.store.moving.store import MovingStore, SettledStore

KEY = "register"
CHANCES = (0.0, 0.02, 0.1)


def count(number: int, nonce: str) -> bytes:
    return json.dumps({"number": number, "nonce": nonce}).encode()


def fine(_: bytes) -> str:
    return ""


class Day:
    """Two stores, and clients that go along."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.clock, self.randomness = VirtualClock(loop), SeededRandomness(seed)
        self.old, self.new = MemoryServer(), MemoryServer()
        self.links: list[MemoryStore] = []
        self.acknowledged: set[str] = set()
        self.told: list[list[WatchEvent]] = []

    def store(self, server: MemoryServer) -> MemoryStore:
        self.links.append(MemoryStore(server, "c", self.clock, self.randomness, deadline_ms=200))
        return self.links[-1]

    def client(self) -> MovingStore:
        return MovingStore(Places(self.store(self.old), self.store(self.new), KEY, "the new one"), self.clock)

    def bad_weather(self) -> None:
        for link in self.links:
            for fault in ("lose_request", "lose_answer", "late_request", "break_watch"):
                setattr(link.faults, fault, CHANCES[int(self.randomness.between(0, len(CHANCES)))])

    def fair_weather(self) -> None:
        for link in self.links:
            link.faults.lose_request = link.faults.lose_answer = link.faults.late_request = 0.0
            link.faults.break_watch = 0.0

    async def add(self, store: MovingStore) -> None:
        """Counts on, for ever, as an agent changes a register."""
        while True:
            await self.clock.sleep_ms(self.randomness.between(0, 100))
            try:
                found = await store.read(KEY)
            except StoreUnavailable:
                continue
            assert found is not None
            nonce = self.randomness.token()
            wanted = count(json.loads(found.value)["number"] + 1, nonce)
            if isinstance(await store.compare_and_set(KEY, wanted, found.revision), Applied):
                self.acknowledged.add(nonce)

    async def watch(self, store: MovingStore) -> None:
        told: list[WatchEvent] = []
        self.told.append(told)
        async with aclosing(store.watch("")) as events:
            async for event in events:
                told.append(event)  # noqa: PERF401 - as they come

    async def move(self) -> None:
        """By one after another, who stop anywhere, until one has got to the end."""
        while True:
            moving = asyncio.ensure_future(move(self.client().places, fine, self.randomness, lambda _: None))
            self.bad_weather()
            await asyncio.wait([moving], timeout=self.randomness.between(0.005, 2))
            moving.cancel()
            (ended,) = await asyncio.gather(moving, return_exceptions=True)
            if ended is None:
                return
            assert isinstance(ended, StoreUnavailable | asyncio.CancelledError), ended


def values(server: MemoryServer) -> list[Versioned]:
    return [each.value for each in server.history if each.key.endswith(f"/{KEY}") and each.value is not None]


def played(seed: int, story: Callable[[Day], Awaitable[None]]) -> Day:
    loop = VirtualLoop()
    day = Day(seed, loop)

    async def main() -> None:
        first = await day.store(day.old).compare_and_set(KEY, count(0, "first"), ABSENT)
        assert isinstance(first, Applied)
        await story(day)
        for server in (day.old, day.new):
            await server.close()

    run_virtually(main(), loop)
    return day


async def busy(day: Day) -> None:
    clients = [day.client() for _ in range(3)]
    work = [asyncio.ensure_future(each) for c in clients for each in (day.add(c), day.watch(c))]
    await day.clock.sleep_ms(day.randomness.between(0, 1_000))
    await asyncio.gather(*(day.move() for _ in range(int(day.randomness.between(1, 3)))))
    await day.clock.sleep_ms(1_000)
    day.fair_weather()
    await day.clock.sleep_ms(3_000)
    for each in work:
        assert not each.done(), each.exception()
        each.cancel()
    await asyncio.wait(work)
    assert all(client.moved for client in clients)


@pytest.mark.parametrize("seed", range(120))
def test_a_move_under_load_loses_nothing_and_no_moment_has_two_right_stores(seed: int) -> None:
    day = played(seed, busy)
    before, after = values(day.old), values(day.new)
    mark = mark_in(before[-1])
    assert mark is not None, "the last thing that stands in the old store"
    counted = [json.loads(each.value) for each in [*before[:-1], *after[1:]]]
    assert after[0].value == before[-2].value == mark.was
    assert [each["number"] for each in counted] == list(range(len(counted)))
    assert day.acknowledged <= {each["nonce"] for each in counted}
    assert len(after) > 5
    for told in day.told:
        seen = [e.value.revision for e in told if isinstance(e, Changed) and e.key == KEY and e.value]
        news = [revision for at, revision in enumerate(seen) if revision not in seen[:at]]
        assert news == sorted(news)
        assert not any(isinstance(e, Changed) and e.key == KEY and (not e.value or mark_in(e.value)) for e in told)
        last = max(at for at, event in enumerate(told) if isinstance(event, Lost))
        assert any(isinstance(event, Synced) for event in told[last:])


def test_history_and_seals_go_along_and_what_is_gone_is_told_as_gone() -> None:
    async def story(day: Day) -> None:
        client = day.client()
        for key in ("history/1", "seals/1/n1", "members/n1"):
            await client.compare_and_set(key, key.encode(), ABSENT)
        watching = asyncio.ensure_future(day.watch(client))
        await day.clock.sleep_ms(500)
        assert len(await look(client.places, fine)) == 3
        await move(client.places, fine, day.randomness, lambda _: None)
        await day.clock.sleep_ms(1_000)
        assert {each.key for each in await client.read_all("")} == {
            CLAIM, KEY, "history/1", "seals/1/n1", "members/n1",
        }  # fmt: skip
        await client.delete("members/n1")
        assert isinstance(await client.compare_and_set("members/n1", b"late", 1), Conflict)
        found = await client.read(KEY)
        assert found is not None
        assert isinstance(await client.compare_and_set(KEY, b"x", found.revision), Applied)
        assert isinstance(await client.compare_and_set(KEY, b"y", 1), Conflict)
        await day.clock.sleep_ms(500)
        watching.cancel()
        assert Changed("members/n1", None) in day.told[0]

    played(1, story)


def test_who_does_not_know_the_new_store_is_told_where_the_register_went() -> None:
    async def story(day: Day) -> None:
        left = SettledStore(day.store(day.old), KEY)
        events: list[WatchEvent] = []

        async def watch() -> None:
            async with aclosing(left.watch("")) as found:
                async for event in found:
                    events.append(event)  # noqa: PERF401 - as they come

        watching = asyncio.ensure_future(watch())
        await day.clock.sleep_ms(500)
        revision = values(day.old)[-1].revision
        await move(day.client().places, fine, day.randomness, lambda _: None)
        await day.clock.sleep_ms(500)
        with pytest.raises(StoreUnavailable, match="has moved to the new one"):
            await left.read(KEY)
        with pytest.raises(StoreUnavailable, match="has moved"):
            await left.read_all("")
        outcome = await left.compare_and_set(KEY, b"late", revision)
        assert isinstance(outcome, Unknown)
        assert "has moved" in outcome.why
        assert isinstance(events[-1], Lost)
        assert not any(isinstance(e, Changed) and e.value and mark_in(e.value) for e in events)
        watching.cancel()

    day = played(1, story)
    assert mark_in(values(day.old)[-1])


def test_an_old_mark_brings_nothing_back_into_a_store_that_was_made_anew() -> None:
    async def story(day: Day) -> None:
        await move(day.client().places, fine, day.randomness, lambda _: None)
        day.new = MemoryServer()
        with pytest.raises(StoreUnavailable, match="lost its data"):
            await day.client().read(KEY)
        assert not day.new.history

    played(1, story)


def test_the_old_store_may_be_switched_off_once_the_register_has_arrived() -> None:
    async def story(day: Day) -> None:
        await move(day.client().places, fine, day.randomness, lambda _: None)
        late, watching = day.client(), day.client()
        day.old.stop()
        following = asyncio.ensure_future(day.watch(watching))
        found = await late.read(KEY)
        assert found is not None
        assert json.loads(found.value)["nonce"] == "first"
        await day.clock.sleep_ms(1_000)
        assert isinstance(day.told[0][-1], Synced)
        following.cancel()

    played(1, story)


def test_a_register_may_move_back() -> None:
    async def story(day: Day) -> None:
        await move(day.client().places, fine, day.randomness, lambda _: None)
        there = await day.client().read(KEY)
        day.old, day.new = day.new, day.old
        back = day.client()
        await move(back.places, fine, day.randomness, lambda _: None)
        found = await back.read(KEY)
        assert found is not None
        assert there is not None
        assert found.value == there.value
        assert mark_in(values(day.old)[-1])
        assert isinstance(await back.compare_and_set(KEY, b"on", found.revision), Applied)

    played(1, story)


def test_what_must_not_move_stays_where_it_is() -> None:
    async def story(day: Day) -> None:
        places = day.client().places
        with pytest.raises(UsageError, match="nobody leads"):
            await move(places, lambda _: "nobody leads", day.randomness, lambda _: None)
        await places.new.compare_and_set(KEY, b"another cluster's", ABSENT)
        for attempt in (look(places, fine), move(places, fine, day.randomness, lambda _: None)):
            with pytest.raises(UsageError, match="of this name"):
                await attempt

    day = played(1, story)
    assert len(values(day.old)) == 1


def test_the_papers_say_what_they_are() -> None:
    mark = Mark("etcd", "t", b'{"a": 1}')
    assert mark_in(Versioned(KEY, mark.encode(), 1)) == mark
    assert mark_in(Versioned(KEY, mark.was, 1)) is None
    assert mark_in(None) is None
    assert claim_in(None) is None
