"""One drill: for each repetition a control run without a fault, then one with it; healed and audited in between.

A run begins when the clients have had their first acknowledgements. The fault strikes `before_ms` later; the run goes
on for `after_ms`, and longer while no client is served, up to `patience_s`. The control lasts as long. What is measured
is the longest time that any one client went without an acknowledgement. Rows are looked for only after the cluster has
healed, since a former leader that comes back is one more chance to lose something.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from twinstar.drill.busy import BusyStandbys, drop_churn_table
from twinstar.drill.driver import Workload
from twinstar.drill.faults import Fault, Injected, inject, refuse_impossible
from twinstar.drill.history import Apart, Attempt, Audit, Gap, Key, acknowledged_since, apart, audit, longest_gap
from twinstar.drill.routed import wait_until_routed
from twinstar.drill.rows import make_tables, put_away, rows_of
from twinstar.drill.session import boot_ms
from twinstar.drill.target import Target, View, wait_until_serving
from twinstar.model.errors import EnvironmentTrouble, UsageError

Say = Callable[[str], None]
_TICK_S = 0.05
_SERVED_WITHIN_S = 0.5
_SERVED_FOR_S = 1.0
_FIRST_WRITE_S = 20.0
_NEVER_AGAIN_MS = 1_000.0
"""A last gap of this length that no acknowledgement ends: the clients were not served again."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a drill is done. Times in the unit of their names."""

    fault: Fault
    repeat: int = 1
    busy_standby: bool = False
    clients: int = 2
    pause_ms: float = 5.0
    deadline_ms: float = 3_000.0
    before_ms: float = 1_500.0
    after_ms: float = 4_000.0
    patience_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the clients. Times are the boot clock's; `fault_ms` is None for a control run."""

    from_ms: float
    to_ms: float
    fault_ms: float | None
    target: str
    attempts: tuple[Attempt, ...]
    audit: Audit
    longest: Gap
    epoch_before: int
    epoch_after: int
    leader_before: str
    leader_after: str
    apart: Apart | None = None
    """Where every node takes writes, of a run with a fault."""
    beside: tuple[Attempt, ...] = ()
    """Where every node takes writes, of `partition`: by the client that is cut off together with its node. No part of
    outages: it is not the router's, and with `quorum` it has to wait.
    """

    @property
    def outage_ms(self) -> float:
        return self.longest.length_ms

    @property
    def survived(self) -> bool:
        """Clients were served again, and were told the truth throughout; those of nodes that nothing has struck had no
        statement fail.
        """
        disturbed = self.apart is not None and self.apart.others_failed > 0
        return self.audit.sound and not disturbed and not (self.longest.open_end and self.outage_ms >= _NEVER_AGAIN_MS)


@dataclass(frozen=True, slots=True)
class Repetition:
    control: Run
    faulty: Run


@dataclass(frozen=True, slots=True)
class Drill:
    """What `drill` returns: everything the report is made of."""

    options: Options
    cluster: dict[str, str]
    repetitions: tuple[Repetition, ...]

    @property
    def survived(self) -> bool:
        return all(repetition.control.survived and repetition.faulty.survived for repetition in self.repetitions)


def drill(target: Target, options: Options, cluster: dict[str, str], say: Say) -> Drill:
    """Runs the whole drill. `cluster` describes it for the report. Raises TwinstarError."""
    view = wait_until_serving(target, options.patience_s, say)
    refuse_impossible(options.fault, view)
    if view.all_write and options.busy_standby:
        raise UsageError("An active-active cluster has no standby to keep busy: leave out --busy-standby.")
    make_tables(target, view)
    repetitions = []
    try:
        for number in range(1, options.repeat + 1):
            control = run_once(target, options, None, _prefixed(f"{number}, control: ", say))
            faulty = run_once(target, options, options.fault, _prefixed(f"{number}: ", say))
            repetitions.append(Repetition(control, faulty))
    finally:
        with contextlib.suppress(EnvironmentTrouble):
            put_away(target, view)
            if options.busy_standby:
                drop_churn_table(view.write)
    return Drill(options, cluster, tuple(repetitions))


def _prefixed(prefix: str, say: Say) -> Say:
    return lambda text: say(prefix + text)


def run_once(target: Target, options: Options, fault: Fault | None, say: Say) -> Run:
    """One run of the clients, with the fault or without. Leaves the cluster healed. Raises TwinstarError."""
    before = wait_until_serving(target, options.patience_s, say)
    if before.all_write:
        wait_until_routed(before, options.patience_s, say)
    run = secrets.token_hex(4)
    say("clients write")
    with contextlib.ExitStack() as stack:
        if options.busy_standby:
            stack.enter_context(BusyStandbys(before))
        clients = stack.enter_context(
            Workload(
                before.write, run, options.clients, options.pause_ms, options.deadline_ms, ask_where=before.all_write
            )
        )
        beside = _beside(target, before, run, options, stack) if _cuts(options, before) else None
        for each in filter(None, (clients, beside)):
            _first_writes(each)
        from_ms = boot_ms()
        time.sleep(options.before_ms / 1000)
        injected = Injected(boot_ms(), "")
        try:
            with _undisturbed():
                injected = _strike(fault, target, say)
            _wait_for_service(clients, injected.at_ms, options, say)
            to_ms = boot_ms()
            attempts = clients.stop()
            cut_off = beside.stop() if beside is not None else []
        finally:
            say("healing")
            injected.heal(target)
    after = wait_until_serving(target, options.patience_s, say)
    say("looking for every acknowledged row")
    rows = rows_of(after, run, options.patience_s)
    return _result(attempts, cut_off, from_ms, to_ms, injected, fault, before, after, rows)


def _cuts(options: Options, view: View) -> bool:
    """The node that is cut off goes on taking the writes of those who still reach it."""
    return view.all_write and options.fault is Fault.PARTITION


def _beside(target: Target, view: View, run: str, options: Options, stack: contextlib.ExitStack) -> Workload:
    """One client more, on the machine of the node that is to be cut off."""
    own = Workload(
        view.struck.dsn, run, 1, options.pause_ms, options.deadline_ms, ask_where=True, first=options.clients
    )
    with target.beside(view.struck.name):
        return stack.enter_context(own)


def _strike(fault: Fault | None, target: Target, say: Say) -> Injected:
    if fault is None:
        return Injected(boot_ms(), "")
    view = target.view()
    say(f"{fault} at {view.struck.name}")
    return inject(fault, target, view)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Holds Ctrl-C and SIGTERM back until it is known what has to be healed: a user's node must not stay stopped."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = {number: signal.signal(number, lambda number, _: held.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for each in held:
            os.kill(os.getpid(), each)


def _first_writes(clients: Workload) -> None:
    until = time.monotonic() + _FIRST_WRITE_S
    while clients.counters.acknowledged < 20:
        if time.monotonic() > until:
            raise EnvironmentTrouble(
                "The drill's clients cannot write through the router: try `psql` with the DSN of `twinstar dsn`."
            )
        time.sleep(_TICK_S)


def _wait_for_service(clients: Workload, at_ms: float, options: Options, say: Say) -> None:
    """Until the run's length is over and clients have been served for so long that each can be, or nobody will be."""
    last, last_at = clients.counters.acknowledged, time.monotonic()
    served_from = last_at
    while True:
        time.sleep(_TICK_S)
        now = clients.counters.acknowledged
        if now > last:
            last, last_at = now, time.monotonic()
        silent_s = time.monotonic() - last_at
        passed_ms = boot_ms() - at_ms
        served_from = time.monotonic() if silent_s >= _SERVED_WITHIN_S else served_from
        if passed_ms >= options.after_ms and time.monotonic() - served_from >= _SERVED_FOR_S:
            return
        if passed_ms > options.patience_s * 1000:
            return
        if silent_s >= _SERVED_WITHIN_S:
            say(f"no acknowledgement for {silent_s:.1f} s")


def _result(
    attempts: list[Attempt],
    cut_off: list[Attempt],
    from_ms: float,
    to_ms: float,
    injected: Injected,
    fault: Fault | None,
    before: View,
    after: View,
    rows: list[Key],
) -> Run:
    sides = None
    if fault is not None and before.all_write and fault is not Fault.STOP_STORE:
        sides = apart(attempts, injected.target, injected.at_ms, from_ms, to_ms)
        if cut_off:
            sides = replace(sides, cut_off_acknowledged=acknowledged_since(cut_off, injected.at_ms))
    return Run(
        from_ms=from_ms,
        to_ms=to_ms,
        fault_ms=injected.at_ms if fault else None,
        target=injected.target,
        attempts=tuple(attempts),
        audit=audit([*attempts, *cut_off], rows),
        longest=longest_gap(attempts, from_ms, to_ms),
        epoch_before=before.epoch,
        epoch_after=after.epoch,
        leader_before=before.leader,
        leader_after=after.leader,
        apart=sides,
        beside=tuple(cut_off),
    )
