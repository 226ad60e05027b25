"""A real cluster on this machine: its processes, its state, clients that write, and what to do to it.

The processes are those of `twinstar up` (the supervisor's own code starts and ends them), the clients those of the
drill: they close their socket at a deadline, never cancel, and remember everything they were told.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import psycopg
import yaml

from tests.stopping import stop
from twinstar.api.client import Client
from twinstar.cli.ask import ask_status
from twinstar.cli.launch import Launched
from twinstar.cli.leftovers import leftovers
from twinstar.cli.local_cluster import LocalCluster
from twinstar.cli.local_files import LocalFiles
from twinstar.cli.make_cluster import Wishes, load_prepared, make_cluster
from twinstar.cli.namespaces import Network
from twinstar.config.derive import addresses, node, tls_of
from twinstar.config.local import data_home
from twinstar.config.strategies import belongs
from twinstar.config.tls import Purpose, ssl_context
from twinstar.drill.driver import Workload, make_table, present
from twinstar.drill.history import Attempt, audit, longest_gap
from twinstar.drill.session import boot_ms
from twinstar.drill.target import View
from twinstar.model.errors import EnvironmentTrouble, TwinstarError
from twinstar.ports import procfs
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork

AGENT, GUARD, DATABASE = "agent", "guard", "database"
NODE = (AGENT, GUARD, DATABASE)
AP = "active-passive"
QUICK = {"voter_removal_ms": 2_000, "start_grace_ms": 3_000}
"""Where a test would otherwise wait for ten seconds."""
PATIENCE_S = 80.0
"""For what takes a few seconds on a machine that does nothing else."""
_POLL_S = 0.05

Change = Callable[[dict[str, Any]], None]
Status = dict[str, Any]


class RealCluster:
    """One cluster in `folder`. `change` edits its configuration before the first start."""

    def __init__(
        self,
        folder: Path,
        wishes: Wishes | None = None,
        change: Change | None = None,
        network: Network | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.base = data_home(f"test-{token_hex(4)}")
        self.file = make_cluster(folder, wishes or Wishes(), base=self.base, network=network)
        self.files = LocalFiles(self.file)
        self.edit(change or (lambda _: None))
        self._life = contextlib.ExitStack()
        self._launched: Launched | None = None
        self._table = False

    def edit(self, change: Change) -> None:
        """Changes the configuration's file; who runs learns of it by `twinstar reload`."""
        raw = yaml.safe_load(self.file.read_text())
        quick = {key: value for key, value in QUICK.items() if belongs(f"timing.{key}", raw.get("strategy", AP))}
        raw["timing"] = {**quick, **(raw.get("timing") or {})}
        change(raw)
        self.file.write_text(yaml.safe_dump(raw, sort_keys=False))
        self.config = load_prepared(self.file)

    # -- its life ------------------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Starts the processes. Raises TwinstarError when the supervisor does."""
        self._launched = self._life.enter_context(Launched(self.file))
        self._launched.wait_for_start()

    def up(self) -> View:
        self.launch()
        return self.whole()

    def down(self) -> None:
        """Ends everything, and sees that nothing is left."""
        for directory in self.data.values():
            procfs.kill_pids((each.pid for each in procfs.of_directory(directory)), signal.SIGCONT)
        state = self.files.read_state()
        self._life.close()
        left = leftovers(state, self.config) if state else set()
        assert not left, f"processes {left} are left behind"

    def remove(self) -> None:
        try:
            self.down()
        finally:
            shutil.rmtree(self.base, ignore_errors=True)

    @property
    def here(self) -> LocalCluster:
        return LocalCluster(self.file)

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.config.nodes]

    @property
    def data(self) -> dict[str, Path]:
        return {each.name: each.directory / "data" for each in self.config.nodes}

    # -- single parts --------------------------------------------------------------------------------------------------

    def runs(self, name: str, *parts: str) -> list[str]:
        """The living processes of a node's parts; of ``router`` or ``store`` when that is the name."""
        state = self.here.state()
        programs = state.programs if state else ()
        wanted = {f"{name} {part}" for part in parts or NODE} | ({name} if not parts else set())
        found = [each.run for each in programs if each.name in wanted and each.alive]
        if name in self.data and DATABASE in (parts or NODE):
            found += [run for each in procfs.of_directory(self.data[name]) if (run := procfs.run_id(each.pid))]
        return found

    def signal(self, sent: signal.Signals, *runs: str) -> None:
        for run in runs:
            procfs.kill_run(run, sent)

    def stop(self, *runs: str) -> None:
        """They stand still when this returns, until SIGCONT."""
        stop(*(pid for run in runs if (pid := procfs.pid_of(run)) is not None))

    def kill(self, name: str, *parts: str) -> None:
        """SIGKILL, the agent first, so that nobody has the time to report anything; returns when all are gone."""
        while runs := self.runs(name, *parts):
            self.signal(signal.SIGKILL, *runs)
            time.sleep(0.005)

    def power_loss(self) -> None:
        """Every process of the cluster dies at one moment, router and store included."""
        everything = [run for name in (*self.names, "router", "store") for run in self.runs(name)]
        self.signal(signal.SIGKILL, *everything)
        for name in (*self.names, "router", "store"):
            self.kill(name)

    def start(self, *names: str) -> None:
        for name in names:
            self.here.start_again(name)

    @contextlib.contextmanager
    def frozen(self, *runs: str) -> Iterator[None]:
        """They stand still until the end."""
        self.stop(*runs)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT, *runs)

    def heal(self) -> View:
        """Lets everything go on, starts what is dead, and waits until it serves with all members."""
        for name in (*self.names, "router", "store"):
            self.signal(signal.SIGCONT, *self.runs(name))
        self.start("store", *self.names, "router")
        return self.whole()

    # -- its state -----------------------------------------------------------------------------------------------------

    def status(self, at: str | None = None) -> Status:
        """As the best informed agent sees it, or that of `at`. Raises TwinstarError when none answers."""
        if at is None:
            return ask_status(self.config)
        tls = tls_of(self.config, "client")
        client = Client(SystemNetwork(), SystemClock(), ssl_context(tls, Purpose.CALL_HTTP) if tls else None)
        return asyncio.run(client.status(addresses(node(self.config, at)).api))

    def until(
        self, condition: Callable[[Status], bool], what: str, patience_s: float = PATIENCE_S, at: str | None = None
    ) -> Status:
        """Waits for a state. Fails, with the last state, when it does not come."""
        deadline = time.monotonic() + patience_s
        last = "no agent has answered"
        while time.monotonic() < deadline:
            try:
                status = self.status(at)
                if condition(status):
                    return status
                last = describe(status)
            except TwinstarError as trouble:
                last = str(trouble)
            time.sleep(_POLL_S)
        raise AssertionError(f"not within {patience_s:.0f} s: {what}; the last state was\n{last}")

    def whole(self, patience_s: float = PATIENCE_S) -> View:
        """Waits until the leader is open and every standby streams, as said by the agents that run now."""
        state = self.here.state()

        def serves(status: Status) -> bool:
            known = {each["agent_pid"] for each in status["members"]}
            agents = [each for each in state.of_kind(AGENT) if each.alive and each.node in self.names] if state else []
            runs = {procfs.pid_of(each.run) for each in agents}
            return View.of(status).serving and status["store"]["reachable"] and known == runs

        return View.of(self.until(serves, "the cluster serves with all members", patience_s))

    def led_by(self, *names: str, patience_s: float = PATIENCE_S) -> Status:
        """Waits until one of these leads and is open."""
        return self.until(lambda s: s["open"] and s["leader"] in names, f"{' or '.join(names)} leads", patience_s)

    def log(self, program: str) -> Path:
        """Of `n1 agent`, `router`, `store` …"""
        return self.files.logs / f"{program.replace(' ', '-')}.log"

    def said(self, program: str, words: str, after: int = 0) -> bool:
        """Whether the program's log has these words behind byte `after`."""
        log = self.log(program)
        return log.exists() and words.encode() in log.read_bytes()[after:]

    def mark(self, program: str) -> int:
        """Where the program's log ends now."""
        return self.log(program).stat().st_size if self.log(program).exists() else 0

    def ask(self, name: str, statement: str) -> list[tuple[Any, ...]]:
        """A statement on a member's own socket, as the agent's role; as the user who runs the tests may."""
        own = node(self.config, name)
        socket = f"host={own.directory / 'run'} port={own.port} dbname=postgres user=twinstar_agent"
        with psycopg.connect(socket, autocommit=True) as session:
            cursor = session.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    # -- as a user -----------------------------------------------------------------------------------------------------

    def cli(self, *arguments: str, timeout: float = 90.0) -> subprocess.CompletedProcess[str]:
        """The command `twinstar` in the cluster's folder."""
        return subprocess.run(
            [sys.executable, "-m", "twinstar.cli.main", *arguments],
            cwd=self.folder,
            env={**os.environ, "COLUMNS": "250"},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def told(self, *arguments: str) -> Any:
        """A command's answer as JSON; it must succeed."""
        done = self.cli(*arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def writing(self, deadline_ms: float = 3_000, clients: int = 2) -> Iterator[Writers]:
        """Clients that write through the router. At the end they must be served, and nothing they were told of lost."""
        dsn = self.status()["endpoints"]["write"]
        if not self._table:
            make_table(dsn)
            self._table = True
        run = f"test-{token_hex(4)}"
        with Workload(dsn, run, clients, pause_ms=15, deadline_ms=deadline_ms) as workload:
            writers = Writers(workload)
            writers.progress("the clients begin")
            yield writers
            writers.progress("the clients are served in the end")
            writers.attempts = workload.stop()
        self.whole()
        found = audit(writers.attempts, present(dsn, run))
        assert found.sound, f"lost {found.lost}, nobody wrote {found.phantoms}"


class Writers:
    """Clients at work."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self.from_ms = boot_ms()
        self.attempts: list[Attempt] = []

    @property
    def acknowledged(self) -> int:
        return self._workload.counters.acknowledged

    def acknowledged_by_now(self) -> int:
        """As the clients say after it was called: what they said last may be long ago."""
        now_ms, deadline = boot_ms(), time.monotonic() + PATIENCE_S
        while (said := self._workload.counters).at_ms < now_ms:
            assert time.monotonic() < deadline, "the clients do not say what they were told"
            time.sleep(0.005)
        return said.acknowledged

    def progress(self, what: str, patience_s: float = PATIENCE_S, count: int = 10) -> None:
        """Waits until more writes have been acknowledged than had been when it was called."""
        before, deadline = self.acknowledged_by_now(), time.monotonic() + patience_s
        while self.acknowledged < before + count:
            assert time.monotonic() < deadline, f"no write is acknowledged within {patience_s:.0f} s: {what}"
            time.sleep(0.02)

    def stand_still(self, for_s: float) -> None:
        """Sees that no write is acknowledged for a while."""
        time.sleep(0.5)  # What had been confirmed is reported with a delay.
        before = self.acknowledged_by_now()
        time.sleep(for_s)
        assert self.acknowledged_by_now() == before, "a write was acknowledged although nobody can have confirmed it"

    def longest_gap_ms(self) -> float:
        """The longest time that one client went without an acknowledgement, once they have ended."""
        begin = min(each.ended_ms for each in self.attempts)
        return longest_gap(self.attempts, begin, max(each.ended_ms for each in self.attempts)).length_ms


def member(status: Status, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in status["members"] if each["name"] == name)
    return found


def engine_pids(status: Status) -> dict[str, int | None]:
    return {each["name"]: each["engine_pid"] for each in status["members"]}


def describe(status: Status) -> str:
    """A status for people who look for what went wrong."""
    lines = [
        f"epoch {status['epoch']} {status['phase']} leader {status['leader']} open {status['open']} "
        f"required {status['required']} of {status['copies']} store {status['store']} {status['waiting_for']}"
        f" waits for a restart: {status['restart_pending']}"
    ]
    lines += [
        f"  {each['name']} {each['role']} {each['state']} {each.get('position', '')} {each['note']}"
        for each in status["members"]
    ]
    return "\n".join(lines)


class Shared:
    """A cluster for many tests: healed before each one, made anew when that fails."""

    def __init__(
        self,
        folder: Path,
        wishes: Wishes | None = None,
        change: Change | None = None,
        network: Network | None = None,
    ) -> None:
        self._folder, self._wishes, self._change, self._network = folder, wishes, change, network
        self._number = itertools.count()
        self._cluster: RealCluster | None = None

    def get(self) -> RealCluster:
        if self._cluster is not None:
            try:
                self._cluster.heal()
            except (AssertionError, EnvironmentTrouble):
                self.close()
        if self._cluster is None:
            folder = self._folder / str(next(self._number))
            self._cluster = RealCluster(folder, self._wishes, self._change, self._network)
            self._cluster.up()
        return self._cluster

    def close(self) -> None:
        if self._cluster is not None:
            cluster, self._cluster = self._cluster, None
            cluster.remove()
