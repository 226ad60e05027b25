"""The table that a drill's clients write to, and its rows afterwards: on the leader, or on every node."""

from __future__ import annotations

import time

from twinstar.drill.driver import drop_table, make_table, present
from twinstar.drill.history import Key
from twinstar.drill.target import Target, View
from twinstar.drill.workload import TABLE
from twinstar.model.errors import EnvironmentTrouble

_PAUSE_S = 0.2


def make_tables(target: Target, view: View) -> None:
    """Raises TwinstarError."""
    if not view.all_write:
        make_table(view.write)
        return
    for member in view.members:
        make_table(member.dsn)
    target.take_in(TABLE)


def put_away(target: Target, view: View) -> None:
    """Undoes `make_tables`. Raises TwinstarError."""
    if not view.all_write:
        drop_table(view.write)
        return
    target.leave_out(TABLE)
    for member in view.members:
        drop_table(member.dsn)


def rows_of(view: View, run: str, patience_s: float) -> list[Key]:
    """The rows of a run: where every node takes writes, once all of them have the same ones. A node may shut
    clients out for a moment, as on a busy machine; it is asked again.

    Raises EnvironmentTrouble when they do not get them, or one refuses for good.
    """
    if not view.all_write:
        return present(view.write, run)
    until = time.monotonic() + patience_s
    while True:
        late = time.monotonic() > until
        try:
            found = {member.name: frozenset(present(member.dsn, run)) for member in view.members}
        except EnvironmentTrouble:
            if late:
                raise
            time.sleep(_PAUSE_S)
            continue
        if len(set(found.values())) == 1:
            return sorted(next(iter(found.values())))
        if late:
            counts = ", ".join(f"{name} {len(rows)}" for name, rows in found.items())
            raise EnvironmentTrouble(
                f"The nodes still have different rows after {patience_s:.0f} s ({counts}): `twinstar status` and "
                "`twinstar verify` say more."
            )
        time.sleep(_PAUSE_S)
