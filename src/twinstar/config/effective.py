"""Every value in effect and where it comes from: what `twinstar show-config` prints. No secret is among them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from pydantic import BaseModel

from twinstar.config.derive import policy, renewal_ms, required, timings
from twinstar.config.schema import Config
from twinstar.config.strategies import belongs
from twinstar.model.register import Durability
from twinstar.model.timing import Timings


@dataclass(frozen=True, slots=True)
class Effective:
    """A value that is in effect, and where it comes from."""

    value: Any
    origin: Literal["file", "preset", "derived", "default"]


def effective(config: Config) -> dict[str, Effective]:
    """Every value in effect by its key's path (``timing.heartbeat_ms``, ``nodes[0].port``), in the file's order.

    `derived` values follow from others in the file, `preset` ones from the preset. No secret is among them, and no key
    that the strategy has no use for.
    """
    found = dict(_walk(config, ""))
    for name in ("required", "policy"):
        if getattr(config, name) is None:
            found[name] = Effective({"required": required, "policy": policy}[name](config), "derived")
    for field in fields(Timings):
        key = f"timing.{field.name}"
        if key not in found or found[key].value is None:
            origin: Literal["preset", "default"] = "preset" if field.name in _BY_PRESET else "default"
            found[key] = Effective(getattr(timings(config), field.name), origin)
    found.pop("timing.renewal_ms")
    if config.durability is Durability.ASYNC:
        origin_of_renewal: Literal["file", "derived"] = "file" if config.timing.renewal_ms else "derived"
        found["timing.renewal_ms"] = Effective(renewal_ms(config), origin_of_renewal)
    return {key: entry for key, entry in found.items() if belongs(key, config.strategy)}


_BY_PRESET = frozenset(
    field.name
    for field in fields(Timings)
    if getattr(Timings.preset("fast"), field.name) != getattr(Timings.preset("patient"), field.name)
)


def _walk(section: BaseModel, path: str) -> list[tuple[str, Effective]]:
    found: list[tuple[str, Effective]] = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        written = name in section.model_fields_set
        found += _leaves(value, f"{path}.{name}".removeprefix("."), "file" if written else "default")
    return found


def _leaves(value: Any, path: str, origin: Literal["file", "default"]) -> list[tuple[str, Effective]]:
    if isinstance(value, BaseModel):
        return _walk(value, path)
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return [leaf for index, entry in enumerate(value) for leaf in _walk(entry, f"{path}[{index}]")]
    if isinstance(value, dict) and value:
        return [(f"{path}.{key}", Effective(entry, origin)) for key, entry in value.items()]
    return [(path, Effective(value, origin))]
