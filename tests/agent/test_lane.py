"""One effect at a time: what is wanted is left alone, what is not wanted any more is broken off once, and tidied up."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from itertools import pairwise
from typing import Any

from twinstar.agent.lane import Lane
from twinstar.model.effects import EngineEffect, Kill, Start, Stop
from twinstar.model.errors import EngineError
from twinstar.simulation.world.virtual_time import VirtualClock, VirtualLoop, run_virtually

Perform = Callable[[EngineEffect], Coroutine[Any, Any, None]]


def in_lane(perform: Callable[[VirtualClock, EngineEffect], Coroutine[Any, Any, None]], story: Any) -> None:
    loop = VirtualLoop()
    clock = VirtualClock(loop)

    async def main() -> None:
        lane: Lane[EngineEffect] = Lane(clock, lambda effect: perform(clock, effect), lambda: None)
        await story(lane, clock)
        await lane.close()

    run_virtually(main(), loop)


def test_a_wanted_effect_is_left_alone() -> None:
    begun: list[EngineEffect] = []

    async def perform(clock: VirtualClock, effect: EngineEffect) -> None:
        begun.append(effect)
        await clock.sleep_ms(100)

    async def story(lane: Lane[EngineEffect], clock: VirtualClock) -> None:
        for _ in range(9):
            lane.want(Start())
            await clock.sleep_ms(10)
        lane.want(None)
        await clock.sleep_ms(100)
        assert begun == [Start()]
        assert lane.effect is None

    in_lane(perform, story)


def test_another_effect_waits_until_the_one_before_has_tidied_up() -> None:
    told: list[str] = []

    async def perform(clock: VirtualClock, effect: EngineEffect) -> None:
        try:
            await clock.sleep_ms(1_000)
        finally:
            await clock.sleep_ms(50)
            told.append(f"{type(effect).__name__} tidied up at {clock.now_ms():.0f}")

    async def story(lane: Lane[EngineEffect], clock: VirtualClock) -> None:
        lane.want(Start())
        await clock.sleep_ms(20)
        for _ in range(10):
            lane.want(Stop())
            await clock.sleep_ms(10)
        assert told == ["Start tidied up at 70"]
        assert lane.effect == Stop()

    in_lane(perform, story)


def test_an_effect_may_be_replaced_before_its_first_step() -> None:
    begun: list[EngineEffect] = []

    async def perform(clock: VirtualClock, effect: EngineEffect) -> None:
        begun.append(effect)
        await clock.sleep_ms(10)

    async def story(lane: Lane[EngineEffect], clock: VirtualClock) -> None:
        lane.want(Start())
        lane.want(Stop())
        await clock.sleep_ms(1)
        assert (begun, lane.effect) == ([Stop()], Stop())
        await clock.sleep_ms(20)
        assert lane.effect is None

    in_lane(perform, story)


def test_what_failed_is_tried_again_after_a_pause_that_grows() -> None:
    begun: list[float] = []

    async def perform(clock: VirtualClock, _: EngineEffect) -> None:
        begun.append(clock.now_ms())
        raise EngineError("The port is taken.")

    async def story(lane: Lane[EngineEffect], clock: VirtualClock) -> None:
        for _ in range(1_500):
            lane.want(Start())
            await clock.sleep_ms(10)
        assert lane.trouble == "The port is taken."
        pauses = [later - earlier for earlier, later in pairwise(begun)]
        assert [round(p, -2) for p in pauses[:4]] == [100, 200, 400, 800]
        assert round(pauses[-1], -2) == 5_000

    in_lane(perform, story)


def test_a_failed_effect_does_not_hold_up_another_one() -> None:
    begun: list[EngineEffect] = []

    async def perform(_: VirtualClock, effect: EngineEffect) -> None:
        begun.append(effect)
        if effect == Start():
            raise EngineError("Something is left of it.")

    async def story(lane: Lane[EngineEffect], clock: VirtualClock) -> None:
        lane.want(Start())
        await clock.sleep_ms(1)
        lane.want(Kill())
        await clock.sleep_ms(1)
        assert begun == [Start(), Kill()]

    in_lane(perform, story)


def test_a_kill_is_carried_out_whatever_is_wanted_meanwhile() -> None:
    done: list[EngineEffect] = []

    async def perform(clock: VirtualClock, effect: EngineEffect) -> None:
        try:
            await clock.sleep_ms(100)
            done.append(effect)
        finally:
            await clock.sleep_ms(20)

    async def story(lane: Lane[EngineEffect], clock: VirtualClock) -> None:
        lane.want(Start())
        await clock.sleep_ms(10)
        lane.want(Kill())
        for _ in range(20):
            lane.want(Start())
            await clock.sleep_ms(10)
        assert done == [Kill()]
        assert lane.effect == Start()

    in_lane(perform, story)
