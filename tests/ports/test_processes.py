"""The port's real processes: started, watched, ended, and never left behind."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports import procfs
from twinstar.ports.clock import SystemClock
from twinstar.ports.processes import Signal, SystemProcesses

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "ONLY": "this"}


@pytest.fixture
def processes() -> SystemProcesses:
    return SystemProcesses(SystemClock())


def spawn(processes: SystemProcesses, output: Path, *command: str) -> str:
    pid = processes.spawn(command, account=None, environment=ENVIRONMENT, output=output)
    run = processes.run_id(pid)
    assert run is not None
    return run


def is_reaped(pid: int) -> bool:
    """Not even a zombie is left."""
    return not Path(f"/proc/{pid}").exists()


async def test_a_command_runs_with_its_own_environment_and_says_how_it_ended(processes: SystemProcesses) -> None:
    lines: list[str] = []
    script = "env | sort; pwd; umask; printf 'one\\rtwo\\nthree' >&2; exit 3"
    done = await processes.run(["sh", "-c", script], account=None, environment=ENVIRONMENT, on_line=lines.append)
    assert done.code == 3
    assert "ONLY=this" in done.out
    assert "HOME=" not in done.out
    assert done.out.split()[-2:] == ["/", "0077"]
    assert done.err == "one\ntwo\nthree"
    assert lines == ["one", "two"]


async def test_what_cannot_be_started_is_said_in_a_sentence(processes: SystemProcesses, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentTrouble, match="/nowhere/at-all cannot be started"):
        await processes.run(["/nowhere/at-all"], account=None, environment={})
    with pytest.raises(EnvironmentTrouble, match="/nowhere/at-all cannot be started"):
        processes.spawn(["/nowhere/at-all"], account=None, environment={}, output=tmp_path / "log")


async def test_a_cancelled_command_leaves_nothing(processes: SystemProcesses, tmp_path: Path) -> None:
    told = tmp_path / "pids"
    script = f"sleep 600 & echo $$ $! > {told}; wait"
    task = asyncio.create_task(processes.run(["sh", "-c", script], account=None, environment=ENVIRONMENT))
    while not told.exists() or len(told.read_text().split()) < 2:
        await SystemClock().sleep_ms(5)
    pids = [int(word) for word in told.read_text().split()]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while any(procfs.run_id(pid) for pid in pids):
        await SystemClock().sleep_ms(5)


async def test_a_command_cancelled_again_and_again_leaves_nothing_either(processes: SystemProcesses) -> None:
    """Whoever is cancelled twice has no time to wait, and a loop that ends cancels what it finds. A descendant of
    another session holds the outputs beyond the command's end: nobody waits for it.
    """
    clock, elsewhere = SystemClock(), "setsid sleep 600 & echo $$ $! >&2; wait"
    pids: list[int] = []

    def told(line: str) -> None:
        pids.extend(map(int, line.split()))

    task = asyncio.create_task(
        processes.run(["sh", "-c", elsewhere], account=None, environment=ENVIRONMENT, on_line=told)
    )
    while not pids:
        await clock.sleep_ms(5)
    try:
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert task.cancelled()
        assert is_reaped(pids[0])
        assert procfs.run_id(pids[1])
    finally:
        os.kill(pids[1], Signal.KILL)


def test_a_loop_that_ends_ends_its_commands(processes: SystemProcesses) -> None:
    async def left_behind() -> int:
        task = asyncio.create_task(processes.run(["sleep", "617"], account=None, environment=ENVIRONMENT))
        await asyncio.sleep(0)
        assert not task.done()
        [command] = [child for child in processes.children_of(os.getpid()) if child.title == "sleep 617"]
        return command.pid

    assert is_reaped(asyncio.run(left_behind()))


async def test_a_line_that_cannot_be_told_ends_the_command(processes: SystemProcesses) -> None:
    def told(line: str) -> None:
        raise BrokenPipeError(line)

    script = "echo $$ >&2; sleep 600"
    with pytest.raises(BrokenPipeError) as error:
        await processes.run(["sh", "-c", script], account=None, environment=ENVIRONMENT, on_line=told)
    assert is_reaped(int(error.value.args[0]))


async def test_who_waits_for_a_held_output_costs_nothing(processes: SystemProcesses) -> None:
    """The command is over, a descendant of it still writes."""
    begun_s = time.process_time()
    done = await processes.run(["sh", "-c", "(sleep 1; echo late) & exit 4"], account=None, environment=ENVIRONMENT)
    assert (done.code, done.out) == (4, "late\n")
    assert time.process_time() - begun_s < 0.5


async def test_a_spawned_process_has_a_session_of_its_own_and_its_end_is_seen(
    processes: SystemProcesses, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    run = spawn(processes, log, "sh", "-c", "echo begun; exec sleep 600")
    pid = int(run.partition(":")[0])
    try:
        while not log.read_text():
            await SystemClock().sleep_ms(5)
        assert os.getsid(pid) == pid
        ended = asyncio.create_task(processes.ended(run))
        await asyncio.sleep(0.02)
        assert not ended.done()
        # Another run of the same pid is over already, whoever has the pid now.
        await processes.ended(f"{pid}:1")
    finally:
        assert processes.signal(pid, Signal.KILL)
    await ended
    assert not processes.is_running(run)
    # Reaped as well: not even a zombie keeps the pid.
    assert not processes.signal(pid, Signal.TERMINATE)
    await processes.ended(run)
    assert log.read_text() == "begun\n"


async def test_a_process_that_somebody_else_reaped_is_forgotten(processes: SystemProcesses, tmp_path: Path) -> None:
    pid = processes.spawn(["true"], account=None, environment=ENVIRONMENT, output=tmp_path / "log")
    await asyncio.to_thread(os.waitpid, pid, 0)
    await processes.ended(f"{pid}:1")
    await processes.end_all_of(tmp_path)


async def test_all_of_a_directory_are_ended(processes: SystemProcesses, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    run = spawn(processes, tmp_path / "log", "sh", "-c", f"cd {place}; sleep 600 & setsid sleep 600 & wait")
    while len(processes.of_directory(place)) < 3:
        await SystemClock().sleep_ms(5)
    pid = int(run.partition(":")[0])
    assert {child.ppid for child in processes.children_of(pid)} == {pid}
    assert await processes.end_all_of(place) == 3
    assert processes.of_directory(place) == ()
    await processes.ended(run)
