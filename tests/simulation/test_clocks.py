"""Clocks that drift, jump and stand still: what is slept on them ends accordingly in true time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from twinstar.simulation.world.clocks import MachineClock
from twinstar.simulation.world.virtual_time import VirtualLoop, run_virtually

Story = Callable[[MachineClock, VirtualLoop], Awaitable[None]]


def on_a_clock(story: Story, rate: float = 1.0) -> None:
    loop = VirtualLoop()

    async def main() -> None:
        await story(MachineClock(loop, boot_ms=5_000, wall_ms=1_000_000, rate=rate), loop)

    run_virtually(main(), loop)


async def expires(clock: MachineClock, after_ms: float) -> None:
    with pytest.raises(TimeoutError):
        async with clock.timeout_ms(after_ms):
            await asyncio.Event().wait()


@pytest.mark.parametrize("wait", [MachineClock.sleep_ms, expires])
@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
def test_what_is_slept_on_a_fast_clock_is_short(wait: Callable[..., Awaitable[None]], rate: float) -> None:
    async def story(clock: MachineClock, loop: VirtualLoop) -> None:
        before = clock.now_ms()
        await wait(clock, 1_000)
        assert clock.now_ms() - before == pytest.approx(1_000)
        assert loop.time() == pytest.approx(1.0 / rate)

    on_a_clock(story, rate)


@pytest.mark.parametrize("wait", [MachineClock.sleep_ms, expires])
def test_a_rate_that_changes_meanwhile_moves_the_end(wait: Callable[..., Awaitable[None]]) -> None:
    async def story(clock: MachineClock, loop: VirtualLoop) -> None:
        loop.call_at(0.5, clock.set_rate, 2.0)
        await wait(clock, 1_000)
        assert loop.time() == pytest.approx(0.75)

    on_a_clock(story)


@pytest.mark.parametrize("wait", [MachineClock.sleep_ms, expires])
def test_asleep_the_boot_clock_counts_and_timers_do_not(wait: Callable[..., Awaitable[None]]) -> None:
    async def story(clock: MachineClock, loop: VirtualLoop) -> None:
        loop.call_at(0.4, clock.fall_asleep)
        loop.call_at(10.4, clock.wake_up)
        await wait(clock, 1_000)
        assert loop.time() == pytest.approx(11.0)
        assert clock.now_ms() == pytest.approx(16_000)
        assert clock.wall_ms() == pytest.approx(1_011_000, abs=1)

    on_a_clock(story)


def test_a_paused_virtual_machine_does_not_know() -> None:
    async def story(clock: MachineClock, loop: VirtualLoop) -> None:
        loop.call_at(0.4, clock.stand_still)
        loop.call_at(10.4, clock.wake_up)
        await clock.sleep_ms(1_000)
        assert loop.time() == pytest.approx(11.0)
        assert clock.now_ms() == pytest.approx(6_000)

    on_a_clock(story)


def test_the_time_of_day_jumps_and_nothing_else_does() -> None:
    async def story(clock: MachineClock, loop: VirtualLoop) -> None:
        loop.call_at(0.5, clock.step_wall, -3_600_000)
        await clock.sleep_ms(1_000)
        assert loop.time() == pytest.approx(1.0)
        assert clock.wall_ms() == pytest.approx(1_001_000 - 3_600_000, abs=1)

    on_a_clock(story)


def test_an_answer_in_time_ends_no_timeout() -> None:
    async def story(clock: MachineClock, loop: VirtualLoop) -> None:
        async with clock.timeout_ms(1_000):
            await clock.sleep_ms(900)
        clock.set_rate(3.0)
        await clock.sleep_ms(3_000)
        assert loop.time() == pytest.approx(1.9)

    on_a_clock(story)
