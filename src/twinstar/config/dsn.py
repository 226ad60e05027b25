"""Connection strings that a client can use as they are: the password is in a file that they name.

With a router they lead to it. Without one, or where it is wanted, they list the members and let libpq find the right
one (`target_session_attrs`): it asks each in turn, so a dead machine costs `CONNECT_TIMEOUT_S`, and nothing ends the
sessions of a former leader.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlencode

from twinstar.config.derive import Endpoint, addresses, endpoints
from twinstar.config.schema import Config, Node
from twinstar.config.secrets import Secret, Secrets, passfile_text, write_private
from twinstar.config.tls import libpq_tls
from twinstar.model.address import Address
from twinstar.model.errors import UsageError

CONNECT_TIMEOUT_S = 2
"""The shortest that libpq allows; only where several hosts are tried."""
_OPTIONS: dict[Endpoint, dict[str, str]] = {
    "write": {"target_session_attrs": "read-write"},
    "read": {"target_session_attrs": "prefer-standby"},
    "any": {"load_balance_hosts": "random"},  # libpq 16 or later
}


def passfile(config: Config) -> Path:
    """Where the application's password file lies; `write_passfile` makes it."""
    return config.secrets / "app.pgpass"


def client_dsn(config: Config, endpoint: Endpoint, *, multi_host: bool = False) -> str:
    """The application's DSN: through the router, or straight to the members when there is none or `multi_host`."""
    if config.router and not multi_host:
        routers = router_addresses(config, endpoint)
        patience_s = config.router.max_hold_ms // 1000 + CONNECT_TIMEOUT_S  # a session that is held is not refused
        return _dsn(config, routers, {"connect_timeout": str(patience_s)} if len(routers) > 1 else {})
    options = _OPTIONS[endpoint if config.strategy == "active-passive" else "any"]
    places = [addresses(node).database for node in config.nodes]
    return _dsn(config, places, {**options, "connect_timeout": str(CONNECT_TIMEOUT_S)})


def member_dsn(config: Config, node: Node) -> str:
    """Straight to one member, whatever it is at the moment."""
    return _dsn(config, [addresses(node).database], {})


def router_addresses(config: Config, endpoint: Endpoint) -> list[Address]:
    """Where clients reach the routers; an address that stands for all is reached on the loopback."""
    router = config.router
    if router is None:
        return []
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (replaced, not bound)
    port = endpoints(config)[endpoint]
    return [Address(anywhere.get(host, host), port) for host in router.hosts or router.bind]


def write_passfile(config: Config, secrets: Secrets) -> Path:
    """Writes the password file (0600) for every address that a DSN may name; returns its path. Raises UsageError."""
    places = [addresses(node).database for node in config.nodes]
    places += [place for endpoint in endpoints(config) for place in router_addresses(config, endpoint)]
    application = (config.postgresql.database, config.postgresql.user, secrets.read(Secret.APP_PASSWORD))
    file = passfile(config)
    text = passfile_text((place.host, place.port, *application) for place in dict.fromkeys(places))
    try:
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            write_private(file, text)
    except OSError as error:
        raise UsageError(
            f"The password file {file} cannot be written ({error.strerror}): run as the owner of {config.secrets}."
        ) from None
    return file


def _dsn(config: Config, places: Sequence[Address], options: dict[str, str]) -> str:
    hosts = ",".join(str(place) for place in places)
    query = {**options, "passfile": str(passfile(config)), **libpq_tls(config.tls)}
    who, database = quote(config.postgresql.user, safe=""), quote(config.postgresql.database, safe="")
    return f"postgresql://{who}@{hosts}/{database}?{urlencode(query, quote_via=quote, safe='/')}"
