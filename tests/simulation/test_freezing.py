"""A process stands still between any two of its steps, goes on, or never does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from twinstar.simulation.world.freezing import Gate, outside
from twinstar.simulation.world.virtual_time import VirtualLoop, run_virtually


def virtually(story: Callable[[Gate], Awaitable[None]]) -> None:
    async def main() -> None:
        await story(Gate())

    run_virtually(main(), VirtualLoop())


class Work:
    """Two tasks of one process; the second is begun by the first."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.tidied = False

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._child())
                for number in range(5):
                    await asyncio.sleep(1)
                    self.done.append(f"step {number}")
        finally:
            self.tidied = True
            await asyncio.sleep(1)

    async def _child(self) -> None:
        await asyncio.sleep(2.5)
        self.done.append("child")


def test_while_the_gate_is_shut_nothing_moves() -> None:
    async def story(gate: Gate) -> None:
        work = Work()
        task = gate.spawn(work.run())
        await asyncio.sleep(1.5)
        gate.shut()
        await asyncio.sleep(10)
        assert work.done == ["step 0"]
        gate.open()
        await task
        assert len(work.done) == 6

    virtually(story)


@pytest.mark.parametrize("steps", range(1, 12))
def test_between_any_two_steps(steps: int) -> None:
    async def story(gate: Gate) -> None:
        work, shut_at = Work(), list[float]()
        task = gate.spawn(work.run())
        gate.shut_after(steps, lambda: shut_at.append(asyncio.get_running_loop().time()))
        await asyncio.sleep(20)
        assert len(shut_at) == (not gate.is_open)
        before = list(work.done)
        await asyncio.sleep(20)
        assert work.done == before
        gate.open()
        await task
        assert sorted(work.done) == ["child", *(f"step {n}" for n in range(5))]

    virtually(story)


def test_a_timeout_that_ran_out_meanwhile_wins_over_the_answer() -> None:
    async def ask(answer: asyncio.Future[str]) -> str:
        try:
            async with asyncio.timeout(1):
                return await answer
        except TimeoutError:
            return "timeout"

    async def story(gate: Gate) -> None:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = gate.spawn(ask(answer))
        await asyncio.sleep(0.5)
        gate.shut()
        answer.set_result("answer")
        await asyncio.sleep(5)
        gate.open()
        assert await task == "timeout"

    virtually(story)


@pytest.mark.parametrize("frozen", [False, True])
def test_the_dead_do_not_even_tidy_up(frozen: bool) -> None:
    async def story(gate: Gate) -> None:
        work, closed = Work(), list[str]()
        task = gate.spawn(work.run())
        gate.at_death(lambda: closed.append("by the kernel"))
        await asyncio.sleep(1.5)
        if frozen:
            gate.shut()
        gate.kill()
        gate.kill()
        await asyncio.sleep(10)
        assert task.cancelled()
        assert (work.done, work.tidied, closed) == (["step 0"], False, ["by the kernel"])

    virtually(story)


def test_what_a_process_began_outside_goes_on_without_it() -> None:
    class Database:
        def __init__(self) -> None:
            self.ended = False

        async def begin(self) -> None:
            self.work = asyncio.create_task(self._end())

        async def _end(self) -> None:
            await asyncio.sleep(1)
            self.ended = True

    async def story(gate: Gate) -> None:
        database = Database()
        await gate.spawn(outside(database).begin())
        gate.kill()
        await asyncio.sleep(2)
        assert database.ended

    virtually(story)
