"""What a drill does to a cluster. Each fault looks up its processes first, so that the moment it strikes is one moment.

Every process is named by pid *and* start time; the pids of agents and guards come from `status` and are checked against
the command line, those of the database are all that stand in its data directory. Nothing else is ever signalled.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psycopg

from twinstar.drill.session import boot_ms
from twinstar.drill.target import MemberView, Target, View
from twinstar.model.errors import EnvironmentTrouble, UsageError
from twinstar.ports import procfs

_AGENT_HEAD_START_S = 0.2
"""`kill-agent-then-database`: between the two."""


class Fault(StrEnum):
    KILL_DATABASE = "kill-database"
    """SIGKILL of the leader's postmaster. Where every node takes writes, the first one's, here and below."""
    KILL_NODE = "kill-node"
    """SIGKILL of agent, guard and every process of the leader's database at once."""
    HANG_NODE = "hang-node"
    """SIGSTOP of every process of the leader's node: silent, no connection is reset."""
    KILL_STANDBY = "kill-standby"
    """SIGKILL of agent, guard and database of one standby."""
    KILL_BACKEND = "kill-backend"
    """SIGKILL of the process of one session on the leader."""
    HANG_DATABASE = "hang-database"
    """SIGSTOP of every process of the leader's database."""
    KILL_AGENT = "kill-agent"
    HANG_AGENT = "hang-agent"
    KILL_GUARD = "kill-guard"
    KILL_AGENT_THEN_DATABASE = "kill-agent-then-database"
    PARTITION = "partition"
    """The leader's node is cut off from everybody: members, store, router and clients. Silence, no reset."""
    KILL_WITNESS = "kill-witness"
    """SIGKILL of everything of a machine without a database."""
    STOP_STORE = "stop-store"
    """SIGSTOP of the store's processes."""
    FILL_STORE = "fill-store"
    """The store that Twinstar runs is written to until it takes no more."""
    SWITCHOVER = "switchover"
    """A planned change of leader."""
    LEAVE = "leave"
    """A node is taken out in order, as for maintenance, and comes back as a copy."""


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that has struck, and what heals it. `at_ms` is the boot clock."""

    at_ms: float
    target: str
    stopped: tuple[str, ...] = ()
    """Runs that must be sent SIGCONT."""
    start: tuple[str, ...] = ()
    """Nodes whose agent or guard must be started again."""
    cut_off: str = ""
    """A node whose network must be joined again."""
    left: str = ""
    """A node that must be taken in again."""

    def heal(self, target: Target) -> None:
        """Lets go on what was stopped and starts what was killed. Raises TwinstarError."""
        for run in self.stopped:
            procfs.kill_run(run, signal.SIGCONT)
        for node in self.start:
            target.start(node)
        if self.cut_off:
            target.join(self.cut_off)
        if self.left:
            target.rejoin(self.left)


NO_LEADER = frozenset({Fault.KILL_STANDBY, Fault.KILL_GUARD, Fault.SWITCHOVER})
"""Faults of what there is in active-passive alone."""
ALL_WRITE = frozenset({Fault.LEAVE})
"""Faults of what there is in active-active alone."""


def refuse_impossible(fault: Fault, view: View) -> None:
    """Raises UsageError for a fault that this strategy has nothing for."""
    foreign = NO_LEADER if view.all_write else ALL_WRITE
    if fault in foreign:
        possible = ", ".join(each for each in Fault if each not in foreign)
        raise UsageError(f"An {view.strategy} cluster has nothing for {fault} to strike: choose one of {possible}.")


def inject(fault: Fault, target: Target, view: View) -> Injected:
    """Strikes. `view` must be fresh. Raises TwinstarError when the fault is not possible here."""
    refuse_impossible(fault, view)
    return _FAULTS[fault](target, view)


def _kill_database(target: Target, view: View) -> Injected:
    postmaster = _postmaster(target, view.struck)
    return Injected(_strike([postmaster], signal.SIGKILL), view.struck.name)


def _kill_node(target: Target, view: View) -> Injected:
    return _kill_all_of(target, view.struck)


def _kill_standby(target: Target, view: View) -> Injected:
    return _kill_all_of(target, _some_standby(view))


def _kill_all_of(target: Target, member: MemberView) -> Injected:
    """Agent and guard go first, so that neither has the time to report the end of the database."""
    data = target.data_directory(member.name)
    own = [*_agent_and_guard(member), *target.store_runs(member.name)]
    at_ms = _strike([*own, *_engine(data)], signal.SIGKILL)
    _strike(_engine(data), signal.SIGKILL)  # What was forked meanwhile.
    return Injected(at_ms, member.name, start=(member.name,))


def _hang_node(target: Target, view: View) -> Injected:
    member = view.struck
    data = target.data_directory(member.name)
    first = [*_agent_and_guard(member), *_engine(data), *target.store_runs(member.name)]
    at_ms = _strike(first, signal.SIGSTOP)
    later = [run for run in _engine(data) if run not in first]
    _strike(later, signal.SIGSTOP)
    return Injected(at_ms, member.name, stopped=(*first, *later))


def _hang_database(target: Target, view: View) -> Injected:
    runs = _engine(target.data_directory(view.struck.name))
    return Injected(_strike(runs, signal.SIGSTOP), view.struck.name, stopped=tuple(runs))


def _kill_backend(target: Target, view: View) -> Injected:
    """A session of the drill's own, straight on the leader: to PostgreSQL one backend is as good as another."""
    member = view.struck
    try:
        with psycopg.connect(member.dsn, connect_timeout=5) as session:
            run = procfs.run_id(session.info.backend_pid)
            here = {process.pid for process in procfs.of_directory(target.data_directory(member.name))}
            if run is None or session.info.backend_pid not in here:
                raise _elsewhere(member.name)
            at_ms = _strike([run], signal.SIGKILL)
    except psycopg.Error as trouble:
        raise EnvironmentTrouble(
            f"No session on {member.name} could be opened to be killed ({' '.join(str(trouble).split())}): "
            "check that the application's password file matches, then drill again."
        ) from None
    return Injected(at_ms, member.name)


def _kill_agent(_target: Target, view: View) -> Injected:
    return _strike_agent(view, signal.SIGKILL)


def _hang_agent(_target: Target, view: View) -> Injected:
    return _strike_agent(view, signal.SIGSTOP)


def _strike_agent(view: View, sent: signal.Signals) -> Injected:
    member = view.struck
    run = _ours(member, member.agent_pid, "twinstar.agent")
    at_ms = _strike([run], sent)
    if sent == signal.SIGSTOP:
        return Injected(at_ms, member.name, stopped=(run,))
    return Injected(at_ms, member.name, start=(member.name,))


def _kill_guard(_target: Target, view: View) -> Injected:
    member = view.struck
    run = _ours(member, member.guard_pid, "twinstar.guard")
    return Injected(_strike([run], signal.SIGKILL), member.name, start=(member.name,))


def _kill_agent_then_database(target: Target, view: View) -> Injected:
    member = view.struck
    agent = _ours(member, member.agent_pid, "twinstar.agent")
    postmaster = _postmaster(target, member)
    _strike([agent], signal.SIGKILL)
    time.sleep(_AGENT_HEAD_START_S)
    return Injected(_strike([postmaster], signal.SIGKILL), member.name, start=(member.name,))


def _partition(target: Target, view: View) -> Injected:
    at_ms = boot_ms()
    target.cut_off(view.struck.name)
    return Injected(at_ms, view.struck.name, cut_off=view.struck.name)


def _kill_witness(target: Target, _view: View) -> Injected:
    name, runs = target.witness()
    return Injected(_strike(runs, signal.SIGKILL), name, start=(name,))


def _fill_store(target: Target, _view: View) -> Injected:
    return Injected(target.fill_store(), "store")


def _stop_store(target: Target, _view: View) -> Injected:
    runs = target.store_runs()
    if not runs:
        raise UsageError("The store does not run on this machine: drill `stop-store` on a cluster that `up` started.")
    return Injected(_strike(runs, signal.SIGSTOP), "store", stopped=runs)


def _switchover(target: Target, view: View) -> Injected:
    at_ms = boot_ms()
    target.switchover()
    return Injected(at_ms, view.leader)


def _leave(target: Target, view: View) -> Injected:
    at_ms = boot_ms()
    target.leave(view.struck.name)
    return Injected(at_ms, view.struck.name, left=view.struck.name)


_FAULTS: dict[Fault, Callable[[Target, View], Injected]] = {
    Fault.KILL_DATABASE: _kill_database,
    Fault.KILL_NODE: _kill_node,
    Fault.HANG_NODE: _hang_node,
    Fault.KILL_STANDBY: _kill_standby,
    Fault.KILL_BACKEND: _kill_backend,
    Fault.HANG_DATABASE: _hang_database,
    Fault.KILL_AGENT: _kill_agent,
    Fault.HANG_AGENT: _hang_agent,
    Fault.KILL_GUARD: _kill_guard,
    Fault.KILL_AGENT_THEN_DATABASE: _kill_agent_then_database,
    Fault.PARTITION: _partition,
    Fault.KILL_WITNESS: _kill_witness,
    Fault.STOP_STORE: _stop_store,
    Fault.FILL_STORE: _fill_store,
    Fault.SWITCHOVER: _switchover,
    Fault.LEAVE: _leave,
}


def _strike(runs: list[str] | tuple[str, ...], sent: signal.Signals) -> float:
    at_ms = boot_ms()
    for run in runs:
        procfs.kill_run(run, sent)
    return at_ms


def _some_standby(view: View) -> MemberView:
    if not view.standbys:
        raise UsageError("This cluster has no standby to kill: drill one with at least two nodes.")
    return view.standbys[0]


def _engine(data: Path) -> list[str]:
    """The database's processes, the main one first, so that it forks no more."""
    return [run for process in procfs.of_directory(data) if (run := procfs.run_id(process.pid))]


def _postmaster(target: Target, member: MemberView) -> str:
    here = {process.pid for process in procfs.of_directory(target.data_directory(member.name))}
    run = procfs.run_id(member.engine_pid) if member.engine_pid in here and member.engine_pid else None
    if run is None:
        raise _elsewhere(member.name)
    return run


def _agent_and_guard(member: MemberView) -> list[str]:
    """Where every node takes writes there is no guard."""
    agent = _ours(member, member.agent_pid, "twinstar.agent")
    return [agent] if member.role == "node" else [agent, _ours(member, member.guard_pid, "twinstar.guard")]


def _ours(member: MemberView, pid: int | None, module: str) -> str:
    """The run of this pid, if it is what `status` says it is."""
    run = procfs.run_id(pid) if pid else None
    if pid is None or run is None or module.encode() not in _command_line(pid):
        raise _elsewhere(member.name)
    return run


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _elsewhere(node: str) -> EnvironmentTrouble:
    return EnvironmentTrouble(
        f"The processes of {node} are not those that `status` names, or not on this machine: "
        "drill on the machine where the cluster runs, when `twinstar status` shows it healthy."
    )
