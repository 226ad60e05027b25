"""The status codes that HAProxy and the users of Patroni know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from twinstar.api.control import Health, HealthRole
from twinstar.api.health import CHECKS, parse_size

LEADER = Health(HealthRole.LEADER, "running", 3, accepting=True, open=True)
STANDBY = Health(HealthRole.STANDBY, "streaming", 3, accepting=True, lag_bytes=100, streaming=True)
SEALED = Health(HealthRole.NONE, "sealed", 4, accepting=True)
STARTING = Health(HealthRole.NONE, "starting", 3, accepting=False)
DETACHED = replace(STANDBY, streaming=False)

FOR_WRITES = {"/", "/primary", "/leader", "/read-write"}
FOR_READS = {"/read-only", "/readiness"}
RUNS = {"/health", "/liveness"}


@pytest.mark.parametrize(
    ("health", "good"),
    [
        (LEADER, FOR_WRITES | FOR_READS | RUNS),
        (STANDBY, {"/replica"} | FOR_READS | RUNS),
        (DETACHED, RUNS),
        (SEALED, RUNS),
        (STARTING, {"/liveness"}),
        (replace(LEADER, accepting=False), {"/liveness"}),
        (replace(LEADER, open=False), FOR_WRITES | FOR_READS | RUNS),
        (replace(LEADER, store_reachable=False), FOR_WRITES | FOR_READS | RUNS),
        (replace(STANDBY, stalled=True), {"/replica", "/health"} | FOR_READS),
    ],
)
def test_who_answers_what(health: Health, good: set[str]) -> None:
    assert {path for path, check in CHECKS.items() if check(health, None)} == good


@pytest.mark.parametrize(
    ("lag", "bound", "good"), [(100, 100, True), (101, 100, False), (None, 100, False), (0, 0, True)]
)
def test_a_lag_bound_takes_known_lags_only(lag: int | None, bound: int, good: bool) -> None:
    standby = replace(STANDBY, lag_bytes=lag)
    for path in ("/replica", "/read-only", "/readiness"):
        assert CHECKS[path](standby, bound) is good
    assert CHECKS["/read-only"](LEADER, bound), "a leader has no lag"


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("1048576", 1 << 20), ("16MB", 16 << 20), ("8 kB", 8192), ("1gb", 1 << 30)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1.5MB", "10s", "9" * 20, "1 e5"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)
