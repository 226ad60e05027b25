"""The store keeper: one member's etcd begun, joined, started again and kept in order. What it does is `deciding`'s."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from twinstar.model.errors import StoreUnavailable
from twinstar.ports.clock import Clock
from twinstar.ports.network import Address, Network
from twinstar.ports.processes import Processes
from twinstar.store.etcd.endpoint import Endpoint, Session
from twinstar.store.managed.administration import Administration
from twinstar.store.managed.deciding import Add, Begin, Found, Remove, Restart, Serves, SetAside, Wait, Word, next_step
from twinstar.store.managed.folder import Folder
from twinstar.store.managed.greeting import Greeter, ask
from twinstar.store.managed.process import EtcdProcess, founding, joining
from twinstar.store.managed.secure import client_context, server_context
from twinstar.store.managed.settings import KeeperSettings
from twinstar.store.managed.upkeep import Upkeep

_WAIT_MS = 250.0
_BUSY_MS = 250.0
_REST_MS = 2_000.0
_SETTLED_MS = 10_000.0
"""An etcd that has run so long is started again at once when it ends."""
_LONGEST_PAUSE_MS = 5_000.0

Change = Callable[[Administration], Awaitable[None]]

log = logging.getLogger(__name__)


class Keeper:
    def __init__(
        self,
        settings: KeeperSettings,
        secret: bytes,
        clock: Clock,
        network: Network,
        processes: Processes,
        environment: Mapping[str, str],
    ) -> None:
        """`secret`: the key of the cluster's datagrams. Raises UsageError, EnvironmentTrouble."""
        self._settings, self._clock = settings, clock
        self._token = settings.token(secret)
        self._folder = Folder(Path(settings.folder))
        self._etcd = EtcdProcess(settings, self._folder, clock, processes, environment)
        session = Session(network, client_context(settings.tls) if settings.tls else None)
        clients = {m.name: Administration(Endpoint(settings.url(m.client), session), clock) for m in settings.members}
        self._own = clients.pop(settings.name)
        self._others = clients
        server = server_context(settings.tls) if settings.tls else None
        at = Address(settings.bind, settings.own.client.port)
        self._greeter = Greeter(network, clock, at, server, self._token)
        self._upkeep = Upkeep(settings, self._folder, self._own, clients)
        self._pause_ms = _WAIT_MS
        self._said = ""

    async def run(self) -> None:
        """For ever. Raises EnvironmentTrouble when etcd cannot be started or the disk cannot be written."""
        while True:
            run = self._etcd.run()
            if run is None:
                await self._begin()
            else:
                await self._tend(run)

    async def end(self) -> None:
        """Ends etcd as well."""
        await self._greeter.close()
        await self._etcd.end()
        for each in (self._own, *self._others.values()):
            await each.close()

    async def _tend(self, run: str) -> None:
        began = self._clock.now_ms()
        pause_ms = _BUSY_MS
        while not await self._etcd.ended_within(run, pause_ms):
            if self._folder.here().found:
                await self._etcd.end()
                return
            pause_ms = _REST_MS if await self._upkeep.turn() else _BUSY_MS
        log.warning("etcd has ended: %s", self._etcd.last_words() or "without a word")
        if self._clock.now_ms() - began > _SETTLED_MS:
            self._pause_ms = _WAIT_MS
            return
        await self._clock.sleep_ms(self._pause_ms)
        self._pause_ms = min(2 * self._pause_ms, _LONGEST_PAUSE_MS)

    async def _begin(self) -> None:
        """One step towards a member that runs."""
        here = self._folder.here()
        if not here.has_log and not here.found:
            await self._greeter.open()
        words = await self._words()
        step = next_step(self._settings, here, words)
        match step:
            case Found():
                log.info("beginning a store of this member alone")
                self._folder.founds()
                await self._start(founding(self._settings, self._token))
            case Restart():
                await self._start({})
            case Begin(members):
                await self._start(joining(members))
            case Add():
                await self._try(words, self._add)
            case Remove(member):
                await self._try(words, lambda other: other.remove(member))
            case SetAside(why):
                log.warning("%s: its data are put aside in %s", why, self._folder.set_aside(self._clock.wall_ms()))
            case Wait(why):
                self._say(why)
                await self._clock.sleep_ms(_WAIT_MS)

    async def _words(self) -> dict[str, Word]:
        names = list(self._others)
        words = await asyncio.gather(*(ask(self._others[name], self._token) for name in names))
        return dict(zip(names, words, strict=True))

    async def _start(self, how: Mapping[str, str]) -> None:
        await self._greeter.close()
        self._folder.clear()
        self._etcd.start(how)
        self._said = ""

    async def _add(self, other: Administration) -> None:
        member = await other.add_learner(self._settings.url(self._settings.own.peer))
        self._folder.joins_as(member)
        log.info("joining the store as member %s", member)

    async def _try(self, words: Mapping[str, Word], change: Change) -> None:
        """A change of the list, by the first member that serves; when that fails everything is looked at again."""
        other = next(self._others[name] for name, word in words.items() if isinstance(word, Serves))
        try:
            await change(other)
        except StoreUnavailable as error:
            self._say(f"the list of members cannot be changed yet: {error}")
            await self._clock.sleep_ms(_WAIT_MS)

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            log.info("waiting: %s", sentence)
        self._said = sentence
