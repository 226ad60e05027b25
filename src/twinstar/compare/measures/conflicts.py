"""What becomes of writes to the same rows on all nodes at once, by applications that are careful or naive.

In turn: ``SET n = n + 1``; the same on a counter; ``SELECT n``, then ``SET n =`` that and one more; ``SELECT words``,
then ``SET words =`` these and one more. Six clients, ten rows, no pause: as contended as it gets. Afterwards it is
counted what is there of what was acknowledged. A naive application loses on a single server, too: nothing keeps others
out between its reading and its writing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from twinstar.compare.comparison import Conflicts, Tally
from twinstar.compare.figures import tally
from twinstar.compare.load import Window, merged, run_jobs
from twinstar.compare.measures.speed import MANY, Places, jobs
from twinstar.compare.tables import COUNTERS, HOT_ROWS, TABLE, until_equal
from twinstar.drill.target import View

KINDS = ("increments", "counters", "naive_increments", "updates")
_PATIENCE_S = 60.0
_FOUND = {
    "increments": f"SELECT n FROM {TABLE} WHERE kind = 'increments' ORDER BY id",
    "counters": f"SELECT n FROM {COUNTERS} ORDER BY id",
    "naive_increments": f"SELECT n FROM {TABLE} WHERE kind = 'naive_increments' ORDER BY id",
    "updates": f"SELECT words FROM {TABLE} WHERE kind = 'updates' ORDER BY id",
}
Logged = Callable[[str], list[dict[str, Any]]]
"""A table's versions that lost, from the conflict logs of all nodes."""


def measure(
    view: View, places: Places, logged: Logged, seconds: float, seed: int, say: Callable[[str], None]
) -> Conflicts:
    """`seconds` for each kind. Raises EnvironmentTrouble."""
    tallies: dict[str, Tally] = {}
    settled, differing, length_ms = 0.0, 0, 0.0
    for kind in KINDS:
        say(kind)
        window = run_jobs(merged(jobs(view, places, kind, seconds, seed, many=True, spread=True, rows=HOT_ROWS)))
        began = time.monotonic()
        answers = until_equal(view, _FOUND[kind], _PATIENCE_S)
        settled = max(settled, (time.monotonic() - began) * 1000)
        differing += sum(len(set(rows)) > 1 for rows in zip(*answers, strict=True))
        length_ms += window.length_ms
        tallies[kind] = count_up(window, [row[0] for row in answers[0]])
    log = [entry for table in (TABLE, COUNTERS) for entry in logged(table)] if view.all_write else []
    return Conflicts(
        **tallies,
        logged=len(log),
        logged_kinds=dict(Counter(str(entry["kind"]) for entry in log).most_common()),
        differing=differing,
        settled_ms=round(settled, 1),
        clients=MANY,
        rows=HOT_ROWS,
        window_ms=round(length_ms, 1),
    )


def count_up(window: Window, found: Sequence[int | str]) -> Tally:
    """`found` is each row's number, or its words."""
    per_row = [len(value.split()) if isinstance(value, str) else int(value) for value in found]
    return tally([len(told.answers) for told in window.told], per_row, sum(len(told.failed) for told in window.told))
