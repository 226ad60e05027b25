"""Between the agents and their store: a proxy for each agent, which can be slow or silent for that one alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.cluster.real import AGENT, PATIENCE_S, RealCluster, Writers
from tests.store.proxy import Proxy

Redirect = Callable[[str], None]
"""Has the configuration name another URL as the store's."""


class Between:
    """Each agent's way to the store, by its name."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.proxies: dict[str, Proxy] = {}

    def add(self, name: str, target: str) -> str:
        """The URL that agent is to be given."""
        self.proxies[name] = proxy = Proxy(target)
        self._now(proxy.__aenter__())
        return proxy.url

    def tell(self, change: Callable[[Proxy], None], *names: str) -> None:
        for name in names or self.proxies:
            self._loop.call_soon_threadsafe(change, self.proxies[name])

    def __enter__(self) -> Between:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for proxy in self.proxies.values():
            self._now(proxy.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _now(self, work: Any) -> None:
        future: Future[object] = asyncio.run_coroutine_threadsafe(work, self._loop)
        future.result(PATIENCE_S)


@contextmanager
def interposed(cluster: RealCluster, target: str, redirect: Redirect) -> Iterator[Between]:
    """An agent reads its configuration when it starts, so each is started with another one in turn."""
    good = cluster.file.read_text()

    def as_it_was() -> None:
        cluster.file.write_text(good)
        cluster.edit(lambda _: None)

    with ExitStack() as stack:
        stack.callback(_restart, cluster)
        stack.callback(as_it_was)
        between = stack.enter_context(Between())
        for name in cluster.names:
            redirect(between.add(name, target))
            _restart(cluster, name)
        as_it_was()
        yield between


def _restart(cluster: RealCluster, *names: str) -> None:
    for name in names or cluster.names:
        cluster.kill(name, AGENT)
        cluster.start(name)
    for name in names or cluster.names:
        cluster.until(lambda s: s["store"]["reachable"], f"{name} reaches the store", PATIENCE_S, at=name)


def slow_for_all_and_gone_for_one(cluster: RealCluster, between: Between, writers: Writers) -> None:
    """Neither is a reason to do anything, and each agent says what it sees."""
    before = cluster.whole()
    between.tell(Proxy.be_slow)
    for name in cluster.names:
        cluster.until(lambda s: not s["store"]["reachable"], f"{name} says that answers are late", PATIENCE_S, at=name)
    writers.progress("while each answer takes two seconds", count=100)
    between.tell(Proxy.be_quick)
    for name in cluster.names:
        cluster.until(lambda s: s["store"]["reachable"], f"{name} sees that they are not any more", PATIENCE_S, at=name)
    alone, *others = before.leader, *(each.name for each in before.standbys)
    between.tell(Proxy.hold_back, alone)
    cluster.until(lambda s: not s["store"]["reachable"], f"{alone} alone lacks the store", PATIENCE_S, at=alone)
    writers.progress("while the leader's endpoint is dead", count=100)
    for name in others:
        status = cluster.until(lambda s: s["store"]["reachable"], f"{name} reaches the store", at=name)
        assert (status["leader"], status["open"]) == (alone, True)
    between.tell(Proxy.let_through, alone)
    between.tell(Proxy.break_connections, alone)
    cluster.until(lambda s: s["store"]["reachable"], f"{alone} reaches it again", PATIENCE_S, at=alone)
    after = cluster.whole()
    assert (after.leader, after.epoch) == (before.leader, before.epoch)
