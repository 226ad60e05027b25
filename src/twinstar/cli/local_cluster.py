"""A cluster that `up` runs on this machine: asked, told, and offered to the drill."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from twinstar.api.all_nodes import add_table, everywhere
from twinstar.api.tables import Wish
from twinstar.cli.ask import ask_status, asker, command
from twinstar.cli.leftovers import end_leftovers
from twinstar.cli.local_files import LocalFiles, State, short_path
from twinstar.cli.managed_store import fill
from twinstar.cli.namespaces import Network
from twinstar.config.load import load
from twinstar.config.managed import places
from twinstar.config.tables import DEFAULT_SCHEMA
from twinstar.drill.target import View
from twinstar.model.errors import EnvironmentTrouble, UsageError
from twinstar.ports.procfs import is_running, of_directory, pid_of, run_id

_REQUEST_S = 10.0
_DOWN_S = 40.0
_TICK_S = 0.02


class LocalCluster:
    """By the absolute path of its configuration. Raises UsageError when that is no valid one."""

    def __init__(self, config: Path) -> None:
        self.files = LocalFiles(config)
        self.config = load(config)

    def state(self) -> State | None:
        """What its supervisor says, None when none runs."""
        state = self.files.read_state()
        return state if state and is_running(state.supervisor) else None

    def status(self) -> dict[str, Any]:
        """`status --json`. Raises EnvironmentTrouble when no agent answers."""
        return ask_status(self.config)

    def down(self) -> int | None:
        """Stops everything; None when nothing ran, else how many processes a dead supervisor had left behind.

        Raises EnvironmentTrouble when it does not end.
        """
        state = self.files.read_state()
        if state is None:
            return None
        if is_running(state.supervisor):
            self._request({"do": "stop"})
            self._await_end(state.supervisor)
        left = end_leftovers(state, self.config)
        self.files.state.unlink(missing_ok=True)
        self.files.control.unlink(missing_ok=True)
        return left

    def _await_end(self, supervisor: str) -> None:
        until = time.monotonic() + _DOWN_S
        while is_running(supervisor):
            if time.monotonic() > until:
                raise EnvironmentTrouble(
                    f"The supervisor (process {supervisor.partition(':')[0]}) does not end: "
                    f"see {self.files.folder / 'supervisor.log'}, kill it, and run `twinstar down` again."
                )
            time.sleep(_TICK_S)

    def start_again(self, name: str) -> list[str]:
        """Starts what is not running of a node (or ``router``, ``store``); returns what was. Raises TwinstarError."""
        started: list[str] = self._request({"do": "start", "name": name})["started"]
        return started

    def _request(self, request: dict[str, str]) -> dict[str, Any]:
        if self.state() is None:
            raise UsageError("This cluster is not up here: start it with `twinstar up`.")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_REQUEST_S)
            try:
                with short_path(self.files.control) as path:
                    connection.connect(path)
                connection.sendall(json.dumps(request).encode() + b"\n")
                answer = json.loads(connection.makefile().readline())
            except (OSError, ValueError) as trouble:
                raise EnvironmentTrouble(
                    f"The cluster's supervisor does not answer ({trouble}): run `twinstar down`, then `twinstar up`."
                ) from None
        if "error" in answer:
            raise UsageError(answer["error"])
        result: dict[str, Any] = answer
        return result

    # -- what a drill needs (twinstar.drill.target.Target) ---------------------------------------------------------

    def view(self) -> View:
        """Of pids that the agents do not know the supervisor's are taken: it started these processes."""
        status, state = self.status(), self.state()
        for member in status["members"]:
            for kind in ("agent", "guard"):
                program = state and state.program(f"{member['name']} {kind}")
                if program and member[f"{kind}_pid"] is None:
                    member[f"{kind}_pid"] = pid_of(program.run)
        return View.of(status)

    def data_directory(self, node: str) -> Path:
        return next(each.directory for each in self.config.nodes if each.name == node) / "data"

    def store_runs(self, node: str | None = None) -> tuple[str, ...]:
        state = self.state()
        programs = state.of_kind("store") if state else []
        runs = [each.run for each in programs if each.alive and node in (None, each.node)]
        folders = [place.directory for place in places(self.config) if node in (None, place.name)]
        members = [process.pid for folder in folders for process in of_directory(folder)]
        return (*runs, *(run for pid in members if (run := run_id(pid))))

    def witness(self) -> tuple[str, tuple[str, ...]]:
        if not self.config.witnesses:
            raise UsageError("This cluster has no witness: drill `kill-witness` on one with --witnesses 1.")
        name, state = self.config.witnesses[0].name, self.state()
        programs = [each.run for each in state.programs if each.node == name and each.alive] if state else []
        return name, tuple(dict.fromkeys([*programs, *self.store_runs(name)]))

    def fill_store(self) -> float:
        return fill(self.config)

    def start(self, node: str) -> None:
        self.start_again(node)

    def network(self) -> Network:
        """Of this cluster's own. Raises UsageError when the nodes share the machine's."""
        network = Network.read(self.files.network)
        if network is None:
            raise UsageError(
                "The nodes of this cluster share one network, so none of them can be cut off: run `twinstar drill "
                "partition --throw-away`, as root, for a cluster whose nodes have a network namespace each."
            )
        return network

    def cut_off(self, node: str) -> None:
        self.network().cut(self.network().apart(node))

    def join(self, node: str) -> None:
        self.network().join(self.network().apart(node))

    def beside(self, node: str) -> AbstractContextManager[None]:
        return self.network().inside(node)

    def take_in(self, table: str, counters: tuple[str, ...] = ()) -> None:
        wish = Wish(DEFAULT_SCHEMA, table, counters)
        checked = asyncio.run(add_table(self._members(), asker(self.config), wish))
        if not checked.free:
            sentences = [each for found in checked.obstacles.values() for each in found]
            raise EnvironmentTrouble(" ".join(dict.fromkeys(sentences)))

    def leave_out(self, table: str) -> None:
        fields = {"schema": DEFAULT_SCHEMA, "table": table}
        asyncio.run(everywhere(self._members(), asker(self.config), "tables/remove", fields))

    def _members(self) -> list[str]:
        members: list[str] = self.status()["copies"]
        return members

    def switchover(self) -> None:
        self._command("switchover", to=None)

    def leave(self, node: str) -> None:
        self._command("leave", at=node, member=node)

    def rejoin(self, node: str) -> None:
        self._command("rejoin", at=node, member=node)

    def _command(self, name: str, *, at: str | None = None, **fields: Any) -> None:
        outcome = command(self.config, name, at=at, **fields)
        if not outcome.ok:
            raise EnvironmentTrouble(outcome.message)
