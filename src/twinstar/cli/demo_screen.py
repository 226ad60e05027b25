"""What the demo shows while it runs: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from twinstar.cli.local_cluster import LocalCluster
from twinstar.drill.driver import Counters, Workload
from twinstar.drill.target import View
from twinstar.model.errors import TwinstarError

_SAMPLE_S = 0.2
_SAMPLES = 60
_RATE_SAMPLES = 5
_BLOCKS = " ▁▂▃▄▅▆▇█"
_LINE_S = 2.0


class Screen(Protocol):
    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def say(self, sentence: str) -> None:
        """What happens now."""
        ...

    def detail(self, text: str) -> None:
        """Progress of it."""
        ...

    def watching(self, cluster: LocalCluster, clients: Workload) -> contextlib.AbstractContextManager[None]:
        """Shows this cluster and these clients from now on."""
        ...


class Sampler:
    """Looks at cluster and clients five times a second, in a thread of its own."""

    def __init__(self, cluster: LocalCluster, clients: Workload) -> None:
        self._cluster, self._clients = cluster, clients
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._look, self._count)]
        self.view: View | None = None
        self.per_sample: deque[int] = deque([0] * _SAMPLES, maxlen=_SAMPLES)
        self.counters = Counters()

    @property
    def writes_per_s(self) -> float:
        recent = list(self.per_sample)[-_RATE_SAMPLES:]
        return sum(recent) / (len(recent) * _SAMPLE_S)

    def _look(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            with contextlib.suppress(TwinstarError):
                self.view = self._cluster.view()

    def _count(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            now = self._clients.counters
            self.per_sample.append(now.acknowledged - self.counters.acknowledged)
            self.counters = now

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()


def sparkline(values: list[int]) -> str:
    """One character for each value; an empty one means none at all."""
    peak = max([*values, 1])
    return "".join(_BLOCKS[0 if not value else 1 + round(7 * value / peak)] for value in values)


class LiveScreen:
    """For a terminal."""

    def __init__(self, console: Console) -> None:
        self._sentence, self._detail = "", ""
        self._sampler: Sampler | None = None
        self._spinner = Spinner("dots")
        self._live = Live(console=console, refresh_per_second=8, transient=True, get_renderable=self._rendered)
        self._console = console

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._live.__exit__(kind, value, at)

    def say(self, sentence: str) -> None:
        self._sentence, self._detail = sentence, ""
        self._console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {sentence}", highlight=False)

    def detail(self, text: str) -> None:
        self._detail = text

    @contextlib.contextmanager
    def watching(self, cluster: LocalCluster, clients: Workload) -> Iterator[None]:
        self._sampler = Sampler(cluster, clients)
        try:
            with self._sampler.running():
                yield
        finally:
            self._sampler = None

    def _rendered(self) -> RenderableType:
        self._spinner.update(text=Text(self._detail or self._sentence, style="dim", overflow="ellipsis", no_wrap=True))
        sampler = self._sampler
        return Group(_panel(sampler), self._spinner) if sampler else self._spinner


def _panel(sampler: Sampler) -> Panel:
    rows = Table.grid(padding=(0, 2))
    view = sampler.view
    if view is not None:
        rows.add_row("leader", Text(f"{view.leader} in epoch {view.epoch}, {'open' if view.open else 'not open yet'}"))
        rows.add_row("members", Text(", ".join(f"{member.name} {member.state}" for member in view.members)))
    counters = sampler.counters
    rows.add_row(
        "writes",
        Text(
            f"{sampler.writes_per_s:.0f}/s, {counters.acknowledged} acknowledged, "
            f"{counters.failed + counters.unknown} failed"
        ),
    )
    rows.add_row("", Text(sparkline(list(sampler.per_sample)), style="cyan"))
    return Panel(rows, title="twinstar demo", title_align="left", expand=False)


class PlainScreen:
    """For a file or a pipe: one line for each thing that happens, and one now and then for how it goes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        return

    def say(self, sentence: str) -> None:
        self._line(sentence)

    def detail(self, text: str) -> None:
        """Not shown: the lines about how it goes say as much."""

    @contextlib.contextmanager
    def watching(self, cluster: LocalCluster, clients: Workload) -> Iterator[None]:
        sampler, stop = Sampler(cluster, clients), threading.Event()
        thread = threading.Thread(target=self._report, args=(sampler, stop), daemon=True)
        with sampler.running():
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join()

    def _report(self, sampler: Sampler, stop: threading.Event) -> None:
        while not stop.wait(_LINE_S):
            view = sampler.view
            who = f"{view.leader} leads epoch {view.epoch}" if view else "nobody answers yet"
            self._line(f"  {who}, {sampler.writes_per_s:.0f} writes/s, {sampler.counters.acknowledged} acknowledged")

    def _line(self, text: str) -> None:
        self._console.print(f"{time.monotonic() - self._started:6.1f} s  {text}", highlight=False, soft_wrap=True)
