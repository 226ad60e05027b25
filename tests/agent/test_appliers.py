"""The processes that apply other nodes' logs: real ones, that do nothing but end as they are told."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from twinstar.agent.active_active.appliers import Appliers, Duty, Order
from twinstar.ports.clock import SystemClock
from twinstar.ports.processes import SystemProcesses

SENDER = 2
PATIENCE_S = 20
RUNS_ON, DRAINED, FAILS, FINDS_A_GAP = "sleep(1000)", "exit(0)", "exit('what went wrong')", "exit(3)"
PROGRAM = (
    "import sys; from time import sleep; open(sys.argv[1] + '.runs', 'a').write('.'); exec(open(sys.argv[1]).read())"
)


@pytest.fixture
async def appliers() -> AsyncIterator[Appliers]:
    clock = SystemClock()
    made = Appliers(lambda file: [sys.executable, "-c", PROGRAM, str(file)], {}, clock, SystemProcesses(clock))
    try:
        yield made
    finally:
        await made.close()


def order(folder: Path, does: str, duty: Duty = Duty.APPLY) -> Order:
    return Order(does, folder / "applier.json", folder / "applier.state", duty)


def runs(folder: Path) -> int:
    """How often one was started."""
    file = folder / "applier.json.runs"
    return len(file.read_text()) if file.exists() else 0


async def until(condition: Callable[[], bool]) -> None:
    """Polls: what processes do tells nobody."""
    async with asyncio.timeout(PATIENCE_S):
        for _ in iter(condition, True):
            await asyncio.sleep(0.01)


async def test_one_that_ends_is_started_again_and_says_why(appliers: Appliers, tmp_path: Path) -> None:
    await appliers.want({SENDER: order(tmp_path, FAILS)})
    await until(lambda: appliers.told(SENDER).trouble == "what went wrong")
    await until(lambda: runs(tmp_path) >= 3)
    assert appliers.senders == frozenset({SENDER})
    assert not appliers.gaps


async def test_one_that_finds_a_gap_says_so(appliers: Appliers, tmp_path: Path) -> None:
    await appliers.want({SENDER: order(tmp_path, FINDS_A_GAP)})
    await until(lambda: appliers.gaps == {SENDER})


async def test_one_that_has_nothing_left_to_do_stays_ended(appliers: Appliers, tmp_path: Path) -> None:
    await appliers.want({SENDER: order(tmp_path, DRAINED, Duty.DRAIN)})
    await until(lambda: not appliers.senders)
    assert runs(tmp_path) == 1


async def test_one_that_somebody_else_has_ended_is_started_again(appliers: Appliers, tmp_path: Path) -> None:
    await appliers.want({SENDER: order(tmp_path, DRAINED)})
    await until(lambda: runs(tmp_path) >= 2)
    assert appliers.senders == frozenset({SENDER})


@pytest.mark.parametrize(("duty", "here"), [(Duty.APPLY, 0x10), (Duty.SPOOL, 0x20), (Duty.DRAIN, 0x10)])
async def test_what_has_come_is_here_only_where_it_is_kept(
    appliers: Appliers, tmp_path: Path, duty: Duty, here: int
) -> None:
    ordered = order(tmp_path, RUNS_ON, duty)
    await appliers.want({SENDER: ordered})
    await until(lambda: runs(tmp_path) == 1)
    said = {"at_ms": 0, "received": "0/20", "applied": "0/10", "lag_ms": 7.0, "error": ""}
    ordered.state_file.write_text(json.dumps(said))
    told = appliers.told(SENDER)
    assert (told.applied, told.here) == (0x10, here)
    ordered.state_file.write_text(json.dumps(said | {"lag_ms": 0}))
    told = appliers.told(SENDER)
    assert (told.applied, told.here) == (0x20, 0x20), "nothing waits"


async def test_one_with_other_orders_is_replaced_and_one_that_nobody_wants_is_ended(
    appliers: Appliers, tmp_path: Path
) -> None:
    first, second = order(tmp_path, RUNS_ON), order(tmp_path, f"{RUNS_ON} # again")
    await appliers.want({SENDER: first})
    await until(lambda: runs(tmp_path) == 1)
    await appliers.want({SENDER: first})
    assert appliers.is_as({SENDER: first})
    await appliers.want({SENDER: second})
    await until(lambda: runs(tmp_path) == 2)
    assert appliers.is_as({SENDER: second})
    await appliers.want({})
    assert appliers.senders == frozenset()


async def test_one_that_cannot_be_started_on_a_full_disk_is_once_there_is_room(
    appliers: Appliers, tmp_path: Path
) -> None:
    wanted = order(tmp_path, RUNS_ON)
    wanted.file.symlink_to("/dev/full")
    await appliers.want({SENDER: wanted})
    await until(lambda: "No space left on device" in appliers.told(SENDER).trouble)
    assert appliers.senders == frozenset({SENDER})
    wanted.file.unlink()
    await until(lambda: runs(tmp_path) == 1)
