"""From the configuration to a server: its settings, and the programs and user that run it."""

from __future__ import annotations

import os
from pathlib import Path

from twinstar.config.derive import node, timings
from twinstar.config.schema import Config
from twinstar.config.secrets import Secret, Secrets
from twinstar.config.tls import tls_for
from twinstar.engine.postgresql.binaries import Binaries, find_binaries, reachable_copy
from twinstar.engine.postgresql.server import Server
from twinstar.engine.postgresql.settings import (
    AGENT_ROLE,
    REPLICATION_ROLE,
    REWIND_ROLE,
    ROUTER_ROLE,
    Settings,
    TlsFiles,
)
from twinstar.engine.postgresql.system_user import engine_user
from twinstar.model.address import Address
from twinstar.ports.clock import Clock
from twinstar.ports.processes import Account, Processes

LAUNCH_VARIABLE = "TWINSTAR_LAUNCH"
"""Set by the agent's unit: where to leave the order to start the database."""

# A stall of the machine must not end every stream, and a dead peer's stream must not outlive the failover by much.
_WAL_TIMEOUT_PER_ELECTION = 3
_SHORTEST_WAL_TIMEOUT_MS = 1_000


async def open_server(config: Config, member: str, clock: Clock, processes: Processes) -> Server:
    """The server of one member, looked for on this machine but not touched. Raises UsageError, EnvironmentTrouble."""
    user = await engine_user(processes, config.postgresql.system_user)
    account = user.account if user else None
    binaries = await find_binaries(processes, config.postgresql.bin_dir)
    binaries = await reachable_copy(processes, binaries, account)
    return Server(settings_of(config, member, binaries, account), clock, processes)


def settings_of(config: Config, member: str, binaries: Binaries, account: Account | None) -> Settings:
    """What the configuration says of one member. Raises UsageError when it has none, or a secret is missing."""
    own = node(config, member)
    postgresql = config.postgresql
    tls = tls_for(config.tls, member) if config.tls else None
    return Settings(
        cluster=config.cluster,
        member=member,
        addresses={each.name: Address(each.host, each.port) for each in config.nodes},
        directory=own.directory,
        bin_dir=binaries.bin_dir,
        major=binaries.major,
        account=account,
        environment=binaries.environment,
        passwords=read_passwords(config),
        database=postgresql.database,
        user=postgresql.user,
        parameters=postgresql.parameters,
        hba=postgresql.hba,
        data_checksums=postgresql.data_checksums,
        tls=TlsFiles(tls.certificate, tls.key, tls.authority) if tls else None,
        sends_rows=config.strategy == "active-active",
        launch_file=Path(order) if (order := os.environ.get(LAUNCH_VARIABLE)) else None,
        wal_timeout_ms=wal_timeout_ms(timings(config).election_timeout_ms),
    )


def wal_timeout_ms(election_timeout_ms: float) -> int:
    """wal_sender_timeout and wal_receiver_timeout for how long an election may take."""
    return round(max(_SHORTEST_WAL_TIMEOUT_MS, _WAL_TIMEOUT_PER_ELECTION * election_timeout_ms))


def read_passwords(config: Config) -> dict[str, str]:
    """The passwords by role. Raises UsageError when one is missing."""
    secrets = Secrets(config.secrets)
    return {
        AGENT_ROLE: secrets.read(Secret.AGENT_PASSWORD),
        REPLICATION_ROLE: secrets.read(Secret.REPLICATION_PASSWORD),
        REWIND_ROLE: secrets.read(Secret.REWIND_PASSWORD),
        ROUTER_ROLE: secrets.read(Secret.ROUTER_PASSWORD),
        config.postgresql.user: secrets.read(Secret.APP_PASSWORD),
    }
