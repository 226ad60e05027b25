"""What may be changed over HTTP: each command's fields, checked before the agent hears of it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twinstar.api.control import Control, Outcome
from twinstar.model.errors import UsageError


@dataclass(frozen=True, slots=True)
class Field:
    kind: type
    required: bool = False
    default: Any = None


@dataclass(frozen=True, slots=True)
class Command:
    fields: dict[str, Field]
    run: Callable[[Control, dict[str, Any]], Awaitable[Outcome]]


_MEMBER = {"member": Field(str, required=True)}
_TO = Field(str)

COMMANDS: dict[str, Command] = {
    "switchover": Command({"to": _TO}, lambda control, body: control.switchover(body["to"])),
    "failover": Command(
        {"to": _TO, "accept_loss": Field(bool, default=False)},
        lambda control, body: control.failover(body["to"], body["accept_loss"]),
    ),
    "pause": Command({}, lambda control, _: control.pause()),
    "resume": Command({}, lambda control, _: control.resume()),
    "restart": Command(_MEMBER, lambda control, body: control.restart(body["member"])),
    "reinit": Command(_MEMBER, lambda control, body: control.reinit(body["member"])),
    "remove": Command(_MEMBER, lambda control, body: control.remove(body["member"])),
    "leave": Command(_MEMBER, lambda control, body: control.leave(body["member"])),
    "rejoin": Command(_MEMBER, lambda control, body: control.rejoin(body["member"])),
    "reload": Command({}, lambda control, _: control.reload()),
    "ready-to-migrate": Command({}, lambda control, _: control.ready_to_migrate()),
    "migrate": Command({"dry_run": Field(bool, default=False)}, lambda control, body: control.migrate(body["dry_run"])),
}


_KINDS: dict[type, str] = {bool: "true or false", str: "text", int: "a whole number", list: "a list"}


def read_body(fields: Mapping[str, Field], body: bytes) -> dict[str, Any]:
    """The command's fields, complete with defaults; an empty body is an empty object. Raises UsageError."""
    try:
        raw = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError):
        raise UsageError('The body is no JSON: send an object such as {"to": "n2"}.') from None
    if not isinstance(raw, dict):
        raise UsageError('The body is no JSON object: send one such as {"to": "n2"}.')
    for name in raw:
        if name not in fields:
            known = ", ".join(f"`{field}`" for field in fields) or "none"
            raise UsageError(f"`{name}` is not a known field of this command: known here are {known}.")
    return {name: _value(name, field, raw.get(name)) for name, field in fields.items()}


def _value(name: str, field: Field, value: Any) -> Any:
    if value is None:
        if field.required:
            raise UsageError(f"`{name}` is missing: name it in the JSON body.")
        return field.default
    if type(value) is not field.kind:
        kind = _KINDS[field.kind]
        raise UsageError(f"`{name}` must be {kind}, not {json.dumps(value)}.")
    if value == "":
        raise UsageError(f"`{name}` is empty: name a member, or leave it out.")
    return value
