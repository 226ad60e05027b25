"""A backup of the store: its keys as JSON, of any kind of store into any other.

The register itself is not put back: what has changed since, nobody knows, so it is the base of an adoption
(`rules/activerefuse_active_active/adopting.py`).
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from twinstar.agent.ledger import HISTORY, REGISTER
from twinstar.config.schema import Config
from twinstar.config.secrets import Secrets
from twinstar.model.errors import EnvironmentTrouble, PeerError, UsageError
from twinstar.model.register import Register
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.base import ABSENT, Store, Unknown
from twinstar.store.factory import store_of

SCHEMA = 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backup:
    values: dict[str, bytes]
    register: Register


def in_store(config: Config, work: Callable[[Store], Awaitable[T]]) -> T:
    """Raises StoreUnavailable, UsageError."""

    async def run() -> T:
        store = store_of(config, SystemClock(), SystemNetwork(), Secrets(config.secrets))
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def write_backup(config: Config, file: Path) -> str:
    """Raises UsageError, StoreUnavailable."""
    refuse_active_active(config)
    found = in_store(config, lambda store: store.read_all(""))
    values = {each.key: each.value for each in found}
    register = _register(values, "the store")
    document = {
        "schema": SCHEMA,
        "cluster": config.cluster,
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "values": {key: base64.b64encode(value).decode() for key, value in values.items()},
    }
    try:
        draft = file.with_name(f".{file.name}.new")
        draft.write_text(json.dumps(document, indent=1), encoding="utf-8")
        draft.replace(file)
    except OSError as error:
        raise UsageError(f"{file} cannot be written ({error.strerror}): name another file.") from None
    return f"{len(values)} entries of {config.cluster}, at epoch {register.epoch}, are in {file}."


def read_backup(config: Config, file: Path) -> Backup:
    """Raises UsageError."""
    refuse_active_active(config)
    try:
        raw: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if raw["schema"] != SCHEMA:
            raise UsageError(f"{file} is of version {raw['schema']}: use the Twinstar that wrote it.")
        values = {str(key): base64.b64decode(value) for key, value in raw["values"].items()}
        cluster = raw["cluster"]
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read ({error.strerror}): name what `twinstar store backup` wrote."
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file} is no backup ({error}): name what `twinstar store backup` wrote.") from None
    if cluster != config.cluster:
        raise UsageError(f"{file} is of the cluster {cluster}, and this one is {config.cluster}: name its own backup.")
    return Backup(values, _register(values, str(file)))


def fill(config: Config, backup: Backup) -> None:
    """The history, where there is none. Raises UsageError for a store that is not empty."""

    async def work(store: Store) -> None:
        if await store.read(REGISTER) is not None:
            raise UsageError(
                "The store has an entry for this cluster: nothing is restored over it. If it has gone back, run "
                "`twinstar store adopt`."
            )
        for key, value in backup.values.items():
            if key.startswith(HISTORY):
                outcome = await store.compare_and_set(key, value, ABSENT)
                if isinstance(outcome, Unknown):
                    raise EnvironmentTrouble(f"The store does not answer ({outcome.why}): run this again.")

    in_store(config, work)


def _register(values: dict[str, bytes], where: str) -> Register:
    if REGISTER not in values:
        raise UsageError(f"There is no entry of a cluster in {where}: start the cluster once, or name another one.")
    try:
        return Register.decode(values[REGISTER])
    except PeerError as error:
        raise UsageError(f"In {where}: {error}") from None


def refuse_active_active(config: Config) -> None:
    if config.strategy == "active-active":
        raise UsageError(
            "Where every node takes writes, the store has the membership alone, and `twinstar rejoin` makes nodes "
            "anew: there is nothing to back up or to adopt."
        )
