"""A long time without a fault: nobody may be replaced, however busy the machine is.

`make soak` runs it; `TWINSTAR_SOAK_MINUTES` says for how long (default 10). The same configuration as in the drills
(preset `fast`, default priorities, nothing niced), while on every core a burner spins, a writer calls fsync without
pause, and pgbench works through the router.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.cluster.real import RealCluster
from twinstar.config.derive import addresses

MINUTES = float(os.environ.get("TWINSTAR_SOAK_MINUTES", "10"))

_BURN = "while True: pass"
_FSYNC = """
import os, sys
with open(sys.argv[1], "wb") as file:
    while True:
        file.seek(0)
        file.write(os.urandom(65536))
        file.flush()
        os.fsync(file.fileno())
"""


@contextmanager
def busy(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that works until the block ends."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program:
        try:
            yield program
        finally:
            program.kill()


def pgbench_of(cluster: RealCluster) -> str:
    """pgbench of the PostgreSQL that the cluster runs."""
    leader = next(each for each in cluster.status()["members"] if each["role"] == "leader")
    return str(Path(f"/proc/{leader['engine_pid']}/exe").resolve().with_name("pgbench"))


def longest_late_ms(cluster: RealCluster) -> dict[str, float]:
    """How late each agent's loop woke at worst, by its own metrics."""
    found = {}
    for node in cluster.config.nodes:
        with urllib.request.urlopen(f"http://{addresses(node).api}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        value = next(line.rsplit(" ", 1)[1] for line in lines if line.startswith("twinstar_loop_lag_seconds{"))
        found[node.name] = round(float(value) * 1000, 1)
    return found


@pytest.mark.soak
@pytest.mark.timeout(MINUTES * 60 + 600)
def test_nobody_is_replaced_on_a_busy_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = RealCluster(tmp_path / "calm")
    cores = len(os.sched_getaffinity(0))
    with ExitStack() as ending:
        ending.callback(cluster.remove)
        cluster.up()
        before = cluster.status()
        pgbench, dsn = pgbench_of(cluster), before["endpoints"]["write"]
        subprocess.run([pgbench, "--initialize", "--quiet", "--scale", "5", dsn], check=True, capture_output=True)
        writers = ending.enter_context(cluster.writing(deadline_ms=30_000))
        for core in range(cores):
            ending.enter_context(busy(sys.executable, "-c", _BURN))
            ending.enter_context(busy(sys.executable, "-c", _FSYNC, str(tmp_path / f"fsync{core}")))
        bench = [pgbench, "--client", "8", "--jobs", "2", "--time", str(int(MINUTES * 60) + 60), dsn]
        load = ending.enter_context(busy(*bench))
        deadline = time.monotonic() + MINUTES * 60
        while time.monotonic() < deadline:
            time.sleep(1)
            assert load.poll() is None, "pgbench has ended: a session was broken off"
            now = cluster.status()
            assert (now["epoch"], now["leader"]) == (before["epoch"], before["leader"])
        late = longest_late_ms(cluster)
        with capsys.disabled():
            text = f"{MINUTES:g} minutes, {writers.acknowledged} writes; loops woke late by at most {late} ms"
            sys.stdout.write(f"\n{text}\n")
