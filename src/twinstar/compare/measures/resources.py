"""What a write costs all nodes together: processor time, log, bytes between nodes, memory; and who does useful work.

Measured while many clients write, spread over the nodes. Processor time is what the kernel has accounted to the
database's processes, the agent and the guard of each node (the children that have ended are in their parent's account).
Log is by how far each node's own has grown: what it wrote, or received, to its disk. Bytes between nodes are what the
other side's kernel has acknowledged on the sockets of the database's processes that send its log (`ss -ti`,
``bytes_acked``); heartbeats and the store's traffic are not in it. Memory is the sum of the processes' proportional
shares (PSS) in the end: shared buffers count once.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from twinstar.compare.comparison import NodeUse, Resources, Throughput
from twinstar.compare.load import Place, run_jobs
from twinstar.compare.measures.speed import Places, figures, jobs
from twinstar.compare.tables import execute
from twinstar.drill.target import MemberView, Target, View
from twinstar.ports import procfs

NET_SOURCE = "bytes_acked of the sockets of each node's walsenders, by `ss -tinp`"
_NO_SOURCE = "none: `ss` is not installed here, or may not name the processes of sockets"
_LOG = (
    "SELECT pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() "
    "ELSE pg_current_wal_lsn() END, '0/0')::bigint"
)


@dataclass(frozen=True, slots=True)
class Counters:
    """Of one node, at one moment."""

    cpu_s: Mapping[str, float]
    """By part: database, agent, guard."""
    wal_bytes: int
    net_bytes: Mapping[str, int] | None
    """By connection."""


def measure(
    target: Target, view: View, places: Places, seconds: float, seed: int, say: Callable[[str], None]
) -> tuple[Resources, Throughput]:
    """The clients' own figures are the speed of many spread ones. Raises TwinstarError."""
    say("write-many-spread, with resources")
    samples: list[dict[str, Counters]] = []

    def sample() -> None:
        samples.append({member.name: _counters(target, member, places(member.name)) for member in view.members})

    window = run_jobs(jobs(view, places, "write", seconds, seed, many=True, spread=True), sample)
    before, after = samples
    speed = figures(window)
    used = tuple(
        _use(target, member, before[member.name], after[member.name], speed.nodes.get(member.name, 0))
        for member in view.members
    )
    return summed(used, window.length_ms), speed


def _use(target: Target, member: MemberView, before: Counters, after: Counters, writes: int) -> NodeUse:
    parts = {part: round(after.cpu_s[part] - spent, 2) for part, spent in before.cpu_s.items()}
    return NodeUse(
        node=member.name,
        role=member.role,
        cpu_s=round(sum(parts.values()), 2),
        cpu_parts_s=parts,
        writes=writes,
        wal_bytes=after.wal_bytes - before.wal_bytes,
        net_bytes=grown(before.net_bytes, after.net_bytes),
        rss_mib=round(sum(_pss_bytes(pid) for pids in _pids(target, member).values() for pid in pids) / 2**20, 1),
    )


def grown(before: Mapping[str, int] | None, after: Mapping[str, int] | None) -> int | None:
    """By how much the counters of all connections have grown, those that are new from nothing."""
    if before is None or after is None:
        return None
    return sum(count - before.get(connection, 0) for connection, count in after.items())


def summed(used: tuple[NodeUse, ...], window_ms: float) -> Resources:
    """What follows from the nodes' own figures."""
    writes = sum(node.writes for node in used)
    sent = [node.net_bytes for node in used if node.net_bytes is not None]
    per_write = {}
    if writes:
        per_write["cpu_ms"] = round(sum(node.cpu_s for node in used) * 1000 / writes, 3)
        per_write["wal_bytes"] = round(sum(node.wal_bytes for node in used) / writes, 1)
        if len(sent) == len(used):
            per_write["net_bytes"] = round(sum(sent) / writes, 1)
    return Resources(
        per_node=used,
        useful_share=round(sum(node.writes > 0 for node in used) / len(used), 3),
        per_write=per_write,
        window_ms=round(window_ms, 1),
        net_source=NET_SOURCE if len(sent) == len(used) else _NO_SOURCE,
    )


def _pids(target: Target, member: MemberView) -> dict[str, list[int]]:
    own = {"agent": member.agent_pid, "guard": member.guard_pid}
    found = {part: [pid] for part, pid in own.items() if pid is not None}
    return {"database": [each.pid for each in procfs.of_directory(target.data_directory(member.name))], **found}


def _counters(target: Target, member: MemberView, place: Place) -> Counters:
    pids = _pids(target, member)
    # The agent's own is local, and sends no log.
    senders = [
        each.pid
        for each in procfs.of_directory(target.data_directory(member.name))
        if " walsender " in each.title and "[local]" not in each.title
    ]
    return Counters(
        cpu_s={part: sum(_cpu_s(pid, whole=part == "database") for pid in own) for part, own in pids.items()},
        wal_bytes=int(execute(member.dsn, _LOG)[0][0]),
        net_bytes=_acknowledged(senders, place),
    )


def _cpu_s(pid: int, *, whole: bool) -> float:
    """With the account of its children that have ended, when `whole`. 0 when it has just ended itself."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    fields = text.rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11 : 15 if whole else 13]) / os.sysconf("SC_CLK_TCK")


def _pss_bytes(pid: int) -> int:
    """0 when it has just ended, or may not be looked at."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _acknowledged(pids: list[int], place: Place) -> dict[str, int] | None:
    """By connection; None when they cannot be read."""
    if not pids:
        return {}
    try:
        shown = subprocess.run([*place.enter, "ss", "-tinpHO"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = acknowledged(shown, pids)
    return found or None


def acknowledged(shown: str, pids: list[int]) -> dict[str, int]:
    """``bytes_acked`` by local and remote address, of these processes' sockets, from what ``ss -tinpHO`` shows."""
    wanted = {f"pid={pid}," for pid in pids}
    found = {}
    for line in shown.splitlines():
        acked = re.search(r"\bbytes_acked:(\d+)", line)
        if acked and any(pid in line for pid in wanted):
            local, remote = line.split()[3:5]
            found[f"{local} {remote}"] = int(acked[1])
    return found
