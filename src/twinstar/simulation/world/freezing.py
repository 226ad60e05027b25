"""Processes that stop between any two steps, go on later (SIGSTOP, a machine that sleeps), or never (SIGKILL).

What a process does is the steps of its tasks, each from one await to the next, and calls that come from outside (a
datagram, bytes). All of them go through the gate of their process: tasks begun by a task belong to the same process
(`tasks_by_process` is the loop's task factory), and whoever calls into a process does so by `Gate.run`. While the gate
is shut nothing of the process moves, wherever it was; a timer that runs out meanwhile has run out when it goes on, and
wins over an answer that came meanwhile, as on a real loop.

A killed process does nothing any more, not even tidy up: its coroutines are put aside as they are until the run is
over. What a kernel does for the dead (closing sockets) is asked for with `Gate.at_death`.
"""

from __future__ import annotations

import asyncio
import contextvars
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any, TypeVar, cast

T = TypeVar("T")

_current: contextvars.ContextVar[Gate | None] = contextvars.ContextVar("process", default=None)


class Gate:
    """One process's. Open while it runs."""

    def __init__(self) -> None:
        self.is_open = True
        self.dead = False
        self._steps_left = 0
        self._then: Callable[[], object] | None = None
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._on_opening: list[Callable[[], None]] = []
        self._at_death: dict[Callable[[], None], None] = {}

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begins a task of this process."""
        token = _current.set(self)
        try:
            return asyncio.create_task(work)
        finally:
            _current.reset(token)

    def run(self, act: Callable[..., None], *arguments: object) -> None:
        """A call into the process; it must be open."""
        token = _current.set(self)
        try:
            act(*arguments)
        finally:
            _current.reset(token)

    def shut(self) -> None:
        self.is_open = False

    def shut_after(self, steps: int, then: Callable[[], object] | None = None) -> None:
        """Shuts when so many further steps have been taken: right after an answer, right before an effect. Calls
        `then` at that moment.
        """
        self._steps_left, self._then = steps, then

    def open(self) -> None:
        self._steps_left, self._then = 0, None
        if self.dead or self.is_open:
            return
        self.is_open = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.done():
                each.set_result(None)
        acts, self._on_opening = self._on_opening, []
        for act in acts:
            self.run(act)

    def on_opening(self, act: Callable[[], None]) -> None:
        """Calls `act` once, when the process goes on."""
        self._on_opening.append(act)

    def at_death(self, act: Callable[[], None]) -> None:
        """What the kernel does when the process is killed."""
        self._at_death[act] = None

    def not_at_death(self, act: Callable[[], None]) -> None:
        self._at_death.pop(act, None)

    def kill(self) -> None:
        """Nothing of the process takes another step."""
        self.dead, self.is_open = True, False
        for task in tuple(self._tasks):
            task.cancel()
        acts, self._at_death = self._at_death, {}
        for act in acts:
            act()

    # -- for its tasks ------------------------------------------------------------------------------------------------

    def adopt(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], **how: Any) -> asyncio.Task[T]:
        task = asyncio.Task(_Steps(work, self), loop=loop, **how)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    def step(self) -> None:
        """Counts one that begins now, which is still taken when it is the last."""
        if self._steps_left:
            self._steps_left -= 1
            if not self._steps_left:
                self.shut()
                if self._then is not None:
                    asyncio.get_running_loop().call_soon(self._then, context=contextvars.Context())

    def opening(self) -> object:
        """What a task awaits (as `Future.__await__` yields it) while the gate is shut."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return next(future.__await__())


class _Steps(Coroutine[Any, Any, T]):
    """A coroutine each of whose steps goes through a gate."""

    __slots__ = ("_gate", "_thrown", "_work")

    def __init__(self, work: Coroutine[Any, Any, T], gate: Gate) -> None:
        self._work, self._gate = work, gate
        self._thrown: BaseException | None = None

    def send(self, _: object) -> Any:
        gate = self._gate
        if not gate.is_open:
            return self._wait(gate)
        gate.step()
        if self._thrown is not None:
            thrown, self._thrown = self._thrown, None
            return self._work.throw(thrown)
        return self._work.send(None)

    def throw(self, kind: Any, value: Any = None, trace: Any = None) -> Any:  # noqa: ARG002 - the older signature
        self._thrown = kind if isinstance(kind, BaseException) else value or kind()
        return self.send(None)

    def close(self) -> None:
        if self._gate.dead:
            _put_aside(self._work)
        else:
            self._work.close()

    def _wait(self, gate: Gate) -> Any:
        if gate.dead:
            _put_aside(self._work)
            raise asyncio.CancelledError
        return gate.opening()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._work.__await__()


def tasks_by_process(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T] | Generator[Any, None, T], **how: Any
) -> asyncio.Task[T]:
    """A loop's task factory: a task belongs to the process that began it."""
    coroutine, gate = cast(Coroutine[Any, Any, T], work), _current.get()
    return asyncio.Task(coroutine, loop=loop, **how) if gate is None else gate.adopt(loop, coroutine, **how)


_aside: list[Coroutine[Any, Any, Any]] = []


def _put_aside(work: Coroutine[Any, Any, Any]) -> None:
    """Freed, it would run what its `finally` says."""
    _aside.append(work)


async def bury() -> None:
    """Ends the coroutines of killed processes, when nothing they do matters any more."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "coroutine .* was never awaited")  # what one of them was about to wait for
        while _aside:
            with suppress(RuntimeError):  # it awaits something in its end
                try:
                    _aside.pop().close()
                except* GeneratorExit:  # as a task group hands it on
                    pass


class _Outside:
    """Calls an object in the name of nobody: what it begins is no task of the caller's process."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*arguments: Any) -> Any:
            token = _current.set(None)
            try:
                answer = found(*arguments)
            finally:
                _current.reset(token)
            return _awaited_outside(answer) if asyncio.iscoroutine(answer) else answer

        return call


async def _awaited_outside(answer: Awaitable[T]) -> T:
    caller = _current.get()
    _current.set(None)
    try:
        return await answer
    finally:
        _current.set(caller)


def outside(thing: T) -> T:
    """A database or another thing as a process uses it: what the process begins there goes on without it."""
    return cast(T, _Outside(thing))
