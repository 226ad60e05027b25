"""The roles of a new database, each with what it needs and no more.

========================  ==========================================================================================
`twinstar_agent`          sees everything about the server, ends sessions, promotes, keeps slots; local socket alone
`twinstar_replication`    streams, copies the whole directory, creates its slot, sees how far back the log goes
`twinstar_rewind`         reads the files that `pg_rewind` compares
`twinstar_router`         connects, and asks nothing but whether it may write
the application's         owns the application's database
========================  ==========================================================================================

Passwords reach the server as SCRAM verifiers that are computed here: no log and no statistic ever holds one.
"""

from __future__ import annotations

from psycopg import AsyncConnection, Error, sql

from twinstar.engine.postgresql.settings import (
    AGENT_ROLE,
    MAINTENANCE_DATABASE,
    REPLICATION_ROLE,
    REWIND_ROLE,
    ROUTER_ROLE,
    Settings,
)
from twinstar.model.errors import EngineError

_AGENT = f"""
CREATE ROLE {AGENT_ROLE} LOGIN REPLICATION;
GRANT pg_monitor, pg_signal_backend, pg_checkpoint TO {AGENT_ROLE};
GRANT EXECUTE ON FUNCTION pg_promote(boolean, integer), pg_switch_wal(), pg_reload_conf() TO {AGENT_ROLE};
GRANT EXECUTE ON FUNCTION pg_show_all_file_settings(), pg_hba_file_rules() TO {AGENT_ROLE};
GRANT SELECT ON pg_file_settings, pg_hba_file_rules TO {AGENT_ROLE};
GRANT EXECUTE ON FUNCTION pg_wal_replay_pause(), pg_wal_replay_resume() TO {AGENT_ROLE};
"""
_AGENT_SINCE_16 = f"GRANT pg_use_reserved_connections TO {AGENT_ROLE};"
_OTHERS = f"""
CREATE ROLE {REPLICATION_ROLE} LOGIN REPLICATION;
GRANT EXECUTE ON FUNCTION pg_ls_waldir() TO {REPLICATION_ROLE};
CREATE ROLE {REWIND_ROLE} LOGIN;
GRANT EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean),
  pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean) TO {REWIND_ROLE};
CREATE ROLE {ROUTER_ROLE} LOGIN;
REVOKE CONNECT ON DATABASE {MAINTENANCE_DATABASE} FROM PUBLIC;
GRANT CONNECT ON DATABASE {MAINTENANCE_DATABASE}
  TO {AGENT_ROLE}, {REPLICATION_ROLE}, {REWIND_ROLE}, {ROUTER_ROLE};
"""


async def create_roles(connection: AsyncConnection[tuple[object, ...]], settings: Settings) -> None:
    """Makes the roles and the application's database. For a superuser's session whose commits do not wait."""
    statements = _AGENT + (_AGENT_SINCE_16 if settings.major >= 16 else "") + _OTHERS
    await connection.execute(statements.encode())
    await connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(settings.user)))
    await set_passwords(connection, settings)
    create = sql.SQL("CREATE DATABASE {} OWNER {}")
    await connection.execute(create.format(sql.Identifier(settings.database), sql.Identifier(settings.user)))


async def set_passwords(connection: AsyncConnection[tuple[object, ...]], settings: Settings) -> None:
    """Gives every role that has one in the settings its password. Raises EngineError when one cannot be encoded."""
    for role, password in settings.passwords.items():
        try:
            verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
        except Error as error:
            raise EngineError(f"The password of {role} cannot be used ({error}): choose another.") from None
        change = sql.SQL("ALTER ROLE {} PASSWORD {}")
        await connection.execute(change.format(sql.Identifier(role), sql.Literal(verifier.decode())))
