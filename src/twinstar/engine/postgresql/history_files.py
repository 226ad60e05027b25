"""Timeline history files: what they say, and the empty ones that keep timeline numbers and epochs the same.

PostgreSQL gives a promotion the number after the highest for which it finds a history file in ``pg_wal``. Two members
that are promoted from the same point would therefore both take the same number, and nothing tells the two timelines
apart. An empty placeholder for every missing number below the epoch makes the promotion take the epoch itself.

Every number is needed, also those between timelines that this member has never seen: a follower asks its leader for the
history of each timeline between its own and the leader's, and cannot follow when one is missing.

Placeholders above the own timeline must be gone when a server is started (`files.remove_placeholders`): it would take
the highest for the timeline to recover to and wait for ever for its own checkpoint there.
"""

from __future__ import annotations

from pathlib import Path

from twinstar.engine.postgresql.files import history_entries, make_empty, read_text, sync_directory
from twinstar.model.position import Branch, parse_lsn
from twinstar.ports.processes import Account


def history_file(data: Path, timeline: int) -> Path:
    return data / "pg_wal" / f"{timeline:08X}.history"


def parse_history(timeline: int, text: str) -> Branch:
    """The branch that a history file describes. Raises ValueError when it is none."""
    entries = (line.split() for line in history_entries(text))
    return Branch(timeline, tuple((int(entry[0]), parse_lsn(entry[1])) for entry in entries))


def own_branch(data: Path, timeline: int) -> Branch:
    """The branch of a timeline by the files of a data directory. Raises ValueError."""
    return parse_history(timeline, read_text(history_file(data, timeline)))


def newest_known(data: Path) -> int:
    """The highest timeline of which this member has heard: 1 when there is no history file that says anything."""
    files = (data / "pg_wal").glob("????????.history")
    return max((int(file.stem, 16) for file in files if history_entries(read_text(file))), default=1)


def newest_received(data: Path) -> int:
    """The highest timeline of which there is a file of log, replayed or not."""
    return max((int(file.name[:8], 16) for file in (data / "pg_wal").glob("?" * 24)), default=1)


def place_holders(data: Path, epoch: int, account: Account | None) -> None:
    """Durably makes an empty history file for each number from 2 to `epoch` - 1 that has none."""
    missing = [file for number in range(2, epoch) if not (file := history_file(data, number)).exists()]
    for file in missing:
        make_empty(file, account)
    if missing:
        sync_directory(data / "pg_wal")
