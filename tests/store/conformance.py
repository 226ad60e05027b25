"""What every store must do, whatever it is made of. A store's own test file subclasses `StoreConformance`.

The suite knows a store by `Backend` alone: how to get another client, and how to make what serves it hang, die and come
back. It asserts nothing about speed; deadlines here only end a test that would hang.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from typing import Protocol

import pytest

from twinstar.model.errors import StoreUnavailable
from twinstar.store.base import (
    ABSENT,
    MAX_VALUE_BYTES,
    Applied,
    Changed,
    Conflict,
    Lost,
    Store,
    Synced,
    Unknown,
    ValueTooLarge,
    Versioned,
    WatchEvent,
)
from twinstar.store.settle import settle

_fresh = itertools.count()
PATIENCE_S = 30.0


class Backend(Protocol):
    def open(self, cluster: str) -> Store:
        """Another client, which waits as long as a busy machine needs: none of its outcomes is unknown by chance."""
        ...

    def open_hasty(self, cluster: str) -> Store:
        """One that soon gives up, for where no answer is expected."""
        ...

    async def hang(self) -> None:
        """Whatever serves goes silent, without ending a connection, until `resume`."""
        ...

    async def resume(self) -> None: ...

    async def crash(self) -> None:
        """Whatever serves is killed."""
        ...

    async def restart(self) -> None:
        """It comes back with what it had stored, and serves."""
        ...


class Clients:
    """Clients of one cluster that no other test uses."""

    def __init__(self, backend: Backend, stack: AsyncExitStack) -> None:
        self.backend = backend
        self._stack = stack
        self._cluster = f"c{next(_fresh)}"

    def open(self, cluster: str | None = None) -> Store:
        return self._kept(self.backend.open(cluster or self._cluster))

    def open_hasty(self) -> Store:
        return self._kept(self.backend.open_hasty(self._cluster))

    def _kept(self, store: Store) -> Store:
        self._stack.push_async_callback(store.close)
        return store


@asynccontextmanager
async def clients_of(backend: Backend) -> AsyncIterator[Clients]:
    async with AsyncExitStack() as stack:
        yield Clients(backend, stack)


class Told:
    """A watch running in the background, and what it has told so far."""

    def __init__(self, store: Store, prefix: str = "") -> None:
        self.events: list[WatchEvent] = []
        self._told = asyncio.Condition()
        self._task = asyncio.create_task(self._run(store, prefix))

    async def _run(self, store: Store, prefix: str) -> None:
        async with aclosing(store.watch(prefix)) as events:
            async for event in events:
                async with self._told:
                    self.events.append(event)
                    self._told.notify_all()

    async def until(self, enough: Callable[[list[WatchEvent]], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S), self._told:
            await self._told.wait_for(lambda: self._task.done() or enough(self.events))
        if self._task.done():
            self._task.result()

    async def until_synced(self, times: int = 1) -> None:
        await self.until(lambda events: events.count(Synced()) >= times)

    async def until_stands(self, expected: dict[str, bytes]) -> None:
        await self.until(lambda _: self.standing == expected)

    @property
    def standing(self) -> dict[str, bytes]:
        """What somebody who believed every event would hold to be there."""
        found: dict[str, bytes] = {}
        for event in self.events:
            if isinstance(event, Changed):
                found.pop(event.key, None)
                if event.value:
                    found[event.key] = event.value.value
        return found

    async def __aenter__(self) -> Told:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def create(store: Store, key: str, value: bytes) -> int:
    """Of a key that nobody else makes; a doubt, which a hasty client may be left in, is ended."""
    async with asyncio.timeout(PATIENCE_S):
        while isinstance(outcome := await store.compare_and_set(key, value, ABSENT), Unknown):
            with suppress(StoreUnavailable):
                if (found := await store.read(key)) is not None:
                    assert found.value == value, found
                    return found.revision
            await asyncio.sleep(0.05)
    return applied(outcome)


def applied(outcome: object) -> int:
    assert isinstance(outcome, Applied), outcome
    return outcome.revision


async def settled(store: Store, key: str, expected_revision: int) -> Versioned | None:
    """Ends a doubt, however long the store needs to come back."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                found = await settle(store, key, expected_revision)
            except StoreUnavailable:
                found = Unknown("unavailable")
            if not isinstance(found, Unknown):
                return found
            await asyncio.sleep(0.05)


async def add_by_cas(store: Store, key: str, times: int) -> None:
    """Increments a counter; every outcome must be certain."""
    for _ in range(times):
        while True:
            current = await store.read(key)
            assert current is not None
            outcome = await store.compare_and_set(key, str(int(current.value) + 1).encode(), current.revision)
            if isinstance(outcome, Applied):
                break
            assert isinstance(outcome, Conflict), outcome


class StoreConformance:
    async def test_what_is_not_there(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            store = clients.open()
            assert await store.read("register") is None
            assert await store.read_all("") == []
            await store.delete("register")
            assert await store.compare_and_set("register", b"x", 7) == Conflict(None)

    async def test_of_two_creations_one_is_made(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            one, other = clients.open(), clients.open()
            revision = await create(one, "seals/7/n1", b"mine")
            outcome = await other.compare_and_set("seals/7/n1", b"theirs", ABSENT)
            assert outcome == Conflict(Versioned("seals/7/n1", b"mine", revision))
            assert await other.read("seals/7/n1") == Versioned("seals/7/n1", b"mine", revision)

    async def test_a_conflict_returns_what_stands(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            store = clients.open()
            first = await create(store, "register", b"1")
            second = applied(await store.compare_and_set("register", b"2", first))
            assert await store.compare_and_set("register", b"3", first) == Conflict(Versioned("register", b"2", second))
            await store.delete("register")
            assert await store.compare_and_set("register", b"3", second) == Conflict(None)

    async def test_revisions_grow_and_are_never_used_twice(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            store = clients.open()
            revisions = [ABSENT]
            for _ in range(3):
                revisions.append(await create(store, "k", b"a"))
                revisions.append(applied(await store.compare_and_set("k", b"a", revisions[-1])))  # the same value
                await store.delete("k")
            assert revisions == sorted(set(revisions))

    async def test_all_of_a_prefix_in_the_order_of_the_keys(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            store = clients.open()
            keys = ["seals/7/n2", "seals/7/n10", "seals/70/n1", "seals/7", "s%als/7/x", "seals/7/é", "members/n1"]
            for key in keys:
                await create(store, key, key.encode())
            inside = sorted(key for key in keys if key.startswith("seals/7/"))
            assert [found.key for found in await store.read_all("seals/7/")] == inside
            assert [found.value for found in await store.read_all("seals/7/")] == [key.encode() for key in inside]
            assert [found.key for found in await store.read_all("")] == sorted(keys)

    async def test_values_are_any_bytes(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            store = clients.open()
            for number, value in enumerate((b"", b"\0\xff\n", bytes(range(256)) * (MAX_VALUE_BYTES // 256))):
                await create(store, f"k{number}", value)
                found = await store.read(f"k{number}")
                assert found is not None
                assert found.value == value

    async def test_a_value_too_large_is_refused_and_changes_nothing(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            store = clients.open()
            revision = await create(store, "k", b"small")
            with pytest.raises(ValueTooLarge, match="65537 bytes"):
                await store.compare_and_set("k", b"x" * (MAX_VALUE_BYTES + 1), revision)
            assert await store.read("k") == Versioned("k", b"small", revision)

    async def test_clusters_do_not_see_each_other(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            one, other = clients.open("apart"), clients.open("apart2")
            await create(one, "register", b"1")
            await create(other, "register", b"2")
            assert [found.value for found in await one.read_all("")] == [b"1"]
            async with Told(one) as told:
                await told.until_synced()
                await create(other, "more", b"2")
                await create(one, "more", b"1")
                await told.until_stands({"register": b"1", "more": b"1"})
            for store in (one, other):
                await store.delete("register")
                await store.delete("more")

    async def test_increments_of_several_clients_all_count(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            await create(clients.open(), "counter", b"0")
            await asyncio.gather(*(add_by_cas(clients.open(), "counter", 15) for _ in range(4)))
            found = await clients.open().read("counter")
            assert found is not None
            assert found.value == b"60"

    async def test_a_read_sees_every_change_that_ended_before_it(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            writer, readers = clients.open(), [clients.open() for _ in range(3)]
            revision = await create(writer, "register", b"0")
            for number in range(1, 30):
                revision = applied(await writer.compare_and_set("register", str(number).encode(), revision))
                found = await readers[number % 3].read("register")
                assert found == Versioned("register", str(number).encode(), revision)

    async def test_a_watch_tells_what_stands_and_then_what_changes(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            store = clients.open()
            first = await create(store, "seals/7/n1", b"a")
            await create(store, "members/n1", b"elsewhere")
            async with Told(clients.open(), "seals/") as told:
                await told.until_synced()
                assert told.events == [Changed("seals/7/n1", Versioned("seals/7/n1", b"a", first)), Synced()]
                second = await create(store, "seals/7/n2", b"b")
                await told.until(lambda events: len(events) == 3)
                await store.delete("seals/7/n1")
                await told.until(lambda events: len(events) == 4)
                assert told.events[2:] == [
                    Changed("seals/7/n2", Versioned("seals/7/n2", b"b", second)),
                    Changed("seals/7/n1", None),
                ]

    async def test_a_watch_of_nothing_is_synced(self, backend: Backend) -> None:
        async with clients_of(backend) as clients, Told(clients.open()) as told:
            await told.until_synced()
            assert told.events == [Synced()]

    async def test_several_watchers_are_told_the_same(self, backend: Backend) -> None:
        async with clients_of(backend) as clients, AsyncExitStack() as stack:
            store = clients.open()
            watchers = [await stack.enter_async_context(Told(clients.open())) for _ in range(3)]
            same_client = clients.open()
            watchers += [await stack.enter_async_context(Told(same_client, prefix)) for prefix in ("", "reg")]
            revision = await create(store, "register", b"0")
            for number in range(1, 10):
                revision = applied(await store.compare_and_set("register", str(number).encode(), revision))
            for told in watchers:
                await told.until_stands({"register": b"9"})
                revisions = [
                    event.value.revision for event in told.events if isinstance(event, Changed) and event.value
                ]
                assert revisions == sorted(set(revisions))

    async def test_a_slow_consumer_ends_with_the_newest(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            store = clients.open()
            revision = await create(store, "register", b"0" * 1000)
            async with aclosing(clients.open().watch("")) as events:
                async for event in events:
                    if event == Synced():
                        break
                for number in range(100):
                    revision = applied(await store.compare_and_set("register", str(number).encode() * 500, revision))
                await create(store, "last", b"")
                told = []
                async with asyncio.timeout(PATIENCE_S):
                    async for event in events:
                        told.append(event)
                        if isinstance(event, Changed) and event.key == "last":
                            break
            assert told[-2] == Changed("register", Versioned("register", b"99" * 500, revision))

    async def test_a_closed_watch_leaves_nothing_running(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            store = clients.open()
            before = asyncio.all_tasks()
            for _ in range(5):
                async with Told(store) as told:
                    await told.until_synced()
            async with asyncio.timeout(PATIENCE_S):
                while left := asyncio.all_tasks() - before:
                    await asyncio.wait(left)
            await create(store, "k", b"the client goes on")

    async def test_an_outcome_nobody_knows_is_settled_by_moving_the_revision(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            store = clients.open_hasty()
            revision = await create(store, "register", b"old")
            await backend.hang()
            try:
                outcome = await store.compare_and_set("register", b"new", revision)
                with pytest.raises(StoreUnavailable):
                    await store.read("register")
            finally:
                await backend.resume()
            assert isinstance(outcome, Unknown)
            assert outcome.why
            patient = clients.open()
            found = await settled(patient, "register", revision)
            assert found is not None
            assert found.revision > revision
            assert found.value in (b"old", b"new")
            await asyncio.sleep(0.2)  # a change that was still on its way would be made now
            assert await patient.read("register") == found

    async def test_a_creation_nobody_knows_of_is_settled_by_creating(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            hasty, store = clients.open_hasty(), clients.open()
            await create(hasty, "warm", b"")
            assert await store.read("seals/7/n1") is None
            await backend.hang()
            try:
                outcome = await hasty.compare_and_set("seals/7/n1", b"first", ABSENT)
            finally:
                await backend.resume()
            assert isinstance(outcome, Unknown)
            sent = [b"first"]
            async with asyncio.timeout(PATIENCE_S):
                while isinstance(outcome, Unknown):
                    sent.append(f"again {len(sent)}".encode())
                    outcome = await store.compare_and_set("seals/7/n1", sent[-1], ABSENT)
            found = await store.read("seals/7/n1")
            assert found is not None
            assert found.value in (sent[-1:] if isinstance(outcome, Applied) else sent[:-1])
            await asyncio.sleep(0.2)
            assert await store.read("seals/7/n1") == found

    async def test_a_watch_outlives_a_silence(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            store = clients.open()
            revision = await create(store, "register", b"old")
            async with Told(clients.open()) as told:
                await told.until_synced()
                await backend.hang()
                try:
                    await asyncio.sleep(0.3)
                finally:
                    await backend.resume()
                found = await settled(store, "register", revision)
                assert found is not None
                while not isinstance(await store.compare_and_set("register", b"new", found.revision), Applied):
                    found = await settled(store, "register", found.revision) or found
                await told.until_stands({"register": b"new"})

    async def test_a_killed_store_comes_back_with_what_it_had_confirmed(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            store = clients.open()
            kept = [await create(store, f"k{number}", b"kept") for number in range(5)]
            await store.delete("k0")
            await backend.crash()
            try:
                with pytest.raises(StoreUnavailable):
                    await clients.open().read("k1")
                assert isinstance(await clients.open().compare_and_set("k1", b"", kept[1]), Unknown)
            finally:
                await backend.restart()
            again = clients.open()
            assert await again.read_all("k") == [Versioned(f"k{n}", b"kept", kept[n]) for n in range(1, 5)]
            assert await create(again, "later", b"") > kept[-1]
            assert await store.read("k4") == Versioned("k4", b"kept", kept[4])  # the old client goes on as well

    async def test_a_watch_outlives_a_killed_store(self, backend: Backend) -> None:
        async with clients_of(backend) as clients:
            store = clients.open()
            kept = await create(store, "kept", b"1")
            await create(store, "goes", b"2")
            async with Told(clients.open()) as told:
                await told.until_synced()
                await backend.crash()
                try:
                    await told.until(lambda events: isinstance(events[-1], Lost))
                finally:
                    await backend.restart()
                await told.until_synced(times=2)
                before, after = [at for at, event in enumerate(told.events) if event == Synced()][:2]
                between = told.events[before:after]
                assert sum(isinstance(event, Lost) for event in between) == 1
                assert Changed("kept", Versioned("kept", b"1", kept)) in between  # the present state comes again
                await store.delete("goes")
                await told.until_stands({"kept": b"1"})
