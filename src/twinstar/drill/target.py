"""The cluster under a drill, seen through what `status --json` says, and what a drill must be able to do to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from twinstar.model.errors import EnvironmentTrouble, PeerError


@dataclass(frozen=True, slots=True)
class MemberView:
    name: str
    dsn: str
    role: str
    state: str
    agent_pid: int | None
    engine_pid: int | None
    guard_pid: int | None
    note: str
    tags: dict[str, Any]
    open: bool = True
    """Where every node takes writes: this one lets clients in."""


@dataclass(frozen=True, slots=True)
class View:
    """The part of `status --json` that a drill looks at."""

    strategy: str
    epoch: int
    phase: str
    leader: str
    open: bool
    store: str
    write: str
    members: tuple[MemberView, ...]
    waiting_for: str
    copies: frozenset[str]
    required: int
    """Other copies that must have a commit on disk, as it is in effect now."""
    durability: str

    @classmethod
    def of(cls, raw: dict[str, Any]) -> View:
        """Reads what `status --json` prints."""
        names = ("name", "dsn", "role", "state", "agent_pid", "engine_pid", "guard_pid", "note", "tags")
        return cls(
            strategy=raw["strategy"],
            epoch=raw["epoch"],
            phase=raw["phase"],
            leader=raw["leader"] or "",
            open=raw["open"],
            store=raw["store"]["kind"],
            write=raw["endpoints"]["any" if raw["strategy"] == "active-active" else "write"],
            members=tuple(
                MemberView(**{name: member[name] for name in names}, open=member.get("open", True))
                for member in raw["members"]
            ),
            waiting_for=raw["waiting_for"],
            copies=frozenset(raw["copies"]),
            required=raw["required"],
            durability=raw["durability"],
        )

    def member(self, name: str) -> MemberView:
        return next(member for member in self.members if member.name == name)

    @property
    def standbys(self) -> tuple[MemberView, ...]:
        return tuple(member for member in self.members if member.name != self.leader)

    @property
    def all_write(self) -> bool:
        """Every node takes writes."""
        return self.strategy == "active-active"

    @property
    def struck(self) -> MemberView:
        """Whom a fault strikes: the leader; where every node takes writes, the first one."""
        return self.members[0] if self.all_write else self.member(self.leader)

    @property
    def refusals(self) -> tuple[str, ...]:
        """What must be put right by hand before these members do anything."""
        return tuple(f"{member.name} refuses: {member.note}" for member in self.members if member.state == "refused")

    @property
    def serving(self) -> bool:
        """The leader is open and runs, everybody else streams from it, and every copy counts: a new cluster is up only
        when a commit needs more than its first disk. Active-active: every node takes clients.
        """
        if self.all_write:
            return all(member.state == "serving" and member.open for member in self.members)
        counted = {member.name for member in self.members if not member.tags.get("nofailover")}
        return (
            self.open
            and counted <= self.copies
            and (self.required > 0 or len(counted) < 2 or self.durability != "quorum")
            and all(
                member.state == ("running" if member.name == self.leader else "streaming") for member in self.members
            )
        )

    def __str__(self) -> str:
        states = ", ".join(f"{m.name} {m.state}{'' if m.open else ', not open'}" for m in self.members)
        opened = "open" if self.open else "not open"
        counted = ", ".join(sorted(self.copies))
        return (
            f"epoch {self.epoch} {self.phase}, leader {self.leader or 'none'} {opened}; {states}; copies: {counted}; "
            f"required: {self.required}"
        )


class Target(Protocol):
    """A cluster whose processes run on this machine."""

    def view(self) -> View:
        """The cluster now, as the agent sees it that knows the most. Raises EnvironmentTrouble when none answers."""
        ...

    def data_directory(self, node: str) -> Path: ...

    def store_runs(self, node: str | None = None) -> tuple[str, ...]:
        """The store's processes as ``pid:start time``; empty when they are not on this machine. `node`: of the member
        that a managed store has there.
        """
        ...

    def witness(self) -> tuple[str, tuple[str, ...]]:
        """A machine without a database, and all its processes. Raises UsageError when there is none."""
        ...

    def fill_store(self) -> float:
        """Returns the boot clock's time when the store took no more. Raises UsageError for one of somebody else's."""
        ...

    def start(self, node: str) -> None:
        """Starts the agent and the guard of a node again, whichever is missing. Raises TwinstarError."""
        ...

    def cut_off(self, node: str) -> None:
        """Lets no packet pass between a node and anybody else. Raises UsageError where that cannot be done."""
        ...

    def join(self, node: str) -> None:
        """Undoes `cut_off`."""
        ...

    def beside(self, node: str) -> AbstractContextManager[None]:
        """What is started meanwhile reaches this node also when it is cut off. Raises UsageError as `cut_off` does."""
        ...

    def take_in(self, table: str, counters: tuple[str, ...] = ()) -> None:
        """Where every node takes writes: has them do so to a table that all of them have, and add up these columns.

        Raises TwinstarError.
        """
        ...

    def leave_out(self, table: str) -> None:
        """Undoes `take_in`."""
        ...

    def switchover(self) -> None:
        """A planned change of leader; returns when it is done. Raises TwinstarError when it was not."""
        ...

    def leave(self, node: str) -> None:
        """Where every node takes writes: takes one out in order; returns when it is. Raises TwinstarError."""
        ...

    def rejoin(self, node: str) -> None:
        """Undoes `leave`: the node comes back as a copy of another. Raises TwinstarError."""
        ...


def wait_until_serving(target: Target, patience_s: float, say: Callable[[str], None], pause_s: float = 0.1) -> View:
    """The cluster once its leader is open and all standbys stream; `say` hears the states meanwhile.

    Raises EnvironmentTrouble, naming what is missing, when `patience_s` have passed.
    """
    until = time.monotonic() + patience_s
    last = "no agent answers"
    while True:
        try:
            view = target.view()
            if view.serving:
                return view
            last = f"{view}" + (f"; {view.waiting_for}" if view.waiting_for else "")
        except (EnvironmentTrouble, PeerError) as trouble:
            last = str(trouble)
        if time.monotonic() > until:
            raise EnvironmentTrouble(
                f"The cluster does not serve with all members after {patience_s:.0f} s ({last}): "
                "look at `twinstar status` and the logs."
            )
        say(last)
        time.sleep(pause_s)
