"""The process that a local cluster hangs on: ``python -m twinstar.cli.supervisor CONFIG``. No typer, no rich.

It starts the store, each node's guard and agent, and the router; takes note of who ends; and ends everything when it is
told to: by ``stop`` over its control socket, by SIGINT or SIGTERM, or because its standard input ends: the `up`
that started it has gone (Ctrl-C, a crash, a kill). Only after ``detach`` does it live on alone; after ``hurry`` it will
kill at the end instead of stopping in order. It restarts nothing by itself: what a drill or somebody killed stays dead
until ``start NODE``.

It is the subreaper of all it starts, so at its own end it can wait until there is no child left: nothing outlives it.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from twinstar.cli.children import Children
from twinstar.cli.databases import kill_processes_of, stop_databases
from twinstar.cli.leftovers import leftovers
from twinstar.cli.listening import refuse_taken_ports
from twinstar.cli.local_files import MARK, LocalFiles, Running, State, short_path
from twinstar.cli.managed_store import is_whole, store_folders
from twinstar.cli.own_kubernetes import OwnKubernetes
from twinstar.cli.programs import Program, keeper_programs, node_programs, router_programs, store_programs
from twinstar.config.load import load
from twinstar.config.managed import places
from twinstar.config.schema import Config
from twinstar.model.errors import EnvironmentTrouble, TwinstarError, UsageError
from twinstar.ports import procfs

_AGENTS_S = 3.0
_OTHERS_S = 2.0
_STORE_START_S = 10.0
_STORE_WHOLE_S = 90.0
_STORE_LOOK_S = 0.25
_TICK_S = 0.01
_NODE_KINDS = {"agent", "guard"}
_OTHER_KINDS = {"router", "store"}


class Supervisor:
    """One local cluster's life."""

    def __init__(self, config: Config, files: LocalFiles) -> None:
        self._config = config
        self._files = files
        self._mark = secrets.token_hex(8)
        self._own_run = procfs.run_id(os.getpid()) or ""
        self._lock: TextIO | None = None
        self._stop = asyncio.Event()
        self._hurry = False
        self._detached = False
        self._children = Children(files.logs, self._environment(), self._changed)

    def _environment(self) -> dict[str, str]:
        environment = {**os.environ, MARK: self._mark, "PYTHONUNBUFFERED": "1"}
        if path := environment.get("PYTHONPATH"):
            environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(part) for part in path.split(os.pathsep))  # noqa: PTH100
        return environment

    async def run(self) -> None:
        """Until it is told to stop. Raises TwinstarError when the cluster cannot be started."""
        self._files.logs.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        procfs.become_subreaper()
        self._listen_to_signals()
        server = await self._serve_control()
        input_ended = asyncio.ensure_future(self._watch_input())
        try:
            await self._start_all()
            _say({"event": "started"})
            await self._stop.wait()
        finally:
            await self._end_all()
            input_ended.cancel()
            server.close()
            for path in (self._files.control, self._files.state):
                path.unlink(missing_ok=True)

    # -- starting --------------------------------------------------------------------------------------------------

    def _take_lock(self) -> None:
        """Raises UsageError when another supervisor runs, EnvironmentTrouble when one has left processes behind."""
        self._lock = self._files.lock.open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"The cluster of {self._files.config} is up already: look at it with `twinstar status`, "
                "or stop it with `twinstar down`."
            ) from None
        state = self._files.read_state()
        if state is not None and leftovers(state, self._config):
            raise EnvironmentTrouble(
                "An earlier run of this cluster has left processes behind: run `twinstar down`, then `up` again."
            )

    async def _start_all(self) -> None:
        refuse_taken_ports(self._config)
        for program in store_programs(self._config, self._files):
            self._children.start(program)
        await self._store_answers()
        await self._kubernetes_answers()
        for name in self._machines():
            for program in node_programs(self._config, self._files, name):
                self._children.start(program)
        for program in router_programs(self._config, self._files):
            self._children.start(program)
        await self._store_is_whole()

    async def _store_is_whole(self) -> None:
        """One that grows serves already, and is less safe than it will be: nobody is to take it for started."""
        waited_s = 0.0
        while places(self._config) and not self._stop.is_set() and not await asyncio.to_thread(is_whole, self._config):
            if waited_s > _STORE_WHOLE_S:
                raise EnvironmentTrouble(f"The store does not become whole: see {self._files.logs}/*-store.log.")
            await asyncio.sleep(_STORE_LOOK_S)
            waited_s += _STORE_LOOK_S

    async def _store_answers(self) -> None:
        """Agents would wait for their store as well; a store that cannot start is better said at once."""
        store = self._config.store.embedded
        waited_s = 0.0
        while store is not None and not _connects(store.socket):
            if not self._children.alive({"store"}) or waited_s > _STORE_START_S:
                raise EnvironmentTrouble(f"The store does not start: see {self._files.logs / 'store.log'}.")
            if self._stop.is_set():
                return
            await asyncio.sleep(_TICK_S)
            waited_s += _TICK_S

    async def _kubernetes_answers(self) -> None:
        """A server of this cluster's own, with all that it must know of Twinstar."""
        waited_s = 0.0
        own = OwnKubernetes(self._files.kubernetes)
        while own.folder.is_dir() and not self._stop.is_set() and not await asyncio.to_thread(own.prepare):
            if not self._children.alive({"store"}) or waited_s > _STORE_WHOLE_S:
                raise EnvironmentTrouble(f"The API server does not start: see {self._files.logs}/kube-*.log.")
            await asyncio.sleep(_STORE_LOOK_S)
            waited_s += _STORE_LOOK_S

    def start_again(self, name: str) -> list[str]:
        """Starts what is not running of a node, or of ``router`` or ``store``. Raises UsageError."""
        programs = self._programs_of(name)
        if not programs:
            names = ", ".join([*self._machines(), "router", "store"])
            raise UsageError(f"There is no node {name!r} here: choose one of {names}.")
        stopped = [program for program in programs if not self._children.running(program.name)]
        for program in stopped:
            self._children.start(program)
        return [program.name for program in stopped]

    def _programs_of(self, name: str) -> list[Program]:
        if name == "store":
            return store_programs(self._config, self._files)
        if name == "router":
            return router_programs(self._config, self._files)
        if name in self._machines():
            keeper = keeper_programs(self._config, self._files, name)
            return [*keeper, *node_programs(self._config, self._files, name)]
        return []

    def _machines(self) -> list[str]:
        """Nodes and witnesses."""
        return [node.name for node in self._config.nodes] + [witness.name for witness in self._config.witnesses]

    # -- being told ------------------------------------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._children.reap)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._ask_to_stop)

    def _ask_to_stop(self) -> None:
        """The second time means: never mind the order."""
        self._hurry = self._hurry or self._stop.is_set()
        self._stop.set()

    async def _watch_input(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            self._detached = self._detached or line.strip() == b"detach"
            self._hurry = self._hurry or line.strip() == b"hurry"
        if not self._detached:
            self._stop.set()

    async def _serve_control(self) -> asyncio.Server:
        self._files.control.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        with short_path(self._files.control) as path:
            listener.bind(path)
        self._files.control.chmod(0o600)
        return await asyncio.start_unix_server(self._answer, sock=listener)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = self._do(json.loads(await reader.readline()))
        except TwinstarError as trouble:
            answer = {"error": str(trouble)}
        except (ValueError, KeyError, TypeError):
            answer = {"error": "The supervisor does not understand the request: use the same version everywhere."}
        try:
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except OSError:
            pass  # Whoever asked has gone.
        finally:
            writer.close()

    def _do(self, request: dict[str, str]) -> dict[str, Any]:
        if request["do"] == "stop":
            self._ask_to_stop()
            return {"stopping": True}
        if request["do"] == "start":
            return {"started": self.start_again(request["name"])}
        raise KeyError(request["do"])

    def _changed(self, program: Running) -> None:
        self._files.write_state(
            State(self._config.cluster, self._mark, self._own_run, self._children.programs),
        )
        if program.status is not None and not self._stop.is_set():
            again = program.node or program.kind
            _say({"event": "ended", "name": program.name, "status": program.status, "log": program.log, "again": again})

    # -- ending ----------------------------------------------------------------------------------------------------

    async def _end_all(self) -> None:
        """Agents and guards, databases, then the rest; and at last whatever is a child of this process."""
        self._stop.set()
        data = [node.directory / "data" for node in self._config.nodes]
        self._continue_stopped(data)
        await self._end(_NODE_KINDS, _AGENTS_S)
        await self._in_thread(lambda: stop_databases(data, lambda: self._hurry))
        await self._end(_OTHER_KINDS, _OTHERS_S)
        await self._kill_the_rest()
        shutil.rmtree(self._files.settings, ignore_errors=True)

    def _continue_stopped(self, data: list[Path]) -> None:
        """A process under SIGSTOP would not hear that it is to end."""
        standing = (*data, *store_folders(self._config))
        pids = [process.pid for directory in standing for process in procfs.of_directory(directory)]
        pids += [pid for program in self._children.programs if (pid := procfs.pid_of(program.run)) and program.alive]
        procfs.kill_pids(pids, signal.SIGCONT)

    async def _end(self, kinds: set[str], patience_s: float) -> None:
        self._children.signal(kinds, signal.SIGTERM)
        waited_s = 0.0
        while self._children.alive(kinds) and waited_s < patience_s and not self._hurry:
            await asyncio.sleep(_TICK_S)
            waited_s += _TICK_S
        self._children.signal(kinds, signal.SIGKILL)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(None, work)

    async def _kill_the_rest(self) -> None:
        while children := procfs.children_of(os.getpid()):
            procfs.kill_pids(child.pid for child in children)
            await asyncio.sleep(_TICK_S)
            self._children.reap()
        for directory in (*(node.directory / "data" for node in self._config.nodes), *store_folders(self._config)):
            kill_processes_of(directory)


def _connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            with short_path(path) as short:
                probe.connect(short)
        except OSError:
            return False
    return True


def _say(event: dict[str, Any]) -> None:
    """Tells `up`, if it is still there."""
    try:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def main() -> int:
    files = LocalFiles(Path(sys.argv[1]).absolute())
    try:
        config = load(files.config)
        asyncio.run(Supervisor(config, files).run())
    except TwinstarError as trouble:
        _say({"event": "failed", "message": str(trouble), "usage": isinstance(trouble, UsageError)})
        return 2 if isinstance(trouble, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
