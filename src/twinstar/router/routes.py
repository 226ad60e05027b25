"""Where clients may be sent, from what a router has been told. Pure.

A router learns from three sides, none of which is always there: the register in the store, notices that the register
has moved, and `Serving` from leaders' agents. `Knowledge` is the sum of it, `Route` what follows for clients.

What it guarantees
    1. *The epoch never goes back.* The newest epoch heard of, from whichever side, is the only one that counts; what is
       said for a lower one is not looked at. So a session that was ended for epoch e is never joined to e-1 again, and
       a former leader that has learned of nothing cannot attract clients.
    2. *Nobody is forwarded before the epoch is open* (docs/protocol.md, "Opening"). That an epoch is open is believed
       from the agent of its leader alone: it is the one that has seen `required` voters flush. The register says who
       leads, not that it is open, and while electing it still names the last leader; a notice may do so as well.
    3. *One leader per epoch.* A second name for the same epoch, from wherever, is not believed.

Why silence changes nothing
    In `quorum` a leader whose voters still confirm cannot have been replaced, and in `async` its guard ends it in time.
    So neither a lost store nor a silent agent closes what was open: only a newer epoch does. And *open* is never taken
    back within an epoch: what `required` voters have flushed stays flushed, and a database that is started again
    begins a new epoch. An agent that was restarted and says "not open" has only not checked yet.

What is bounded by time
    Which standbys are near enough is worth nothing once the agent that says so has been silent for `SILENCE_MS`: new
    sessions then go to the leader, those on standbys stay. A standby that the leader's agent has left out for
    `LEFT_OUT_MS` loses its sessions. *Draining* is forgotten after `SILENCE_MS`, so that a switchover whose leader's
    agent died does not hold clients for ever. A router that has just started waits `START_MS` for the store, since
    a former leader's agent may be the first that answers.

What it does not
    A standby shows what it has replayed, and with `required` > 1 that may be more than has been acknowledged. Reads
    from an old leader that are made past the router are beyond it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from twinstar.model.register import Phase, Register
from twinstar.model.wire import EpochNotice, Serving

SILENCE_MS = 10_000.0
"""How long the word of a leader's agent about its standbys, and about draining, counts without being repeated."""
LEFT_OUT_MS = 3_000.0
"""How long a standby may be out of the lag bound before its sessions are ended."""
START_MS = 1_000.0
"""How long a starting router waits for the store before it believes agents alone."""


class Why(StrEnum):
    """Why new sessions are held."""

    STARTING = "the store has not answered yet"
    NOBODY_LEADS = "no leader has been named"
    NOT_OPEN = "the new leader is not open yet"
    DRAINING = "a switchover is under way"
    NOBODY_OPEN = "no node is open"
    """Active-active."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where sessions go. `write` is None and `read` empty while new ones are held, and then `why` says for what."""

    epoch: int = 0
    """Sessions of a lower epoch end."""
    write: str | None = None
    """The leader of `epoch`, open."""
    read: tuple[str, ...] = ()
    """The standbys within the lag bound, or the leader when there is none."""
    left_out: frozenset[str] = frozenset()
    """Members whose `read` sessions end."""
    why: Why | None = Why.STARTING
    any: tuple[str, ...] = ()
    """Active-active: the nodes that are open."""
    ended: Mapping[str, str] = field(default_factory=dict)
    """Active-active: the nodes on which every session ends, and why."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a router has been told of the newest epoch it knows. Each `saw_` returns what is known afterwards."""

    epoch: int = 0
    leader: str = ""
    """Of `epoch`; empty as long as nobody is known to have been named."""
    open: bool = False
    draining: bool = False
    readers: frozenset[str] = frozenset()
    left_out_since_ms: tuple[tuple[str, float], ...] = ()
    """(standby, when the leader's agent first left it out) of those that were within the bound before."""
    heard_ms: float = float("-inf")
    """When the leader's agent last said something."""
    looked: bool = False
    """The store has been looked at, or waited for long enough."""

    def looked_at_store(self) -> Knowledge:
        return replace(self, looked=True)

    def saw_register(self, register: Register) -> Knowledge:
        known = self._reaching(register.epoch)
        named = register.phase is Phase.LEADING and register.epoch == known.epoch and not known.leader
        return replace(known, leader=register.leader) if named else known

    def saw_notice(self, notice: EpochNotice) -> Knowledge:
        return self._reaching(notice.epoch)

    def saw_serving(self, sender: str, serving: Serving, now_ms: float) -> Knowledge:
        """`sender`: the member whose agent said it."""
        known = self._reaching(serving.epoch)
        if serving.epoch < known.epoch or sender != serving.leader or known.leader not in ("", serving.leader):
            return known
        readers = frozenset(serving.readers) - {serving.leader}
        return replace(
            known,
            leader=serving.leader,
            open=known.open or serving.open,
            draining=serving.draining,
            readers=readers,
            left_out_since_ms=_left_out(known, readers, now_ms),
            heard_ms=now_ms,
        )

    def route(self, now_ms: float, members: frozenset[str]) -> Route:
        """What follows, for a router that has the addresses of `members`."""
        fresh = now_ms - self.heard_ms <= SILENCE_MS
        left_out = frozenset(name for name, since in self.left_out_since_ms if self.heard_ms - since > LEFT_OUT_MS)
        why = self._why_hold(fresh, members)
        if why is not None:
            return Route(self.epoch, left_out=left_out, why=why)
        readers = tuple(sorted(self.readers & members)) if fresh else ()
        return Route(self.epoch, self.leader, readers or (self.leader,), left_out, None)

    def _why_hold(self, fresh: bool, members: frozenset[str]) -> Why | None:
        if not self.looked:
            return Why.STARTING
        if self.leader not in members:
            return Why.NOBODY_LEADS
        if not self.open:
            return Why.NOT_OPEN
        return Why.DRAINING if self.draining and fresh else None

    def _reaching(self, epoch: int) -> Knowledge:
        """Nothing that was true of a lower epoch is true of a higher one."""
        return Knowledge(epoch=epoch, looked=self.looked) if epoch > self.epoch else self


def _left_out(known: Knowledge, readers: frozenset[str], now_ms: float) -> tuple[tuple[str, float], ...]:
    since = dict(known.left_out_since_ms) | dict.fromkeys(known.readers - readers, now_ms)
    return tuple(sorted((name, at) for name, at in since.items() if name not in readers))
