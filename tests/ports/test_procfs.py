"""Processes under /proc, against real ones."""

from __future__ import annotations

import asyncio
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.stopping import stop
from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports import procfs

TREE = "sleep 600 & (sh -c 'sleep 600 & wait') & wait"
"""A shell with two children, one of which has a child."""


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def end(directory: Path) -> None:
    asyncio.run(procfs.end_all_of(directory, lambda duration_ms: asyncio.sleep(duration_ms / 1000)))


def _sleepers(directory: Path) -> int:
    """How many have become what they were forked for."""
    return [process.title for process in procfs.of_directory(directory)].count("sleep 600")


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    main = subprocess.Popen(["/bin/sh", "-c", TREE], cwd=tmp_path, start_new_session=True)
    until(lambda: _sleepers(tmp_path) == 2)
    yield main
    end(tmp_path)
    main.wait()


def test_a_run_names_one_process_for_its_whole_life(tree: subprocess.Popen[bytes]) -> None:
    run = procfs.run_id(tree.pid)
    assert run is not None
    assert procfs.pid_of(run) == tree.pid
    assert procfs.is_running(run)
    assert not procfs.is_running(f"{tree.pid}:1")


@pytest.mark.parametrize("text", ["", "7", ":", "7:", "x:y", "-7:8"])
def test_other_texts_are_no_runs(text: str) -> None:
    assert procfs.pid_of(text) is None
    assert not procfs.is_running(text)
    assert not procfs.kill_run(text)


def test_a_zombie_is_gone(tree: subprocess.Popen[bytes]) -> None:
    run = procfs.run_id(tree.pid)
    assert run is not None
    tree.kill()
    until(lambda: procfs.run_id(tree.pid) is None)
    assert Path(f"/proc/{tree.pid}").exists()
    assert not procfs.is_running(run)


def test_orphans_are_found_by_their_directory(tree: subprocess.Popen[bytes], tmp_path: Path) -> None:
    tree.kill()
    until(lambda: procfs.run_id(tree.pid) is None)
    left = procfs.of_directory(tmp_path)
    assert tree.pid not in {process.pid for process in left}
    assert _sleepers(tmp_path) == 2
    assert len(left) == 3


def test_a_directory_is_found_through_a_link_and_after_its_removal(tmp_path: Path) -> None:
    directory, link = tmp_path / "data", tmp_path / "link"
    directory.mkdir()
    link.symlink_to(directory)
    process = subprocess.Popen(["sleep", "600"], cwd=directory, start_new_session=True)
    try:
        until(lambda: len(procfs.of_directory(link)) == 1)
        directory.rmdir()
        assert [each.pid for each in procfs.of_directory(directory)] == [process.pid]
    finally:
        process.kill()
        process.wait()


def test_a_neighbouring_directory_is_another_one(tree: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert procfs.of_directory(tmp_path.parent) == ()
    assert procfs.of_directory(f"{tmp_path}-2") == ()


def test_the_caller_itself_is_never_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert os.getpid() not in {process.pid for process in procfs.of_directory(tmp_path)}


def test_somebodys_shell_at_a_terminal_is_no_process_of_the_database(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv("/bin/sleep", ["sleep", "600"])
    try:
        until(lambda: procfs.stands_in(pid, tmp_path))
        assert procfs.of_directory(tmp_path) == ()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def test_a_database_started_by_hand_at_a_terminal_is_found_with_its_children(tmp_path: Path) -> None:
    """PostgreSQL's children leave the terminal's session: that tells the database from the shell beside it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv("/bin/sh", ["sh", "-c", "setsid sleep 600 & wait"])
    try:
        until(lambda: len(procfs.of_directory(tmp_path)) == 2)
        assert {process.pid for process in procfs.of_directory(tmp_path)} > {pid}
    finally:
        end(tmp_path)
        os.waitpid(pid, 0)
        os.close(terminal)


def test_children_and_descendants(tree: subprocess.Popen[bytes]) -> None:
    children = procfs.children_of(tree.pid)
    assert len(children) == 2
    assert {child.ppid for child in children} == {tree.pid}
    assert len(procfs.descendants_of(tree.pid)) == 3


def test_a_name_with_spaces_and_parentheses_is_read_rightly(tmp_path: Path) -> None:
    """The name stands in parentheses before the fields: the classic way to read nonsense from /proc/PID/stat."""
    program = tmp_path / ") Z 1 (x"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "600"])
    try:
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == ") Z 1 (x\n")
        assert procfs.run_id(process.pid) is not None
        assert [each.pid for each in procfs.children_of(os.getpid()) if each.pid == process.pid]
    finally:
        process.kill()
        process.wait()


def test_a_pidfd_becomes_readable_when_the_process_ends_unreaped(tree: subprocess.Popen[bytes]) -> None:
    handle = procfs.open_pidfd(tree.pid)
    try:
        assert select.select([handle], [], [], 0)[0] == []
        tree.kill()
        assert select.select([handle], [], [], 20)[0] == [handle]
    finally:
        os.close(handle)


def test_there_is_no_pidfd_of_a_process_that_is_gone() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(ProcessLookupError):
        procfs.open_pidfd(process.pid)


def test_killing_passes_over_what_is_gone(tree: subprocess.Popen[bytes]) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert procfs.kill_pids([gone.pid, tree.pid]) == ()
    assert tree.wait(20) == -signal.SIGKILL


def test_another_process_with_the_same_pid_is_spared(tree: subprocess.Popen[bytes]) -> None:
    run = procfs.run_id(tree.pid)
    assert run is not None
    assert not procfs.kill_run(f"{tree.pid}:1")
    assert tree.poll() is None
    assert procfs.kill_run(run)
    assert tree.wait(20) == -signal.SIGKILL


def test_ending_all_of_a_directory_leaves_nobody(tree: subprocess.Popen[bytes], tmp_path: Path) -> None:
    stop(*(process.pid for process in procfs.of_directory(tmp_path)))
    end(tmp_path)
    assert procfs.of_directory(tmp_path) == ()


FORKER = """
import os, time
for _ in range(2000):
    if os.fork() == 0:
        time.sleep(600)
    time.sleep(0.001)
"""


def test_ending_all_keeps_up_with_one_that_forks(tmp_path: Path) -> None:
    main = subprocess.Popen([sys.executable, "-c", FORKER], cwd=tmp_path, start_new_session=True)
    until(lambda: len(procfs.of_directory(tmp_path)) > 10)
    end(tmp_path)
    main.wait()
    time.sleep(0.1)
    assert procfs.of_directory(tmp_path) == ()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not end a process")
def test_what_may_not_be_ended_is_said(tree: subprocess.Popen[bytes]) -> None:
    pid = os.fork()
    if pid == 0:
        os.setuid(65_534)
        os._exit(0 if procfs.kill_pids([tree.pid]) == (tree.pid,) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert tree.poll() is None


def test_orphans_come_to_a_subreaper() -> None:
    program = (
        "import os, subprocess, sys; from twinstar.ports import procfs; assert procfs.become_subreaper();"
        "orphan = int(subprocess.run(['sh', '-c', 'sleep 600 >/dev/null & echo $!'], stdout=subprocess.PIPE).stdout);"
        "assert [each.pid for each in procfs.children_of(os.getpid())] == [orphan];"
        "os.kill(orphan, 9); assert os.waitpid(orphan, 0)[0] == orphan"
    )
    source = str(Path(__file__).parents[2] / "src")
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": source}, check=True, timeout=20)


def test_end_all_of_says_whose_process_it_cannot_end(
    tree: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", refuse)
        with pytest.raises(EnvironmentTrouble, match="run the agent and the guard as root"):
            end(tmp_path)
