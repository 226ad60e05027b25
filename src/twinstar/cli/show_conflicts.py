"""`twinstar conflicts` and `twinstar dead-letters`: what has lost, what waits, and what to do about it."""

from __future__ import annotations

import asyncio
import datetime
import json
import re
from pathlib import Path
from typing import Any

from rich.table import Table

from twinstar.api.all_nodes import everywhere
from twinstar.cli.output import console, print_json, print_line
from twinstar.cli.tables import opened
from twinstar.config.tables import split
from twinstar.model.errors import UsageError

_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


def since_of(text: str | None, now: datetime.datetime) -> str | None:
    """An ISO 8601 time from one, or from an age such as ``30min``, ``2h``, ``7d``. Raises UsageError."""
    if text is None:
        return None
    age = re.fullmatch(r"(\d+)(s|min|h|d)", text)
    if age:
        return (now - datetime.timedelta(seconds=int(age[1]) * _UNITS[age[2]])).isoformat()
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--since {text} is no time: write 30min, 2h, 7d or 2026-05-01T12:00:00+00:00.") from None
    return (at if at.tzinfo else at.replace(tzinfo=datetime.UTC)).isoformat()


def merged(answers: dict[str, dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """The latest conflicts of all nodes, the latest first. What several have seen is one, under the first one's
    number."""
    found: dict[str, dict[str, Any]] = {}
    for member, answer in sorted(answers.items()):
        for conflict in answer["conflicts"]:
            same = json.dumps(
                [conflict["schema"], conflict["name"], conflict["key"], conflict["loser_stamp"]], sort_keys=True
            )
            known = found.setdefault(same, {**conflict, "id": f"{member}.{conflict['id']}", "seen_by": []})
            known["seen_by"].append(member)
            known["restored_at"] = known["restored_at"] or conflict["restored_at"]
    return sorted(found.values(), key=lambda each: each["at"], reverse=True)[:limit]


def show_conflicts(config: Path | None, table: str | None, since: str | None, limit: int, *, as_json: bool) -> None:
    """The latest of all nodes."""
    wanted: dict[str, Any] = {"limit": limit}
    if table is not None:
        wanted["schema"], wanted["table"] = split(table)
    if (begins := since_of(since, datetime.datetime.now(datetime.UTC))) is not None:
        wanted["since"] = begins
    _, ask, members = opened(config)
    conflicts = merged(asyncio.run(everywhere(members, ask, "conflicts/list", wanted)), limit)
    if as_json:
        print_json(conflicts)
    elif not conflicts:
        print_line("Nothing has lost.")
    else:
        console().print(_conflict_table(conflicts), soft_wrap=True)


def _conflict_table(conflicts: list[dict[str, Any]]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("id", "time", "table", "key", "kind", "lost", "won", ""):
        shown.add_column(column)
    for each in conflicts:
        shown.add_row(
            each["id"],
            each["at"][:19].replace("T", " "),
            f"{each['schema']}.{each['name']}",
            ", ".join(str(value) for value in each["key"].values()),
            each["kind"],
            image_words(each["loser_image"], each["winner_image"]),
            image_words(each["winner_image"], each["loser_image"]),
            "restored" if each["restored_at"] else "",
        )
    return shown


def image_words(image: dict[str, str | None] | None, other: dict[str, str | None] | None) -> str:
    """What is in a row that is not in the other one."""
    if image is None:
        return "a deletion"
    own = {name: value for name, value in image.items() if not name.startswith("twinstar_")}
    differing = {name: value for name, value in own.items() if other is None or other.get(name) != value}
    return ", ".join(f"{name}={'NULL' if value is None else value}" for name, value in differing.items()) or "the same"


def show_conflict(config: Path | None, number: str, *, as_json: bool) -> None:
    """One, with both rows whole."""
    _, ask, members = opened(config)
    member, own = _split(number, members)
    found = asyncio.run(ask(member, "conflicts/show", {"number": own}))
    if as_json:
        print_json({**found, "id": number})
        return
    print_line(f"{found['schema']}.{found['name']}, {found['kind']}, seen by {member} at {found['at']}")
    for which in ("winner", "loser"):
        print_line(f"{which} (stamp {found[f'{which}_stamp']})")
        for name, value in (found[f"{which}_image"] or {"deleted": ""}).items():
            print_line(f"  {name} = {'NULL' if value is None else value}")
    if found["restored_at"]:
        print_line(f"restored at {found['restored_at']}")


def restore_conflict(config: Path | None, number: str, *, as_json: bool) -> None:
    """Writes what lost as a new version, on the node whose log it is in."""
    _, ask, members = opened(config)
    member, own = _split(number, members)
    done = asyncio.run(ask(member, "conflicts/restore", {"number": own}))
    if as_json:
        print_json({**done, "id": number})
    else:
        key = ", ".join(str(value) for value in done["key"].values())
        print_line(f"What lost is written again: {done['schema']}.{done['name']}, key {key}.")


def _split(number: str, members: list[str]) -> tuple[str, int]:
    member, _, own = number.rpartition(".")
    if member not in members or not own.isdecimal():
        raise UsageError(f"{number!r} is no conflict's number: write one that `twinstar conflicts` shows, as n1.17.")
    return member, int(own)


def show_dead_letters(config: Path | None, *, as_json: bool) -> None:
    """What waits on each node."""
    _, ask, members = opened(config)
    answers = asyncio.run(everywhere(members, ask, "dead-letters/list", {}))
    letters = [{**each, "node": member} for member, answer in answers.items() for each in answer["dead_letters"]]
    if as_json:
        print_json(letters)
        return
    if not letters:
        print_line("Nothing waits.")
        return
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("node", "id", "time", "table", "from", "what", "why"):
        shown.add_column(column)
    for each in letters:
        name, at = f"{each['schema']}.{each['name']}", each["at"][:19].replace("T", " ")
        shown.add_row(each["node"], str(each["id"]), at, name, each["peer"], each["kind"], each["error"])
    console().print(shown, soft_wrap=True)


def retry_dead_letters(config: Path | None, *, as_json: bool) -> None:
    """Tries all of them again on every node."""
    _, ask, members = opened(config)
    answers = asyncio.run(everywhere(members, ask, "dead-letters/retry", {}))
    if as_json:
        print_json(answers)
        return
    for member, answer in answers.items():
        left = f", {answer['left']} still wait" if answer["left"] else ""
        print_line(f"{member}: {answer['applied']} applied{left}.")
