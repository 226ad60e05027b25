"""A cluster whose nodes, etcd members, router and clients have a network namespace each, and what is done to it.

The clients write through the router from a namespace of their own, and straight to each node from within that node's:
a client beside a leader that is cut off is the one to whom it might acknowledge what it must not. The tests look on
from a namespace that is never cut.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

from tests.cluster.real import RealCluster, Shared, Writers
from tests.partitions.clients import Tellers, make_tables
from tests.partitions.evidence import make_witnessed_table, objections, rows_of
from twinstar.cli.ask import ask_history
from twinstar.cli.make_cluster import Wishes, hosts_of
from twinstar.cli.namespaces import Network, network
from twinstar.cli.programs import ETCD
from twinstar.cli.show_history import completed
from twinstar.config.derive import lease_times, timings
from twinstar.drill.driver import Workload
from twinstar.drill.history import Attempt, longest_gap
from twinstar.drill.target import View
from twinstar.histories.verdict import Accepted
from twinstar.model.register import Durability

CLIENTS, WATCH, ROUTER = "clients", "watch", "router"
PRESET = "balanced"
"""A busy machine that does not schedule a guard for 300 ms must not decide what a test shows."""


def _patience(raw: dict[str, Any]) -> None:
    raw["timing"]["voter_removal_ms"] = 5_000


class Lab:
    """`get` gives the cluster whole, made when there is none."""

    def __init__(self, folder: Path, net: Network, wishes: Wishes) -> None:
        self.net = net
        self._shared = Shared(folder, wishes, _patience, net)
        self._table: RealCluster | None = None

    @classmethod
    @contextlib.contextmanager
    def of(cls, folder: Path, wishes: Wishes) -> Iterator[Lab]:
        """Raises EnvironmentTrouble where there are no namespaces."""
        with network([*hosts_of(wishes), CLIENTS, WATCH]) as net:
            lab = cls(folder, net, wishes)
            try:
                yield lab
            finally:
                with net.inside(WATCH):
                    net.join()
                    lab._shared.close()

    @contextlib.contextmanager
    def whole(self) -> Iterator[Lab]:
        """For one test: the cluster, healed; this thread looks on from where nothing is cut."""
        with self.net.inside(WATCH):
            self.net.join()
            self.cluster = self._shared.get()
            if self._table is not self.cluster:
                make_witnessed_table(self.cluster.whole().write)
                make_tables(self.cluster.whole().write)
                self._table = self.cluster
            yield self

    # -- whom it concerns ----------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[str]:
        return self.cluster.names

    def others(self, name: str) -> list[str]:
        return [each for each in self.nodes if each != name]

    @property
    def bound_ms(self) -> float:
        """Within which a silent leader is replaced: silence (or its lease), an election, and a second one when that one
        is not decided."""
        config = self.cluster.config
        times = timings(config)
        leased = config.durability is Durability.ASYNC
        noticed_ms = lease_times(config).take_over_ms if leased else times.suspicion_ms
        return noticed_ms + 2 * times.election_timeout_ms

    def pause(self, suspicions: float) -> None:
        """Lets time pass in which nothing is expected to happen."""
        time.sleep(suspicions * timings(self.cluster.config).suspicion_ms / 1000)

    def leaders_since(self, before: View) -> list[str]:
        """Who was named since then, in order; a leader that took its own leadership again does not count."""
        entries = completed(ask_history(self.cluster.config))
        return [
            str(entry["leader"])
            for entry in entries
            if entry["epoch"] > before.epoch and entry["leader"] != entry["from"]
        ]

    # -- cuts ----------------------------------------------------------------------------------------------------------

    def cut(self, *groups: tuple[list[str], list[str]]) -> None:
        """Both directions between each two groups."""
        self.net.cut(pair for some, others in groups for pair in self.net.between(some, others))

    def deafen(self, name: str) -> None:
        """Nobody's packets reach it; its own reach everybody."""
        self.net.cut((other, name) for other in self.net.hosts if other != name)

    def mute(self, name: str) -> None:
        """Its packets reach nobody; everybody's reach it."""
        self.net.cut((name, other) for other in self.net.hosts if other != name)

    # -- clients -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def clients(self) -> Iterator[Clients]:
        """At the end everything is joined again; then what they were told must be true."""
        before = self.cluster.whole()
        places = {ROUTER: (CLIENTS, before.write)} | {each.name: (each.name, each.dsn) for each in before.members}
        with contextlib.ExitStack() as stack:
            workloads = {}
            for name, (place, dsn) in places.items():
                with self.net.inside(place):
                    workload = Workload(dsn, f"{name}-{token_hex(4)}", 1, pause_ms=15, deadline_ms=3_000, retry_ms=100)
                    workloads[name] = stack.enter_context(workload)
            with self.net.inside(CLIENTS):
                tellers = stack.enter_context(Tellers(before.write, token_hex(4)))
            clients = Clients(workloads)
            clients.served("the clients begin")
            clients.served("a client beside the leader begins", before.leader)
            yield clients
            self.net.join()
            clients.served("the clients are served in the end")
            tellers.served(1)
            clients.told = {name: workload.stop() for name, workload in workloads.items()}
        after = self.cluster.whole()
        rows = rows_of(after.write, [clients.run(name) for name in places])
        told = {clients.run(name): attempts for name, attempts in clients.told.items()}
        may_lose = self.cluster.config.durability is Durability.ASYNC
        found = objections(told, rows, may_lose=may_lose)
        assert not found, "\n".join(found[:20])
        if not may_lose:
            for verdict in tellers.verdicts(after.write):
                assert isinstance(verdict, Accepted), str(verdict)


class Clients:
    """Clients at work: through the router, and beside each node."""

    def __init__(self, workloads: dict[str, Workload]) -> None:
        self._workloads = workloads
        self.told: dict[str, list[Attempt]] = {}

    def run(self, name: str) -> str:
        return self._workloads[name].run

    def served(self, what: str, name: str = ROUTER, patience_s: float = 30.0) -> None:
        """Waits until more writes are acknowledged, through the router or beside a node."""
        Writers(self._workloads[name]).progress(what, patience_s)

    def outage_ms(self) -> float:
        """The longest time that the router's client went without an acknowledgement, once all have ended."""
        attempts = self.told[ROUTER]
        begin, end = min(each.ended_ms for each in attempts), max(each.ended_ms for each in attempts)
        return longest_gap(attempts, begin, end).length_ms


STORE = list(ETCD)
