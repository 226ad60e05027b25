"""`twinstar status`: the cluster as a table, a JSON document, or a view that goes on."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from twinstar.cli.ask import ask_status
from twinstar.cli.managed_store import look, to_json
from twinstar.cli.output import console, print_json
from twinstar.config.schema import Config
from twinstar.model.errors import EnvironmentTrouble, PeerError

_WATCH_S = 0.5
_GOOD = {"running", "streaming", "serving"}
_BAD = {"crashed", "refused", "unreachable", "stopped", "dead", "fenced"}
_KIB = 1024


def show_status(config: Config, *, as_json: bool) -> None:
    """Once."""
    status = _asked(config)
    if as_json:
        print_json(status)
    else:
        console().print(rendered(status), soft_wrap=True)


def watch_status(config: Config, *, as_json: bool) -> None:
    """Until Ctrl-C."""
    try:
        if as_json:
            while True:
                print_json(_asked(config))
                time.sleep(_WATCH_S)
        with Live(_now(config), console=console(), refresh_per_second=4, screen=False) as live:
            while True:
                time.sleep(_WATCH_S)
                live.update(_now(config))
    except KeyboardInterrupt:
        return


def _asked(config: Config) -> dict[str, Any]:
    """The agents' word, and of a store that Twinstar runs its members' own."""
    status = ask_status(config)
    if config.store.managed is not None:
        status["store"] |= to_json(look(config), config)
    return status


def _now(config: Config) -> RenderableType:
    try:
        return rendered(_asked(config))
    except (EnvironmentTrouble, PeerError) as trouble:
        return Text(str(trouble), style="red")


def rendered(status: dict[str, Any]) -> RenderableType:
    """What people see of `status --json`."""
    return Group(_headline(status), _members(status), *_remarks(status), *_store(status["store"]), _endpoints(status))


def _store(store: dict[str, Any]) -> list[RenderableType]:
    if "members" not in store:
        return []
    return [store_table(store), Text(store["one_more_loss"], style="" if store["spare"] > 0 else "bold yellow")]


def store_table(store: dict[str, Any]) -> Table:
    """The members of a store that Twinstar runs."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("store", "state", "answers in", "size", "etcd", "address", "note"):
        table.add_column(column, justify="right" if column in ("answers in", "size") else "left")
    for member in store["members"]:
        latency = member["latency_ms"]
        table.add_row(
            member["name"],
            Text(member["state"], style="green" if member["state"] in ("leader", "voter") else "bold red"),
            "" if latency is None else f"{latency:.1f} ms",
            "" if member["size_bytes"] is None else size(member["size_bytes"]),
            member["version"] or "",
            member["address"],
            "full" if member["full"] else member["trouble"],
        )
    return table


def _headline(status: dict[str, Any]) -> Text:
    opened = "open" if status["open"] else "not open to clients"
    text = Text()
    text.append(status["cluster"], style="bold")
    text.append(f"  {status['strategy']}, {status['durability']}")
    if status["required"]:
        text.append(f" ({status['required']} must confirm)")
    text.append(f"\nepoch {status['epoch']}, {status['phase']}, ")
    text.append(opened, style="green" if status["open"] else "bold red")
    if status["paused"]:
        text.append(", paused", style="bold yellow")
    return text


def _members(status: dict[str, Any]) -> Table:
    return _nodes(status) if status["strategy"] == "active-active" else _leader_and_standbys(status)


def _nodes(status: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    numbers = ("number", "sessions", "lag", "clock", "conflicts", "dead letters")
    for column in ("node", "state", *numbers, "address", "note"):
        table.add_column(column, justify="right" if column in numbers else "left")
    for member in status["members"]:
        table.add_row(
            member["name"],
            Text(member["state"], style=_style(member["state"])),
            *(_text(member[name]) for name in ("number", "sessions")),
            "?" if member["lag_ms"] is None else f"{member['lag_ms']:.0f} ms",
            _clock(member["skews_ms"]),
            *(_text(member[name]) for name in ("conflicts", "dead_letters")),
            f"{member['host']}:{member['port']}",
            member["note"],
        )
    return table


def _clock(skews_ms: dict[str, float]) -> str:
    """The greatest difference from another node's clock."""
    return "?" if not skews_ms else f"{max(skews_ms.values(), key=abs):+.0f} ms"


def _leader_and_standbys(status: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("member", "role", "state", "epoch", "timeline:position", "lag", "address", "note"):
        table.add_column(column, justify="right" if column == "lag" else "left")
    for member in status["members"]:
        table.add_row(
            member["name"],
            Text(member["role"], style="bold" if member["role"] == "leader" else ""),
            Text(member["state"], style=_style(member["state"])),
            _text(member["epoch"]),
            _text(member["position"]),
            "" if member["role"] == "leader" else size(member["lag_bytes"]),
            f"{member['host']}:{member['port']}",
            member["note"],
        )
    return table


def _style(state: str) -> str:
    return "green" if state in _GOOD else "bold red" if state in _BAD else "yellow"


def _text(value: object) -> str:
    return "?" if value is None else str(value)


def size(count: int | None) -> str:
    """Bytes for people."""
    if count is None:
        return "?"
    if count < _KIB:
        return f"{count} B"
    return f"{count / _KIB:.0f} KiB" if count < _KIB * _KIB else f"{count / _KIB / _KIB:.1f} MiB"


def _remarks(status: dict[str, Any]) -> list[Text]:
    remarks = []
    if status["waiting_for"]:
        remarks.append(Text(status["waiting_for"], style="bold yellow"))
    if not status["store"]["reachable"]:
        remarks.append(Text(f"The store ({status['store']['kind']}) does not answer.", style="bold yellow"))
    if status["restart_pending"]:
        remarks.append(Text("Waits for `twinstar restart`: " + ", ".join(status["restart_pending"]), style="yellow"))
    if status["drift"]:
        remarks.append(Text("Differs from the configuration: " + ", ".join(status["drift"]), style="yellow"))
    return remarks


def _endpoints(status: dict[str, Any]) -> Text:
    endpoints = status["endpoints"]
    return Text("\n".join(f"{name:<5} {dsn}" for name, dsn in endpoints.items()), style="dim")
