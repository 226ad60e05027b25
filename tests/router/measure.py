"""What the built-in router costs, beside the same without it: `python -m tests.router.measure` prints medians.

Not a test: the figures are for people, on a machine whose other work they know.
"""

from __future__ import annotations

import os
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.engine.postgresql.lab import installed, until
from tests.router.servers import PASSWORD, USER, Database, connect, databases
from tests.router.world import World, world

COPY_MB = 200
REPEAT = 5


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def copy_in(port: int) -> float:
    rows = b"1\t" + b"x" * 97 + b"\n"
    chunk = rows * 10_000
    with connect(port) as session:
        session.execute("create unlogged table if not exists bulk (i int, t text)")
        session.execute("truncate bulk")

        def work() -> None:
            with session.cursor().copy("copy bulk from stdin") as copy:
                for _ in range(COPY_MB):
                    copy.write(chunk)

        return COPY_MB / seconds(work)


def copy_out(port: int) -> float:
    with connect(port) as session:

        def work() -> None:
            with session.cursor().copy("copy bulk to stdout") as copy:
                for _ in copy:
                    continue

        return COPY_MB / seconds(work)


def pgbench(database: Database, clients: int, options: tuple[str, ...], port: int) -> float:
    """Mean latency in milliseconds of 3 s."""
    done = subprocess.run(
        [database.bin / "pgbench", "-n", "-f", "-", *options, "-c", str(clients), "-T", "3", "-h", "127.0.0.1",
         "-p", str(port), "-U", USER, "postgres"],
        input="select 1;", capture_output=True, text=True, check=True, env={**os.environ, "PGPASSWORD": PASSWORD},
    )  # fmt: skip
    found = re.search(r"latency average = ([\d.]+) ms", done.stdout)
    assert found
    return float(found[1])


def beside(name: str, unit: str, direct: Callable[[], float], routed: Callable[[], float]) -> None:
    """In turns, so that both see the same machine."""
    pairs = [(direct(), routed()) for _ in range(REPEAT)]
    one, two = (statistics.median(column) for column in zip(*pairs, strict=True))
    say(f"{name:<38} direct {one:9.3f} {unit:<5} routed {two:9.3f} {unit:<5} difference {two - one:+.3f}")


def idle_sessions(one: World, count: int) -> None:
    before = one.resident_kb()
    with ExitStack() as stack:
        sessions = [stack.enter_context(one.connect()) for _ in range(count)]
        after = one.resident_kb()
        say(f"{count} idle sessions: {before} kB -> {after} kB, {(after - before) / count:.1f} kB each")
        waiting = select.poll()
        for session in sessions:
            waiting.register(session.fileno(), select.POLLIN)
        began = time.perf_counter()
        one.elect(told=False)
        for session in sessions:
            waiting.poll(10_000)
            waiting.unregister(session.fileno())
        say(f"the last of them has ended {(time.perf_counter() - began) * 1000:.1f} ms after the notice")


def released(one: World) -> float:
    """Milliseconds from "epoch e is open" to a held client's first answer."""
    one.elect()
    one.name("a")

    def first_answer() -> float:
        with one.connect() as session:
            session.execute("select 1")
            return time.perf_counter()

    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(first_answer)
        until(lambda: one.status()["held"]["write"] == 1, "the client is held")
        began = time.perf_counter()
        one.open("a")
        return (held.result() - began) * 1000


def compare(one: World, database: Database) -> None:
    direct, routed = database.port, one.write_port
    for name, clients, options in (("1 client", 1, ()), ("8 clients", 8, ()), ("a connection each", 1, ("-C",))):
        bench = partial(pgbench, database, clients, options)
        beside(f"select 1, {name}", "ms", partial(bench, direct), partial(bench, routed))
    beside(f"COPY in, {COPY_MB} MB", "MB/s", partial(copy_in, direct), partial(copy_in, routed))
    beside(f"COPY out, {COPY_MB} MB", "MB/s", partial(copy_out, direct), partial(copy_out, routed))


def main() -> None:
    command = [sys.executable, "-m", "twinstar.router", "--config"]
    with (
        databases(next(iter(installed())), "a") as made,
        tempfile.TemporaryDirectory() as folder,
        world(Path(folder), made, command) as one,
    ):
        one.lead("a")
        idle_sessions(one, 500)
        say(f"a held client's first answer: {statistics.median(released(one) for _ in range(9)):.1f} ms after opening")
        compare(one, made[0])


if __name__ == "__main__":
    main()
