"""The people who look after a simulated cluster. They give commands as `twinstar` does, over HTTP to the agents, and
edit `twinstar.yaml`, copy it from machine to machine and have it read.

They do one thing after another and may be interrupted anywhere: then half of the machines go by one file and half by
another, until somebody finishes what was begun.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from twinstar.api import asking
from twinstar.api.client import Client
from twinstar.api.control import Outcome
from twinstar.config.changes import Takes
from twinstar.config.derive import addresses, copies
from twinstar.config.schema import Config, Node
from twinstar.model.address import Address
from twinstar.model.errors import TwinstarError
from twinstar.model.register import Register
from twinstar.model.view import Settings
from twinstar.simulation.agent import TOKEN
from twinstar.simulation.chronicle import Chronicle
from twinstar.simulation.files import ROUTER, Files, node
from twinstar.simulation.member import Member
from twinstar.simulation.witness import Witness
from twinstar.simulation.world.freezing import Gate
from twinstar.simulation.world.network import VirtualNetwork
from twinstar.simulation.world.streams import VirtualTransports
from twinstar.simulation.world.virtual_time import VirtualClock
from twinstar.simulation.world.wires import Wires

_HOST = "10.0.3.1"
_PATIENCE_MS = 6_000.0
"""How long they wait for an answer before they go on with something else."""
_AGAIN_MS = 300.0
_OWN_ERROR = "error of its own"
"""In the answer of an agent that met an exception which it did not foresee."""


class Machines(Protocol):
    """What they look after."""

    names: tuple[str, ...]
    members: dict[str, Member]
    files: Files
    wires: Wires
    clock: VirtualClock
    witness: Witness
    chronicle: Chronicle
    directory: Path

    @property
    def register(self) -> Register: ...
    def install(self, name: str) -> None: ...
    def start(self, name: str) -> None: ...
    def start_router(self) -> None: ...
    async def kill_router(self) -> None: ...
    async def kill_agent(self, name: str) -> None: ...
    async def kill_guard(self, name: str) -> None: ...
    async def kill_node(self, name: str) -> None: ...


class People:
    def __init__(self, machines: Machines, seed: int) -> None:
        self._machines = machines
        self._chance = random.Random(f"people {seed}")
        transports = VirtualTransports(machines.wires, Gate(), _HOST)
        network = VirtualNetwork(machines.wires, Gate(), machines.clock, transports)
        self._client = Client(network, machines.clock, token=TOKEN)
        self.leaving = ""
        """Who is being removed."""
        self._led = False
        self._behind: set[str] = set()
        """Machines on which what runs has not read the file that is wanted."""
        self._begun: list[str] = []
        """What it is that is half done, as the `sometimes` list has it."""
        self._finishing: asyncio.Task[None] | None = None

    @property
    def has_finished(self) -> bool:
        """Whether nothing is half done."""
        return not self.leaving and not self._behind

    # -- commands -----------------------------------------------------------------------------------------------------

    async def tell(self, command: str, /, **fields: Any) -> Outcome | None:
        """Whoever leads, or knows best; None when nobody answered."""
        return await self._answered(asking.command(self._client, self._agents(), command, **fields))

    async def tell_one(self, whom: str, command: str, /, **fields: Any) -> Outcome | None:
        """The agent of one member; None when it did not answer."""
        address = addresses(self._node(whom)).api
        return await self._answered(self._client.command(address, command, **fields))

    async def _answered(self, answer: Awaitable[Outcome]) -> Outcome | None:
        try:
            async with self._machines.clock.timeout_ms(_PATIENCE_MS):
                outcome = await answer
        except (TwinstarError, TimeoutError):
            return None
        if _OWN_ERROR in outcome.message:
            self._machines.witness.breaches.append(f"F: a command ended in an {outcome.message}")
        return outcome

    def _agents(self) -> dict[str, Address]:
        return {each.name: addresses(each).api for each in self._machines.files.wanted.nodes}

    def _node(self, member: str) -> Node:
        return node(member, self._machines.directory)

    # -- the file -----------------------------------------------------------------------------------------------------

    async def change(self, edit: Callable[[Config], Config], what: str) -> None:
        """Edits the file, unless it could not work then, and brings it to every machine, one after another."""
        if self.edit(edit, what):
            await self._roll_out()

    def edit(self, edit: Callable[[Config], Config], what: str) -> bool:
        """The first of it: no machine has it yet. False: it could not work, and is left."""
        files, witness = self._machines.files, self._machines.witness
        before = files.wanted
        if not files.edit(edit(before)):
            return False
        witness.maximum_lag_bytes = max(witness.maximum_lag_bytes, files.wanted.maximum_lag_bytes)
        old, new = ({each.name for each in config.nodes} for config in (before, files.wanted))
        self._machines.chronicle.tell(f"  the file has it: {what}; {_in_short(files.settings)}")
        self._begun.append(what)
        self._behind |= new | ({ROUTER} if old != new else set())
        self._behind -= old - new
        return True

    async def _roll_out(self) -> None:
        behind = sorted(self._behind)
        for machine in self._chance.sample(behind, len(behind)):
            await self._machines.clock.sleep_ms(self._chance.uniform(0, self._chance.choice((20, 300, 1_500))))
            if machine in self._behind:
                await self.bring(machine)
        self._look()

    def _look(self) -> None:
        if self.has_finished:
            self._machines.witness.sometimes.update(self._begun)
            self._begun.clear()

    async def bring(self, machine: str) -> None:
        """The file to one machine, where it is read if anything runs."""
        machines = self._machines
        machines.files.copy_to(machine)
        if machine == ROUTER:
            await machines.kill_router()
            machines.start_router()
            self._behind.discard(machine)
            return
        member = machines.members[machine]
        if member.agent is not None:
            outcome = await self.tell_one(machine, "reload")
            if outcome is None or not outcome.ok:
                return
            if any(Takes.RESTART_AGENT in each for each in outcome.details["waiting"]):
                await self._restart(machine)
        if machines.files.of(machine) is machines.files.wanted:  # else somebody has edited it meanwhile
            self._behind.discard(machine)

    async def _restart(self, machine: str) -> None:
        """Agent and guard, and not the database."""
        await self._machines.kill_agent(machine)
        await self._machines.kill_guard(machine)
        await self._machines.clock.sleep_ms(self._chance.uniform(0, 200))
        if machine in self._machines.names:
            self._machines.start(machine)

    # -- members ------------------------------------------------------------------------------------------------------

    async def add(self, name: str) -> None:
        """A machine that is new, or was a member once: it is started with the file, and the others learn of it."""
        if self.begin_to_add(name):
            await self._roll_out()

    def begin_to_add(self, name: str) -> bool:
        """The first of it: nobody else has heard of it."""
        machines = self._machines
        if name not in machines.members:
            machines.install(name)
        new = node(name, machines.directory)
        if not self.edit(lambda config: config.model_copy(update={"nodes": (*config.nodes, new)}), "member added"):
            return False
        machines.names = (*machines.names, name)
        machines.files.copy_to(name)
        machines.start(name)
        return True

    async def remove(self, name: str, stop: Callable[[], Awaitable[None]]) -> None:
        """For good. `stop` sees to it that it is not heard any more."""
        self.leaving, self._led = name, name == self._machines.register.leader
        self._machines.names = tuple(each for each in self._machines.names if each != name)
        await stop()
        await self._take_out(name)

    def _keep(self, name: str) -> None:
        """It is not removed after all."""
        self.leaving = ""
        self._machines.names = (*self._machines.names, name)
        self._machines.start(name)

    async def _take_out(self, name: str) -> None:
        machines = self._machines
        while self.leaving:
            outcome = await self.tell("remove", member=name)
            if outcome is not None and outcome.ok:
                what = "leader removed" if self._led else "member removed"
                if self.edit(lambda config: without(config, name), what):
                    self.leaving = ""
                else:  # too few would be left by now
                    self._keep(name)
            await machines.clock.sleep_ms(_AGAIN_MS)
        await self._roll_out()

    # -- the end ------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """They finish what was begun, when nothing is in their way any more."""
        if self._finishing is not None:
            self._finishing.cancel()
        self._finishing = asyncio.create_task(self._finish())

    def check(self) -> None:
        """Raises what they have ended with and never should."""
        if self._finishing is not None and self._finishing.done() and not self._finishing.cancelled():
            self._finishing.result()

    async def _finish(self) -> None:
        await self._bring_all()
        if self.leaving and self._machines.register.lease_ms and self._machines.register.leader == self.leaving:
            self._keep(self.leaving)  # what it alone has would be lost with it
        if self.leaving:
            await self._machines.kill_node(self.leaving)
            await self._take_out(self.leaving)
        await self._bring_all()

    async def _bring_all(self) -> None:
        while self._behind:
            for machine in sorted(self._behind):
                await self.bring(machine)
                if machine in self._behind:
                    await self._restart(machine)
            await self._machines.clock.sleep_ms(_AGAIN_MS)
            self._look()


def _in_short(settings: Settings) -> str:
    out = f", without {','.join(sorted(settings.nofailover))}" if settings.nofailover else ""
    number = f"required {settings.required}, " if settings.required else ""
    return f"{settings.durability} of {','.join(settings.members)}{out}, {number}{settings.policy}"


def without(config: Config, name: str) -> Config:
    """The file without a member; a number of confirmations that would be too large goes with it."""
    nodes = tuple(each for each in config.nodes if each.name != name)
    left = config.model_copy(update={"nodes": nodes})
    too_many = left.required is not None and left.required >= len(copies(left))
    return left.model_copy(update={"required": None}) if too_many else left
