"""A replication slot for every other member, on the leader and on every standby, so that nobody loses the log it needs.

A standby's slots are not moved by anyone: nobody streams from it. They follow the leader's, as far as the standby has
replayed. The leader itself has no slot at home: its slot on a standby follows the standby's own checkpoints, which is
what the leader needs to come back from after a failover.
"""

from __future__ import annotations

import re

from twinstar.engine.postgresql.connections import fetch
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.standby_names import UPSTREAM_SETTING, untagged
from twinstar.model.engine import Upstream
from twinstar.model.errors import EngineError
from twinstar.model.position import format_lsn, parse_lsn

_PREFIX = "twinstar_"
_MINE = f"""
SELECT slot_name, active, coalesce(restart_lsn, '0/0')::text, coalesce(wal_status, '') = 'lost'
FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary AND starts_with(slot_name, '{_PREFIX}')
"""
_HERE = """
SELECT pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn(), '0/0')::text, redo_lsn::text FROM pg_control_checkpoint()
"""
_ASK_LEADER_MS = 2_000.0


def slot_name(member: str) -> str:
    """The slot of a member. No two share one: what a slot's name cannot contain is written in hexadecimal."""
    return _PREFIX + re.sub(r"[^a-z0-9]", lambda found: f"_{ord(found[0]):02x}", member)


async def keep_slots(server: Server, members: frozenset[str]) -> None:
    """See `engine.base.Engine.keep_slots`."""
    wanted = {slot_name(member) for member in members - {server.settings.member}}
    there = {}
    for name, active, restart, lost in await server.query(_MINE):
        if not active and (lost or name not in wanted):
            await server.query(f"SELECT pg_drop_replication_slot('{name}')")
        else:
            there[name] = (active, parse_lsn(restart))
    for name in sorted(wanted - there.keys()):
        await server.query(create_statement(name))
    await _advance(server, {name: lsn for name, (active, lsn) in there.items() if name in wanted and not active})


async def make_missing(server: Server, members: frozenset[str]) -> None:
    """Sees that these members can attach at all: one without its slot is turned away at each attempt."""
    there = {name for name, *_ in await server.query(_MINE)}
    for member in sorted(members - {server.settings.member}):
        if slot_name(member) not in there:
            await server.query(create_statement(slot_name(member)))


def create_statement(name: str) -> str:
    """Makes a slot that keeps log from now on, not only from when it is first used."""
    return f"SELECT pg_create_physical_replication_slot('{name}', true)"


async def _advance(server: Server, slots: dict[str, int]) -> None:
    ((in_recovery, replayed, redo),) = await server.query(_HERE)
    leader = untagged(server.read_settings().get(UPSTREAM_SETTING, ""))
    if not in_recovery or leader is None or not slots:
        return
    needed = await _leaders(server, leader)
    needed[slot_name(leader[0])] = parse_lsn(redo)
    for name, restart in slots.items():
        target = min(needed.get(name, 0), parse_lsn(replayed))
        if target > restart:
            await server.query(f"SELECT pg_replication_slot_advance('{name}', '{format_lsn(target)}')")


async def _leaders(server: Server, leader: tuple[str, int]) -> dict[str, int]:
    """From where on the leader keeps log, by slot. Nothing when it does not answer: then nothing is advanced."""
    member, epoch = leader
    address = server.settings.addresses.get(member)
    if address is None:
        return {}
    try:
        async with server.clock.timeout_ms(_ASK_LEADER_MS), server.remote(Upstream(member, epoch, address)) as remote:
            return {name: parse_lsn(restart) for name, _, restart, lost in await fetch(remote, _MINE) if not lost}
    except (EngineError, TimeoutError):
        return {}
