"""A real guard beside a real process tree: what it says of it, and when it ends it."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.guard.nodes import SOURCE, Node, boot_ms, until
from tests.stopping import stop
from twinstar.model.address import Address
from twinstar.model.wire import EngineWord
from twinstar.ports import procfs

RUNNING, KILLING, DEAD, STOPPED = EngineWord.RUNNING, EngineWord.KILLING, EngineWord.DEAD, EngineWord.STOPPED


def pid(run: str) -> int:
    found = procfs.pid_of(run)
    assert found is not None
    return found


# -- death -------------------------------------------------------------------------------------------------------------


def test_a_death_is_announced_to_agent_and_peer_when_nothing_is_left_of_the_database(node: Node) -> None:
    run = node.start_database()
    node.start_guard()
    node.tell(run)
    node.peer.heartbeat_of(RUNNING)
    os.kill(pid(run), signal.SIGKILL)  # stays a zombie, and leaves two orphans
    assert node.peer.words_until(DEAD)[-2:] == [KILLING, DEAD]
    assert node.living() == 0
    assert node.agent.words_until(DEAD)[-1] is DEAD
    heartbeat = node.peer.heartbeat_of(DEAD)
    assert (heartbeat.run, heartbeat.epoch, heartbeat.leading) == (run, 3, True)
    assert heartbeat.pid == node.guard_pid


def test_a_database_is_found_and_its_death_seen_while_no_agent_speaks(node: Node) -> None:
    node.start_guard()
    node.peer.heartbeat_of(EngineWord.UNKNOWN)
    run = node.start_database()
    assert node.peer.heartbeat_of(RUNNING).run == run
    os.kill(pid(run), signal.SIGKILL)
    assert node.peer.heartbeat_of(DEAD).run == run
    assert node.living() == 0


def test_an_announced_stop_is_no_death(node: Node) -> None:
    run = node.start_database()
    node.start_guard(guard_grace_ms=20_000)
    node.tell(run, stopping=True)
    node.peer.heartbeat_of(RUNNING)
    procfs.kill_pids(process.pid for process in procfs.of_directory(node.data))
    assert DEAD not in node.peer.words_until(STOPPED)


def test_the_next_run_is_spoken_of_as_soon_as_it_is_there(node: Node) -> None:
    first = node.start_database()
    node.start_guard()
    node.tell(first)
    node.peer.heartbeat_of(RUNNING)
    os.kill(pid(first), signal.SIGKILL)
    node.peer.heartbeat_of(DEAD)
    second = node.start_database()
    assert node.peer.heartbeat_of(RUNNING).run == second
    assert node.living() == 3


def test_a_pid_that_is_no_process_of_the_data_directory_is_left_alone(node: Node) -> None:
    """A pid file left behind, and the pid given to somebody else: the most dangerous thing a guard could believe."""
    node.start_guard()
    other = subprocess.Popen(["sleep", "600"])
    try:
        (node.data / "postmaster.pid").write_text(f"{other.pid}\n")
        node.tell(procfs.run_id(other.pid) or "")
        node.notice(9)
        node.peer.heartbeat_of(DEAD)
        time.sleep(0.5)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


# -- fences ------------------------------------------------------------------------------------------------------------


def test_a_leader_of_an_older_epoch_is_ended_when_its_agent_does_not_act(node: Node) -> None:
    run = node.start_database()
    node.start_guard()
    node.tell(run)
    node.peer.heartbeat_of(RUNNING)
    node.notice(4)
    heartbeat = node.peer.heartbeat_of(DEAD)
    assert (heartbeat.run, heartbeat.epoch, heartbeat.leading) == (run, 3, True)
    assert node.living() == 0


def test_a_leader_whose_agent_is_gone_is_not_ended(node: Node) -> None:
    run = node.start_database()
    node.start_guard(agent_silent_ms=60_000)
    node.tell(run)
    node.notice(3)
    until(lambda: node.peer.next_heartbeat().agent_age_ms > 1_500, "the agent's age")
    assert procfs.is_running(run)
    assert node.living() == 3


def test_a_lease_that_is_over_ends_the_leader_with_its_strays(node: Node) -> None:
    """Also a descendant that stands in another directory and has a session of its own."""
    run = node.start_database("sleep 600 & (cd /; exec setsid sleep 600) & wait")

    def strays() -> list[int]:
        return [each for each in procfs.descendants_of(pid(run)) if not procfs.stands_in(each, node.data)]

    until(lambda: len(strays()) == 1, "the stray")
    stray = procfs.run_id(strays()[0])
    assert stray is not None
    node.start_guard(durability="async", lease_ms=1_000.0)
    node.tell(run, lease_until_ms=boot_ms() + 600)
    node.peer.heartbeat_of(DEAD)
    assert node.living() == 0
    assert not procfs.is_running(run)
    assert not procfs.is_running(stray)


def test_a_renewed_lease_keeps_the_leader(node: Node) -> None:
    run = node.start_database()
    node.start_guard(durability="async", lease_ms=1_500.0)
    ends_ms = boot_ms() + 2_000
    while boot_ms() < ends_ms:
        node.tell(run, lease_until_ms=boot_ms() + 1_500)
        time.sleep(0.05)
    assert node.living() == 3
    assert node.peer.words_until(RUNNING)[-1] is RUNNING


def test_a_stopped_guard_that_continues_still_ends_a_leader_whose_lease_is_over(node: Node) -> None:
    run = node.start_database()
    node.start_guard(durability="async", lease_ms=3_000.0)
    until_ms = boot_ms() + 1_500
    node.tell(run, lease_until_ms=until_ms)
    node.peer.heartbeat_of(RUNNING)
    stop(node.guard_pid)
    until(lambda: boot_ms() > until_ms + 200, "the lease is over")
    assert node.living() == 3
    os.kill(node.guard_pid, signal.SIGCONT)
    node.peer.heartbeat_of(DEAD)
    assert node.living() == 0


# -- a silent agent's database -----------------------------------------------------------------------------------------

SERVER = """
import socket
server = socket.socket(socket.AF_UNIX)
server.bind("s")
server.listen()
while True:
    client, _ = server.accept()
    client.recv(8)
    client.sendall(b"N")
    client.close()
"""


@pytest.mark.parametrize("hangs", [False, True])
def test_a_silent_agents_database_is_ended_only_if_it_does_not_answer(node: Node, hangs: bool) -> None:
    (node.data.parent / "server.py").write_text(SERVER)
    run = node.start_database(f"exec {sys.executable} ../server.py")
    until((node.data / "s").exists, "the stand-in's socket")
    node.start_guard(database_socket=str(node.data / "s"))
    node.tell(run)
    node.peer.heartbeat_of(RUNNING)
    if hangs:
        stop(pid(run))
        assert node.peer.heartbeat_of(DEAD).run == run
    else:
        until(lambda: node.peer.next_heartbeat().agent_age_ms > 2_500, "several tests")
        assert procfs.is_running(run)


def test_the_test_works_over_tcp(node: Node) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts in the kernel, never answers
        address = Address("127.0.0.1", server.getsockname()[1])
        run = node.start_database()
        node.start_guard(database=address)
        node.tell(run)
        assert node.peer.heartbeat_of(DEAD).run == run


# -- the guard's own life ----------------------------------------------------------------------------------------------


def test_a_restarted_guard_picks_up_the_running_database_and_what_it_leads(node: Node) -> None:
    run = node.start_database()
    node.start_guard()
    node.tell(run)
    until(lambda: node.peer.next_heartbeat().leading, "the agent's word")
    node.kill_guard()
    assert node.living() == 3
    node.start_guard()
    until(lambda: node.peer.next_heartbeat().agent_age_ms > 1e6, "the new guard")
    heartbeat = node.peer.heartbeat_of(RUNNING)
    assert (heartbeat.run, heartbeat.epoch, heartbeat.leading) == (run, 3, True)
    os.kill(pid(run), signal.SIGKILL)
    assert node.peer.heartbeat_of(DEAD).leading


def test_a_guard_that_cannot_look_does_not_say_that_nobody_is_there(node: Node) -> None:
    run = node.start_database()
    node.start_guard()
    node.tell(run)
    node.peer.heartbeat_of(RUNNING)
    node.peer.next_heartbeat()  # by the one after it the watch has begun
    soft, hard = resource.prlimit(node.guard_pid, resource.RLIMIT_NOFILE)
    resource.prlimit(node.guard_pid, resource.RLIMIT_NOFILE, (0, hard))  # it can open nothing any more
    os.kill(pid(run), signal.SIGKILL)
    node.peer.heartbeat_of(KILLING)
    time.sleep(0.5)
    node.peer.forget()
    assert node.peer.next_heartbeat().engine is KILLING
    assert node.living() == 2
    resource.prlimit(node.guard_pid, resource.RLIMIT_NOFILE, (soft, hard))
    node.peer.heartbeat_of(DEAD)
    assert node.living() == 0


def test_a_damaged_memory_is_an_empty_one(node: Node) -> None:
    Path(node.settings.state_file).write_text("{")
    run = node.start_database()
    node.start_guard()
    assert node.peer.heartbeat_of(RUNNING).run == run
    assert "without a memory" in node.log()


# -- a clock that is behind --------------------------------------------------------------------------------------------

HOUR_MS = 3_600_000


def test_a_guard_whose_clock_is_behind_that_of_its_last_start_is_heard_again(node: Node) -> None:
    """Its record is lost, and the peer remembers a start of an hour later."""
    later = node.peer.sender.boot + HOUR_MS
    node.peer.hear_guard_of(later)
    node.start_guard()  # waits until the peer hears it
    assert f"goes on as start {later + 1}" in node.log()
    node.kill_guard()
    node.start_guard()
    assert json.loads(Path(node.settings.state_file).read_text())["boot"] == later + 2


def test_an_agent_whose_clock_is_behind_that_of_its_last_start_is_told_so_by_its_guard(node: Node) -> None:
    run = node.start_database()
    node.start_guard()
    node.tell(run, epoch=3)
    until(lambda: node.agent.next_heartbeat().epoch == 3, "the agent's word")
    last = node.agent.sender.boot
    node.agent.begin(last - HOUR_MS)

    def is_heard() -> bool:
        node.tell(run, epoch=4)
        return node.agent.next_heartbeat().epoch == 4

    until(is_heard, "the word of the agent that started anew")
    assert node.agent.sender.boot == last + 1


def guard(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twinstar.guard", *arguments],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no JSON"),
        ("[]", "one JSON object"),
        ("{}", "incomplete"),
        ('{"member": 3}', "member must be"),
        ('{"heartbeat": 3}', "unknown field 'heartbeat'"),
        ('{"bind": {"host": "a", "port": 70000}}', "bind.port must be"),
        ('{"data_directory": "data"}', "absolute path"),
        ('{"peers": [{}]}', "peers must be"),
        ('{"heartbeat_ms": 0}', "heartbeat_ms must be"),
        ('{"engine_kill_allowed": 1}', "engine_kill_allowed must be"),
        ("\udcff", "cannot be read"),
    ],
)
def test_wrong_settings_are_one_sentence_and_status_2(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "settings.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    outcome = guard(str(file))
    assert outcome.returncode == 2
    assert words in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [(), ("/nowhere/settings.json",)])
def test_missing_settings_are_one_sentence_and_status_2(arguments: tuple[str, ...]) -> None:
    outcome = guard(*arguments)
    assert outcome.returncode == 2
    assert len(outcome.stderr.splitlines()) == 1


@pytest.mark.parametrize("content", [None, b" \n"])
def test_a_missing_or_empty_secret_is_one_sentence_and_status_2(node: Node, content: bytes | None) -> None:
    secret = Path(node.settings.secret_file)
    secret.unlink()
    if content is not None:
        secret.write_bytes(content)
    file = node.data.parent / "settings.json"
    file.write_text(node.settings.to_json())
    outcome = guard(str(file))
    assert outcome.returncode == 2
    assert str(secret) in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_a_taken_port_is_one_sentence_and_status_1(node: Node) -> None:
    node.start_guard()
    outcome = guard(str(node.data.parent / "guard.json"))
    assert outcome.returncode == 1
    assert "taken" in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_it_loads_nothing_large() -> None:
    program = "import sys; import twinstar.guard.__main__; print(*sys.modules)"
    outcome = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    large = {"asyncio", "ssl", "pathlib", "logging", "threading", "subprocess", "urllib", "ctypes", "pydantic"}
    # `site` may load some of these for an editable installation: only what the guard adds counts.
    before = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert large & (set(outcome.stdout.split()) - set(before.stdout.split())) == set()
