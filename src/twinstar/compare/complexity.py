"""What one must configure and know: facts, not a score.

Settings are the configuration's keys that have an effect with this strategy and durability; processes are the ones that
ran; commands are the ones that mean something. What is given up is what one server promises and this cluster does not,
with the place where the documentation says so; that list is written by hand, for what is absent leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

from pydantic import BaseModel

from twinstar.compare.comparison import Complexity, GivenUp
from twinstar.compare.contestants import Entry
from twinstar.config.schema import Config
from twinstar.config.strategies import belongs

_ONE_DURABILITY = {
    "async": {"lease_ms", "maximum_lag_bytes", "timing.renewal_ms"},
    "quorum": {"required", "policy", "timing.voter_removal_ms"},
}
"""Keys that have an effect with this durability alone."""

COMMANDS = {
    "active-passive": ("switchover", "failover", "pause", "resume", "restart", "reinit", "remove"),
    "active-active": (
        *("leave", "rejoin", "remove", "reinit"),
        *("tables list", "tables check", "tables add", "tables remove"),
        *("conflicts", "conflicts show", "conflicts restore"),
        *("dead-letters list", "dead-letters retry", "verify"),
    ),
}
"""What is for this strategy alone, or means something else in it; `up`, `status` and the like are for both."""

_NOT_PROMISED = "docs/active-active.md#what-is-not-promised"
_A_TABLE_NEEDS = "docs/active-active.md#what-a-table-needs"
_STALE = GivenUp("reads on another node see every acknowledged write", _NOT_PROMISED)
_LAST = GivenUp("an acknowledged write survives the loss of one machine", "docs/configuration.md#the-cluster")
_MANY_WRITERS = (
    GivenUp("transactions are isolated from those on other nodes", _NOT_PROMISED),
    GivenUp("a transaction's rows stay or go together", _NOT_PROMISED),
    GivenUp("a unique value is accepted once", _NOT_PROMISED),
    GivenUp("foreign keys hold between nodes", _NOT_PROMISED),
    GivenUp("an acknowledged update stays until somebody overwrites it knowingly", _NOT_PROMISED),
    GivenUp("every statement works: there is no TRUNCATE, and schema changes are made node by node", _A_TABLE_NEEDS),
)


def measure(entry: Entry, programs: Iterable[str]) -> Complexity:
    """`programs` are the names of the processes that run."""
    given_up = (_STALE, *(_MANY_WRITERS if entry.all_write else ()), *((_LAST,) if entry.durability == "async" else ()))
    return Complexity(settings(entry), tuple(programs), COMMANDS[entry.strategy], given_up)


def settings(entry: Entry) -> tuple[str, ...]:
    """The keys, in the schema's order."""
    other = _ONE_DURABILITY["quorum" if entry.durability == "async" else "async"]
    return tuple(key for key in _keys(Config) if belongs(key, entry.strategy) and key not in other)


def _keys(model: type[BaseModel], path: str = "") -> list[str]:
    found: list[str] = []
    for name, field in model.model_fields.items():
        sections = [each for each in _types(field.annotation) if isinstance(each, type) and issubclass(each, BaseModel)]
        found += _keys(sections[0], f"{path}{name}.") if sections else [f"{path}{name}"]
    return found


def _types(annotation: Any) -> list[Any]:
    return [annotation, *(each for part in get_args(annotation) for each in _types(part))]
