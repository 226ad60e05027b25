"""Which status code a load balancer gets. Pure: from `Health` and the query to 200 or 503.

The paths and their meaning are those that HAProxy configurations for PostgreSQL already ask for:

=====================================  ==================================================================
path                                   200 when
=====================================  ==================================================================
/primary, /leader, /read-write, /      leads, and accepts connections
/replica                               a standby that streams, accepts connections, within ``?lag=``
/read-only                             either of them
/health                                the database accepts connections, whatever it is
/readiness                             leads, or is a standby that streams; ready for traffic
/liveness                              the agent's own loop gets on (restart it when not)
=====================================  ==================================================================

A leader answers 200 before its epoch is open: behind a load balancer without epochs nobody else could serve, and the
body says ``open``. These answers are a snapshot, not a fence: only the router refuses an older epoch.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from twinstar.api.control import Health, HealthRole

_UNITS = {"": 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}
_SIZE = re.compile(r"^(\d{1,15})\s*([a-z]*)$")


def parse_size(text: str) -> int:
    """Bytes of ``16MB``, ``512kB`` or ``1048576``. Raises ValueError for anything else."""
    match = _SIZE.match(text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is no size: write bytes, or a number with kB, MB or GB, such as 16MB")
    return int(match[1]) * _UNITS[match[2]]


def primary(health: Health, _lag: int | None) -> bool:
    return health.role is HealthRole.LEADER and health.accepting


def replica(health: Health, lag: int | None) -> bool:
    """With a bound, a standby whose lag is unknown does not qualify."""
    if health.role is not HealthRole.STANDBY or not health.accepting or not health.streaming:
        return False
    return lag is None or (health.lag_bytes is not None and health.lag_bytes <= lag)


def read_only(health: Health, lag: int | None) -> bool:
    return primary(health, lag) or replica(health, lag)


def healthy(health: Health, _lag: int | None) -> bool:
    return health.accepting


def ready(health: Health, lag: int | None) -> bool:
    return read_only(health, lag)


def alive(health: Health, _lag: int | None) -> bool:
    return not health.stalled


CHECKS: dict[str, Callable[[Health, int | None], bool]] = {
    "/": primary,
    "/primary": primary,
    "/leader": primary,
    "/read-write": primary,
    "/replica": replica,
    "/read-only": read_only,
    "/health": healthy,
    "/readiness": ready,
    "/liveness": alive,
}
