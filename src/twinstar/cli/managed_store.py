"""The store that Twinstar runs, asked and changed from the command line: straight at its members, without an agent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twinstar.cli.tell import confirm
from twinstar.config.derive import tls_of
from twinstar.config.managed import places
from twinstar.config.schema import Config
from twinstar.config.tls import Purpose, ssl_context
from twinstar.model.errors import EnvironmentTrouble, StoreUnavailable, UsageError
from twinstar.model.register import Durability
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.managed.administration import Administration
from twinstar.store.managed.folder import Folder
from twinstar.store.managed.overview import Overview, overview

_TRIES = 40
_BEGIN_MS = 60_000.0
_BURDEN_BYTES = 1 << 20


@contextlib.asynccontextmanager
async def administrations(config: Config) -> AsyncIterator[dict[str, Administration]]:
    """Of every member by the configuration. Raises UsageError when the store is not managed."""
    from twinstar.store.etcd.endpoint import Endpoint, Session

    found = places(config)
    if not found:
        raise UsageError("This cluster's store is not run by Twinstar: use that store's own tools.")
    tls = tls_of(config, "client")
    session = Session(SystemNetwork(), ssl_context(tls, Purpose.STORE) if tls else None)
    scheme, clock = "https" if tls else "http", SystemClock()
    members = {place.name: Administration(Endpoint(f"{scheme}://{place.client}", session), clock) for place in found}
    try:
        yield members
    finally:
        for each in members.values():
            await each.close()


def look(config: Config) -> Overview:
    """The store now. Raises UsageError when it is not managed."""

    async def ask() -> Overview:
        async with administrations(config) as members:
            return await overview(members, SystemClock())

    return asyncio.run(ask())


def is_whole(config: Config) -> bool:
    """Every member votes and answers."""
    return look(config).whole


def store_folders(config: Config) -> tuple[Path, ...]:
    """Where the members' etcd stand."""
    return tuple(place.directory for place in places(config))


def to_json(seen: Overview, config: Config) -> dict[str, Any]:
    """What `status --json` says of a managed store."""
    return {
        "serves": seen.serves,
        "leader": seen.leader,
        "latency_ms": seen.latency_ms,
        "spare": seen.spare,
        "one_more_loss": one_more_loss(seen, config),
        "members": [asdict(member) for member in seen.members],
        "strangers": list(seen.strangers),
    }


def one_more_loss(seen: Overview, config: Config) -> str:
    """What would happen if another member were lost, in a sentence."""
    without = (
        "what runs goes on, but nobody can take over"
        if config.durability is Durability.QUORUM
        else "the leader stops when its lease ends"
    )
    if config.strategy == "active-active":
        without = "what runs goes on, but no node can come, go or be declared dead"
    if not seen.serves:
        return f"The store does not serve ({seen.answering} of {seen.voters or len(seen.members)} answer): {without}."
    if seen.spare > 0:
        return f"The store goes on when {'any one' if seen.spare == 1 else f'any {seen.spare}'} of its members is lost."
    return f"With the loss of one more member the store stops: {without}."


def remove_member(config: Config, name: str) -> str:
    """Takes a member out of the store's list. Raises UsageError, StoreUnavailable."""
    clock = SystemClock()

    async def work() -> str:
        async with administrations(config) as members:
            seen = await overview(members, clock)
            own = next((each for each in seen.members if each.name == name), None)
            if own is None or own.id is None:
                there = ", ".join(each.name for each in seen.members if each.id)
                raise UsageError(f"The store has no member {name!r}: choose one of {there}.")
            if own.state in ("leader", "voter") and seen.spare < 1:
                raise UsageError(f"Without {name} the store would stop: bring another member back first.")
            asked = next(each for each in seen.members if each.state in ("leader", "voter") and each.name != name)
            await _patiently(members[asked.name], own.id)
            return f"{name} is out of the store; its keeper joins it again with an empty disk, where it runs."

    async def _patiently(asked: Administration, member: str) -> None:
        """etcd refuses for some seconds after another change."""
        tries = 0
        while True:
            try:
                return await asked.remove(member)
            except StoreUnavailable as error:
                tries += 1
                if "unhealthy" not in str(error) or tries > _TRIES:
                    raise
            await clock.sleep_ms(500)

    return asyncio.run(work())


def begin_anew(config: Config, name: str, yes: bool) -> None:
    """Has the keeper of this machine begin a new store, the old one's majority being lost. Returns when it serves.
    Raises UsageError, EnvironmentTrouble.
    """
    place = next((place for place in places(config) if place.name == name), None)
    if place is None:
        names = ", ".join(each.name for each in places(config))
        raise UsageError(f"{name} has no member of the store: choose one of {names}.")
    if not place.directory.is_dir():
        raise UsageError(f"{place.directory} is not on this machine: run this where {name} is.")
    if look(config).serves:
        raise UsageError("The store serves: nothing is begun anew beside it. See `twinstar store members`.")
    confirm(f"{name} begins a new, empty store; members of the old one join it when they start. Go on?", yes)
    Folder(place.directory).order_to_found()
    clock = SystemClock()

    async def serves() -> None:
        async with administrations(config) as members:
            began_ms = clock.now_ms()
            while clock.now_ms() - began_ms < _BEGIN_MS:
                try:
                    return await members[name].read()
                except StoreUnavailable:
                    await clock.sleep_ms(200)
        raise EnvironmentTrouble(f"The keeper of {name} has not begun a store: see that it runs, and its log.")

    asyncio.run(serves())


def fill(config: Config) -> float:
    """Writes one key over and over until the store takes no more; when that was, on the boot clock. What fills it is
    that key's past, which the keepers clear away. Raises UsageError when the store is not managed, StoreUnavailable.
    """
    clock = SystemClock()

    async def work() -> float:
        async with administrations(config) as members:
            asked = next(iter(members.values()))
            while not await asked.burden(_BURDEN_BYTES):
                pass
            return clock.now_ms()

    return asyncio.run(work())
