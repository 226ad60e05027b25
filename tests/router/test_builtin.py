"""The built-in router as a process, and what is true of it alone."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

import psycopg
import pytest

from tests.engine.postgresql.lab import until
from tests.router.conformance import RouterConformance
from tests.router.world import MEMBERS, World, environment, world
from twinstar.router.builtin import SURPLUS
from twinstar.router.watcher import ASK_OPEN_MS

COMMAND = [sys.executable, "-m", "twinstar.router", "--config"]


class TestBuiltinRouter(RouterConformance):
    command: ClassVar[list[str]] = COMMAND


# As a process:


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[World]:
    """A world without databases whose router has not been started."""
    made = World(tmp_path, [], COMMAND)
    try:
        yield made
    finally:
        made.close()


def test_sigterm_ends_everything_with_status_0(alone: World) -> None:
    alone.start()
    with ExitStack() as stack:
        addresses = [("127.0.0.1", port) for port in (alone.write_port, alone.read_port)]
        clients = [stack.enter_context(socket.create_connection(address, 5)) for address in addresses * 20]
        until(lambda: alone.status()["held"] == {"write": 20, "read": 20}, "the clients are there")
        assert alone.stop() == 0
        assert {client.recv(1) for client in clients} == {b""}
    assert "Traceback" not in alone.log("router")


def test_a_taken_port_is_one_sentence_and_status_1(alone: World) -> None:
    with socket.create_server(("127.0.0.1", alone.write_port)):
        done = subprocess.run([*COMMAND, alone.config], capture_output=True, text=True, env=environment(), timeout=30)
    assert done.returncode == 1
    assert done.stderr.startswith(f"TCP port {alone.write_port} on 127.0.0.1 is taken: ")
    assert done.stderr.count("\n") == 1


def test_a_wrong_configuration_is_one_sentence_and_status_2(alone: World) -> None:
    (alone.folder / "secrets" / "wire").unlink()
    done = subprocess.run([*COMMAND, alone.config], capture_output=True, text=True, env=environment(), timeout=30)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_without_the_store_agents_are_believed(alone: World) -> None:
    alone.epoch = 7
    alone.stop_store()
    alone.start()
    alone.open("a", ("b",))
    alone.wait_for(epoch=7, write="a", read=["b"])
    assert alone.status()["store"] != ""


def test_a_register_that_cannot_be_read_changes_nothing(alone: World) -> None:
    alone.start()
    epoch = alone.lead("a")
    alone.write_register(b'{"schema": 99, "epoch": 1000}')
    until(lambda: "schema version 99" in alone.status()["store"], "the router says why")
    alone.write_register(b"[1, 2")
    until(lambda: "cannot be read" in alone.status()["store"], "the router says why")
    assert (alone.status()["epoch"], alone.status()["write"]) == (epoch, "a")
    alone.lead("b")
    assert alone.status()["store"] == ""


def test_one_client_too_many_is_told_so(tmp_path: Path) -> None:
    with world(tmp_path, [], COMMAND, max_sessions=2) as few, ExitStack() as stack:
        address = ("127.0.0.1", few.write_port)
        there = [stack.enter_context(socket.create_connection(address, 5)) for _ in range(2)]
        with pytest.raises(psycopg.OperationalError, match="the router has too many sessions"):
            few.connect()
        there[0].close()
        with pytest.raises(psycopg.OperationalError, match="no database could be reached"):
            few.connect()


def test_a_flood_of_connections_is_cut_off(tmp_path: Path) -> None:
    with world(tmp_path, [], COMMAND, max_sessions=2) as few, ExitStack() as stack:
        address = ("127.0.0.1", few.write_port)
        there = [stack.enter_context(socket.create_connection(address, 5)) for _ in range(2 + SURPLUS)]
        with socket.create_connection(address, 5) as surplus:
            assert surplus.recv(1) == b""
        until(lambda: few.status()["held"]["write"] == len(there), "the others stay")


def test_what_is_not_signed_is_not_believed(alone: World) -> None:
    alone.start()
    alone.epoch = 3
    alone.agents.key = b"another key that nobody else has"
    alone.open("a")
    until(lambda: len(alone.agents.hellos) > 10, "the router asks on")
    assert alone.status()["epoch"] == 0


def test_agents_are_asked_often_only_while_nobody_is_open(alone: World) -> None:
    alone.start()
    until(lambda: len(alone.agents.hellos) > 60, "the router asks")
    alone.lead("a")
    until(lambda: quiet_for(alone, 0.5), "nobody is asked for a while")
    before, began = len(alone.agents.hellos), time.monotonic()
    time.sleep(1.5)
    rounds = (time.monotonic() - began) * 1000 / ASK_OPEN_MS + 1
    assert len(alone.agents.hellos) - before <= rounds * len(MEMBERS)


def quiet_for(one: World, seconds: float) -> bool:
    before = len(one.agents.hellos)
    time.sleep(seconds)
    return len(one.agents.hellos) == before
