"""Which keys belong to one strategy alone. Written for the other one they are refused: they would do nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import BaseModel

from twinstar.config.schema import Config, Strategy
from twinstar.model.errors import UsageError

_NOBODY_LEADS = "every node takes writes, so nobody leads and nobody takes over"
_ONE_WRITES = "only the leader takes writes there"

ALONE: dict[Strategy, dict[str, str]] = {
    "active-passive": {
        "lease_ms": _NOBODY_LEADS,
        "maximum_lag_bytes": _NOBODY_LEADS,
        "nodes.tags.nofailover": _NOBODY_LEADS,
        "nodes.tags.priority": _NOBODY_LEADS,
        "router.write_port": "every node takes writes: `router.any_port` is the one for them",
        "router.max_read_lag_bytes": "`router.max_read_lag_ms` is the bound there",
        "timing.election_timeout_ms": _NOBODY_LEADS,
        "timing.renewal_ms": _NOBODY_LEADS,
        "timing.start_grace_ms": _NOBODY_LEADS,
        "timing.guard_grace_ms": _NOBODY_LEADS,
    },
    "active-active": {
        "tables": _ONE_WRITES,
        "removal_ms": "`timing.voter_removal_ms` is what takes a member out there",
        "clock_bound_ms": "clocks decide nothing there",
        "router.any_port": f"{_ONE_WRITES}: `router.write_port` is the one for them",
        "router.max_read_lag_ms": "`router.max_read_lag_bytes` is the bound there",
    },
}
"""By strategy: key → why the other strategy has no use for it."""


def strategy_named(text: str) -> Strategy:
    """Raises UsageError when there is none of this name."""
    named = next((strategy for strategy in ALONE if strategy == text), None)
    if named is not None:
        return named
    raise UsageError(f"There is no strategy {text!r}: choose active-passive or active-active.")


def belongs(key: str, strategy: Strategy) -> bool:
    """Does this key, such as ``nodes[0].port``, mean anything in this strategy?"""
    return _stranger(key, strategy) is None


def keys_of_the_strategy(config: Config) -> str | None:
    """The first key in the file that the strategy has no use for, in one sentence."""
    for key in _written(config, ""):
        stranger = _stranger(key, config.strategy)
        if stranger is not None:
            other, why = stranger
            return (
                f"`{key}` is for `strategy: {other}` alone, and this cluster is {config.strategy} ({why}): remove it."
            )
    return None


def ports_of_the_strategy(config: Config) -> str | None:
    """The router's port for writes has another name in each strategy."""
    if config.router is None:
        return None
    name = main_port(config.strategy)
    if getattr(config.router, name) is None:
        return f"`router.{name}` is missing: add it, such as {name}: 6432."
    return None


def main_port(strategy: Strategy) -> str:
    """The key of the router's port for sessions that write."""
    return "write_port" if strategy == "active-passive" else "any_port"


def _stranger(key: str, strategy: Strategy) -> tuple[Strategy, str] | None:
    path = re.sub(r"\[[^]]*\]", "", key)
    for other, keys in ALONE.items():
        found = next((why for mine, why in keys.items() if path == mine or path.startswith(f"{mine}.")), None)
        if other != strategy and found is not None:
            return other, found
    return None


def _written(section: BaseModel, path: str) -> Iterator[str]:
    """The keys that stand in the file, in the schema's order."""
    for name in type(section).model_fields:
        if name not in section.model_fields_set:
            continue
        key, value = f"{path}.{name}".removeprefix("."), getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _written(value, key)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            yield key
            for index, entry in enumerate(value):
                yield from _written(entry, f"{key}[{index}]")
        else:
            yield key
