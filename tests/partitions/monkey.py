"""Kills processes of a cluster at random moments, as a seed decides: every kind of every node before any for the second
time, so that a short run has seen them all. What has been killed is started again a moment later, as systemd would.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from tests.cluster.real import AGENT, GUARD, RealCluster
from twinstar.cli.databases import postmaster_of
from twinstar.cli.programs import ETCD
from twinstar.ports import procfs

POSTMASTER, BACKEND = "postmaster", "backend"
_NODE_PARTS = (AGENT, GUARD, POSTMASTER, BACKEND)
Victim = tuple[str, str]
"""(node or ``router`` or ``store``, part or program)."""


class Monkey:
    """`strikes` says whom it has killed."""

    def __init__(self, cluster: RealCluster, seed: int) -> None:
        self._cluster = cluster
        self._chance = random.Random(seed)
        self.strikes: list[Victim] = []

    def rage(self, seconds: float) -> None:
        deck = self._deck()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            victim = next(deck)
            if run := self._run_of(victim):
                procfs.kill_run(run)
                self.strikes.append(victim)
            time.sleep(self._chance.uniform(0.05, 1.5))
            self._cluster.start(victim[0])
            time.sleep(self._chance.uniform(0, 1.5))

    def _deck(self) -> Iterator[Victim]:
        every = [(node, part) for node in self._cluster.names for part in _NODE_PARTS]
        every += [("router", "router"), *(("store", member) for member in ETCD)]
        while True:
            self._chance.shuffle(every)
            yield from every

    def _run_of(self, victim: Victim) -> str | None:
        """None when it does not run just now."""
        name, part = victim
        if part == POSTMASTER:
            return postmaster_of(self._cluster.data[name])
        if part == BACKEND:
            return self._some_backend(name)
        state = self._cluster.here.state()
        program = state.program(f"{name} {part}" if name in self._cluster.names else part) if state else None
        return program.run if program and program.alive else None

    def _some_backend(self, node: str) -> str | None:
        """Any process of the database but its main one: sessions, senders, the checkpointer …"""
        main = postmaster_of(self._cluster.data[node])
        runs = [procfs.run_id(each.pid) for each in procfs.of_directory(self._cluster.data[node])]
        return self._chance.choice([run for run in runs if run and run != main] or [None])
