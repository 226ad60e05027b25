"""All durations of the protocol, derived from two numbers: how often a sign of life is sent, and how many may miss.

With heartbeats every ``h`` milliseconds and a patience of ``p`` of them:

====================  ==============================  ======  ========  =======
duration (ms)         formula                         fast    balanced  patient
====================  ==============================  ======  ========  =======
heartbeat             h                                  100       250    1,000
probe after           min(2.25 h, 0.6 suspicion)         225       562    2,250
suspicion floor       7/8 suspicion                      350     1,312    7,000
suspicion             p h                                400     1,500    8,000
own stall             min(3 h, 0.8 suspicion)            300       750    3,000
election timeout      10 h                             1,000     2,500   10,000
hung query            10 h, at least 1,000             1,000     2,500   10,000
agent silent          8 suspicion, at least 3,000      3,200    12,000   64,000
voter removal         2 suspicion, at least 10,000    10,000    10,000   16,000
====================  ==============================  ======  ========  =======

The probe goes out in parallel when the second heartbeat is overdue by a quarter of an interval, so that its deadline
ends with the suspicion and costs no time of its own. What does not depend on the network's pace (naming delay,
back-off) is the same in every preset. Who overrides one number gets the others derived from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from twinstar.model.errors import UsageError

_PRESETS: dict[str, tuple[float, float]] = {"fast": (100, 4), "balanced": (250, 6), "patient": (1_000, 8)}
"""Heartbeat in milliseconds, and the patience: after how many of them silence is complete."""

_LEAST_MISSED = 2.5
"""Suspicion below this many heartbeats would take one lost datagram for a death."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Every derived duration, in milliseconds."""

    heartbeat_ms: float
    """Between two signs of life of a guard."""
    probe_after_ms: float
    """Silence after which the direct probe begins."""
    suspicion_floor_ms: float
    """Silence below which nobody is suspected, however regular the heartbeats were."""
    suspicion_ms: float
    """Silence after which suspicion is complete, however irregular they were; the probe's time is inside."""
    stall_ms: float
    """A member that did not run for so long itself begins a fresh window."""
    election_timeout_ms: float
    """After which an unfinished candidacy is superseded."""
    hung_query_ms: float
    """The deadline of one real query on a fresh connection."""
    agent_silent_ms: float
    """Silence of the agent after which its guard tests the database itself."""
    hung_strikes: int = 3
    """Missed deadlines in a row that make a database hung."""
    naming_delay_ms: float = 50
    """How long the copies that are not the candidacy's author wait before they name a winner."""
    retry_first_ms: float = 20
    retry_most_ms: float = 1_000
    """Back-off between attempts: doubles from the first to the most."""
    voter_removal_ms: float = 10_000
    """Absence after which a voter may be dropped: never before its silence is certain."""
    start_grace_ms: float = 10_000
    """After its own start, how long a member gives the others to be heard at all."""
    guard_grace_ms: float = 2_000
    """How long a guard that knows of a higher epoch waits for its agent to act."""

    @property
    def probe_deadline_ms(self) -> float:
        """How long a probe may take to count before suspicion is complete at the earliest."""
        return self.suspicion_floor_ms - self.probe_after_ms

    def retry_ms(self, attempt: int, share: float) -> float:
        """The pause before attempt 1, 2, …; `share` is random from [0, 1) and spreads those who fail together."""
        full = min(self.retry_most_ms, self.retry_first_ms * 2.0 ** min(attempt - 1, 30))
        return full * (0.5 + share / 2)

    def election_pause_ms(self, share: float) -> float:
        """The random back-off before an unfinished candidacy is superseded, on top of `election_timeout_ms`."""
        return share * self.election_timeout_ms / 2

    @classmethod
    def preset(cls, name: str, overrides: Mapping[str, float | None] | None = None) -> Timings:
        """The preset's durations; what `overrides` gives (None: nothing) replaces one and those derived from it.

        Raises UsageError for an unknown preset or field, and for a suspicion that one lost heartbeat would complete.
        """
        given = {key: value for key, value in (overrides or {}).items() if value is not None}
        known = {field.name for field in fields(cls)}
        if name not in _PRESETS:
            raise UsageError(f"There is no preset {name!r}: choose one of {', '.join(_PRESETS)}.")
        if unknown := sorted(given.keys() - known):
            raise UsageError(f"There is no duration {unknown[0]!r}: choose one of {', '.join(sorted(known))}.")
        derived = _derive(name, given)
        if derived["suspicion_ms"] < _LEAST_MISSED * derived["heartbeat_ms"]:
            raise UsageError(
                f"suspicion_ms ({derived['suspicion_ms']:g}) must be at least {_LEAST_MISSED:g} times heartbeat_ms "
                f"({derived['heartbeat_ms']:g}): otherwise one lost datagram counts as a death."
            )
        derived.update(given)
        return cls(**{**derived, "hung_strikes": int(derived.get("hung_strikes", 3))})  # type: ignore[arg-type]


def _derive(name: str, given: Mapping[str, float]) -> dict[str, float]:
    """The formulas of the table at the head."""
    heartbeat_ms, patience = _PRESETS[name]
    heartbeat_ms = given.get("heartbeat_ms", heartbeat_ms)
    suspicion_ms = given.get("suspicion_ms", patience * heartbeat_ms)
    return {
        "heartbeat_ms": heartbeat_ms,
        "suspicion_ms": suspicion_ms,
        "probe_after_ms": min(2.25 * heartbeat_ms, 0.6 * suspicion_ms),
        "suspicion_floor_ms": 0.875 * suspicion_ms,
        "stall_ms": min(3 * heartbeat_ms, 0.8 * suspicion_ms),
        "election_timeout_ms": 10 * heartbeat_ms,
        "hung_query_ms": max(1_000.0, 10 * heartbeat_ms),
        "agent_silent_ms": max(3_000.0, 8 * suspicion_ms),
        "voter_removal_ms": max(10_000.0, 2 * suspicion_ms),
    }


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """`async` alone: what follows from the length of the lease. Milliseconds."""

    lease_ms: float
    """From before a renewal was sent, how long the leader may go on."""
    renewal_ms: float
    """Between two renewals: four may fail in a row before the lease ends."""
    take_over_ms: float
    """How long the others must have seen the register unchanged, on their own clocks: the lease plus a margin for
    clocks that run at different rates (1 %) and for a guard that is scheduled late (150 ms)."""

    @classmethod
    def of(cls, lease_ms: float, renewal_ms: float | None = None) -> LeaseTimes:
        return cls(lease_ms, renewal_ms or lease_ms / 5, lease_ms * 1.01 + 150)
