"""Detection: from heartbeats to a verdict about each peer.

**What it rests on.** A guard sends a heartbeat every ``h`` milliseconds. From the recent intervals between arrivals an
observer estimates how improbable the present silence is: phi accrual (Hayashibara, Défago, Yared and Katayama, "The φ
accrual failure detector", SRDS 2004), ``φ = -log10 P(an interval is longer than the silence so far)``, with intervals
taken as normally distributed. Normal tails are thinner than real ones, so phi alone is not trusted: nobody is silent
before `suspicion_floor_ms`, and everybody is after `suspicion_ms`. Between the two phi decides: on a regular network
silence is complete early, on a jittery one later.

**One's own stalls.** A process that was itself not scheduled has heard nobody, which says nothing about anybody
(Dadgar, Phillips and Currey, "Lifeguard: local health awareness for more accurate failure detection", 2017). The
observer reports when it wakes (`LocalHealth.woke`); after a gap of `stall_ms` or more every silence is counted afresh.

**What it guarantees.** A peer that sends nothing is `Silent` at most `suspicion_ms` after it was last heard, plus the
observer's own stalls. A peer of which some heartbeat arrives at least every `suspicion_floor_ms` never is.

**What it does not.** Silence is no death: the network or the observer's own link may be broken. So a verdict is never
more than one part of a suspicion (`suspects`), and one member's suspicion moves nothing. A peer that was *never* heard,
by anyone, is an error in somebody's configuration and not a death: `NeverHeard`.

All times are milliseconds on one clock that never goes back.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from twinstar.model.timing import Timings

_WINDOW = 100
"""Intervals remembered: ten seconds' worth at `fast`."""
_LEAST_SAMPLES = 5
"""Below these many, the estimate is what was configured."""
_PHI_THRESHOLD = 8.0
"""One wrong verdict in 10^8 silences, were they normal; what Cassandra and Akka use."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Heard recently enough."""

    silent_ms: float


@dataclass(frozen=True, slots=True)
class Missing:
    """A second heartbeat is overdue: time to probe, none to suspect."""

    silent_ms: float
    level: float
    """Phi: the negated power of ten of this silence's probability."""


@dataclass(frozen=True, slots=True)
class Silent:
    """Nothing was heard for so long that the heartbeats' part of a suspicion is complete."""

    silent_ms: float
    heard_since_start: bool = True
    """False: not once since this observer started, though somebody heard it before."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """Not heard yet since this observer's start, and it is too early to make anything of that."""

    remaining_ms: float


@dataclass(frozen=True, slots=True)
class NeverHeard:
    """No one has ever heard it: a wrong address, port or secret, never taken for a death."""


Verdict = Heard | Missing | Silent | Awaited | NeverHeard


class LocalHealth:
    """When this process itself ran. Tell it of every wake-up; wake at least every heartbeat."""

    def __init__(self, timings: Timings, started_ms: float) -> None:
        self._stall_ms = timings.stall_ms
        self._woke_ms = started_ms
        self._fresh_since_ms = started_ms
        self.stalls = 0
        self.longest_gap_ms = 0.0

    def woke(self, now_ms: float) -> bool:
        """Notes a wake-up, *before* what arrived meanwhile is looked at. True when a stall has just ended."""
        gap_ms = now_ms - self._woke_ms
        self._woke_ms = now_ms
        self.longest_gap_ms = max(self.longest_gap_ms, gap_ms)
        if gap_ms < self._stall_ms:
            return False
        self.stalls += 1
        self._fresh_since_ms = now_ms
        return True

    def fresh_since_ms(self, now_ms: float) -> float:
        """Since when silence counts. A verdict asked for by a process that has just overslept counts from now."""
        return now_ms if now_ms - self._woke_ms >= self._stall_ms else self._fresh_since_ms


class PeerHistory:
    """The arrivals from one peer. `ever_heard`: some member has recorded durably that it once heard it."""

    def __init__(self, timings: Timings, started_ms: float, ever_heard: bool = False) -> None:
        self._timings = timings
        self._started_ms = started_ms
        self._last_ms: float | None = None
        self._intervals: deque[float] = deque(maxlen=_WINDOW)
        self.ever_heard = ever_heard

    def heard(self, at_ms: float, fresh_since_ms: float = -math.inf) -> None:
        """Notes an authentic heartbeat; `fresh_since_ms` is `LocalHealth`'s.

        Only intervals that tell the rhythm are remembered: not the short ones, since a guard also speaks out of turn
        when its word changes; not the pauses that ended a silence or fell into a stall of our own.
        """
        if self._last_ms is not None:
            interval_ms = at_ms - self._last_ms
            told_us_something = self._last_ms >= fresh_since_ms and interval_ms >= self._timings.heartbeat_ms / 2
            if interval_ms >= self._timings.suspicion_ms:
                self._intervals.clear()
            elif told_us_something:
                self._intervals.append(interval_ms)
        self._last_ms = at_ms if self._last_ms is None else max(at_ms, self._last_ms)
        self.ever_heard = True

    def silent_ms(self, now_ms: float, fresh_since_ms: float = -math.inf) -> float | None:
        """How long this silence counts by now; None when it has not been heard since the start."""
        return None if self._last_ms is None else max(0.0, now_ms - max(self._last_ms, fresh_since_ms))

    def level(self, now_ms: float, fresh_since_ms: float = -math.inf) -> float:
        """Phi: 1 means that one silence in ten lasts as long as this one, 2 one in a hundred; 0 when never heard."""
        silent_ms = self.silent_ms(now_ms, fresh_since_ms)
        return 0.0 if silent_ms is None else _phi(silent_ms, *self._rhythm())

    def verdict(self, now_ms: float, fresh_since_ms: float = -math.inf) -> Verdict:
        silent_ms = self.silent_ms(now_ms, fresh_since_ms)
        if silent_ms is None:
            return self._unheard(now_ms, fresh_since_ms)
        if silent_ms < self._timings.probe_after_ms:
            return Heard(silent_ms)
        if silent_ms >= self._timings.suspicion_ms:
            return Silent(silent_ms)
        level = _phi(silent_ms, *self._rhythm())
        certain = silent_ms >= self._timings.suspicion_floor_ms and level >= _PHI_THRESHOLD
        return Silent(silent_ms) if certain else Missing(silent_ms, level)

    def next_change_ms(self, now_ms: float, fresh_since_ms: float = -math.inf) -> float:
        """When to ask again, if nothing is heard: the next moment at which the verdict may differ; `inf` for never.
        Always later than `now_ms`, also where what is missing to it is less than a number of this size can tell.
        """
        return max(self._next_change_ms(now_ms, fresh_since_ms), math.nextafter(now_ms, math.inf))

    def _next_change_ms(self, now_ms: float, fresh_since_ms: float) -> float:
        silent_ms = self.silent_ms(now_ms, fresh_since_ms)
        timings = self._timings
        if silent_ms is None:
            due_ms = self._grace_ends_ms(fresh_since_ms)
            return due_ms if due_ms > now_ms else math.inf
        for bound_ms in (timings.probe_after_ms, timings.suspicion_floor_ms):
            if silent_ms < bound_ms:
                return now_ms + bound_ms - silent_ms
        if silent_ms >= timings.suspicion_ms:
            return math.inf
        return now_ms + min(timings.suspicion_ms - silent_ms, 10.0)

    def _unheard(self, now_ms: float, fresh_since_ms: float) -> Verdict:
        if not self.ever_heard:
            return NeverHeard()
        remaining_ms = self._grace_ends_ms(fresh_since_ms) - now_ms
        if remaining_ms > 0:
            return Awaited(remaining_ms)
        return Silent(now_ms - self._started_ms, heard_since_start=False)

    def _grace_ends_ms(self, fresh_since_ms: float) -> float:
        return max(self._started_ms + self._timings.start_grace_ms, fresh_since_ms + self._timings.suspicion_ms)

    def _rhythm(self) -> tuple[float, float]:
        """Mean and standard deviation of the intervals, never more regular than a fifth of what is configured."""
        heartbeat_ms = self._timings.heartbeat_ms
        if len(self._intervals) < _LEAST_SAMPLES:
            return heartbeat_ms, heartbeat_ms / 4
        mean_ms = sum(self._intervals) / len(self._intervals)
        variance = sum((each - mean_ms) ** 2 for each in self._intervals) / len(self._intervals)
        return mean_ms, max(math.sqrt(variance), heartbeat_ms / 5)


def _phi(silent_ms: float, mean_ms: float, deviation_ms: float) -> float:
    longer = math.erfc((silent_ms - mean_ms) / (deviation_ms * math.sqrt(2))) / 2
    return -math.log10(longer) if longer > 0 else math.inf


@dataclass(frozen=True, slots=True)
class Signs:
    """What else is known of a peer. Each age in milliseconds before now, None for never."""

    probe_answered_ms: float | None = None
    """Since its agent or its database (not its guard) answered a direct probe."""
    replication_moved_ms: float | None = None
    """Since the replication between it and the observer moved. On an idle cluster it need not."""
    register_renewed_ms: float | None = None
    """`async` alone: since the register was last seen to change."""


def suspects(peer: str, verdicts: Mapping[str, Verdict], signs: Signs, timings: Timings) -> bool:
    """Whether the observer suspects `peer`: heartbeats silent, and no other sign of life within the same bound.

    `verdicts` holds the observer's verdict on each other voter. A peer not heard since the observer's start is
    suspected only by an observer that hears somebody else, or has nobody else to hear: otherwise it is likelier that
    the observer itself is cut off (`docs/protocol.md`, "How leadership ends").
    """
    verdict = verdicts.get(peer)
    if not isinstance(verdict, Silent):
        return False
    others = [each for name, each in verdicts.items() if name != peer]
    if not verdict.heard_since_start and others and not any(isinstance(each, Heard | Missing) for each in others):
        return False
    return no_sign_of_life(signs, timings)


def no_sign_of_life(signs: Signs, timings: Timings) -> bool:
    """Whether nothing but heartbeats could still speak for a peer."""
    ages = (signs.probe_answered_ms, signs.replication_moved_ms, signs.register_renewed_ms)
    return all(age is None or age >= timings.suspicion_floor_ms for age in ages)
