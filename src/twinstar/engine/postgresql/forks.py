"""Keeps what a member's log has beyond the leader's branch before the member is rewound or replaced.

The log segments from the fork on go to ``forks/<epoch>-<wall-clock milliseconds>/``, with a description in
``fork.json``, which is written last: a folder without it is an interrupted attempt. ``pg_waldump`` reads them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from twinstar.engine.base import Progress
from twinstar.engine.postgresql.files import control, write_durably
from twinstar.engine.postgresql.history_files import newest_known, own_branch
from twinstar.engine.postgresql.server import Server
from twinstar.model.engine import Upstream
from twinstar.model.errors import EnvironmentTrouble
from twinstar.model.position import Branch, Position, format_lsn

DESCRIPTION = "fork.json"
_SEGMENT = re.compile(r"[0-9A-F]{24}")
_COMMITS = re.compile(r"^Transaction/COMMIT\s+(\d+)", re.MULTILINE)
_ENDLESS = 1 << 64


@dataclass(frozen=True, slots=True)
class Segment:
    file: Path
    timeline: int
    start: int
    """The LSN of its first byte."""


async def save_fork(server: Server, upstream: Upstream, leaders: Branch, progress: Progress) -> Path | None:
    """Copies what only this member's log may hold; None when its branch does not leave the leader's.

    Raises EnvironmentTrouble when there is no room.
    """
    data = server.paths.data
    known = control(data)
    if known is None:
        return None
    timeline = max(known.checkpoint.timeline, newest_known(data))
    fork = fork_of(own_branch(data, timeline), leaders)
    segments = [each for each in segments_of(data) if fork and _beyond(each, fork)]
    if fork is None or not segments:
        return None
    folder = server.paths.forks / f"{upstream.epoch}-{server.clock.wall_ms()}"
    progress(f"keeping {len(segments)} log segments from {fork} on in {folder}")
    await _copy(server, [each.file for each in segments], folder)
    description = {
        "member": server.settings.member,
        "leader": upstream.member,
        "epoch": upstream.epoch,
        "fork": str(fork),
        "last_checkpoint": str(known.checkpoint),
        "segments": [each.file.name for each in segments],
        "commits": await _count_commits(server, folder, fork),
    }
    write_durably(folder / DESCRIPTION, json.dumps(description, indent=2) + "\n", account=server.settings.account)
    return folder


def fork_of(own_branch: Branch, leaders: Branch) -> Position | None:
    """Where a branch leaves the leader's for good; None when it has not (its timeline is on the leader's branch, and
    the leader has not left that one).
    """
    there = {**dict(leaders.left_at), leaders.timeline: _ENDLESS}
    fork = Position(1, 0)
    for timeline, end in (*own_branch.left_at, (own_branch.timeline, _ENDLESS)):
        if timeline not in there:
            break
        fork = Position(timeline, min(end, there[timeline]))
        if end != there[timeline]:
            break
    return fork if fork.lsn != _ENDLESS else None


def segments_of(data: Path) -> list[Segment]:
    """The log segments of a data directory, by timeline and start."""
    files = sorted(file for file in (data / "pg_wal").iterdir() if _SEGMENT.fullmatch(file.name))
    return [_segment(file, file.stat().st_size) for file in files]


def _segment(file: Path, size: int) -> Segment:
    timeline, high, low = (int(file.name[place : place + 8], 16) for place in (0, 8, 16))
    return Segment(file, timeline, (high << 32) + low * size)


def _beyond(segment: Segment, fork: Position) -> bool:
    size = segment.file.stat().st_size
    return segment.timeline >= fork.timeline and segment.start + size > fork.lsn


async def _copy(server: Server, files: list[Path], folder: Path) -> None:
    """Copied, not linked: pg_rewind writes into the files that it finds. By the database's user, who owns both ends and
    could have put a link into either.
    """
    histories = sorted((server.paths.data / "pg_wal").glob("*.history"))
    commands: list[list[str]] = [["mkdir", "-p", str(folder)]]
    commands.append(["cp", "--preserve=timestamps", f"--target-directory={folder}", *map(str, [*files, *histories])])
    commands.append(["sync", str(folder), *(str(folder / file.name) for file in files)])
    for command in commands:
        done = await server.processes.run(command, account=server.settings.account, environment=server.environment())
        if done.code:
            raise EnvironmentTrouble(
                f"The log beyond the fork cannot be kept in {folder} ({done.err}): make room there, or remove older "
                "forks."
            )


async def _count_commits(server: Server, folder: Path, fork: Position) -> int | None:
    """How many transactions were committed beyond the fork, on its timeline; None when pg_waldump is not there."""
    if not Path(server.settings.tool("pg_waldump")).exists():
        return None
    done = await server.tool(
        "pg_waldump",
        "--stats=record",
        "--rmgr=Transaction",
        f"--path={folder}",
        f"--timeline={fork.timeline}",
        f"--start={format_lsn(fork.lsn)}",
    )
    found = _COMMITS.search(done.out)
    # It always ends with an error, at the end of the log; without a table it has not come as far as that.
    return int(found[1]) if found else (0 if "Total" in done.out else None)
