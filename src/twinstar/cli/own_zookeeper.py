"""ZooKeeper servers of a cluster's own, on this machine: for development, drills and tests."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports.free_ports import find_free_ports

ZOOKEEPER = ("zookeeper1", "zookeeper2", "zookeeper3")
SETTINGS = "zoo.cfg"

_DEBIAN = Path("/usr/share/java")
# The manifest of Debian's zookeeper.jar names the rest, but neither a logger nor all that TLS needs.
_DEBIAN_JARS = ("zookeeper", "slf4j-log4j12", "log4j-1.2", "netty-codec", "netty-resolver")
_MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
_MEMORY = "-Xmx96m"
_TICK_MS = 100
_LOGGING = """\
log4j.rootLogger=WARN, C
log4j.appender.C=org.apache.log4j.ConsoleAppender
log4j.appender.C.layout=org.apache.log4j.PatternLayout
log4j.appender.C.layout.ConversionPattern=%d %p %c{1} %m%n
"""


def jars() -> str | None:
    """The Java class path of the installed ZooKeeper: Debian's package, or the release whose `bin` is on the PATH."""
    if shutil.which("java") is None:
        return None
    script = shutil.which("zkServer.sh")
    if script is not None:
        release = Path(script).resolve().parent.parent
        return f"{release / 'conf'}:{release / 'lib'}/*"
    found = [_DEBIAN / f"{jar}.jar" for jar in _DEBIAN_JARS]
    return ":".join(map(str, found)) if found[0].exists() else None


def reserve(folder: Path, addresses: Sequence[str]) -> tuple[str, ...]:
    """Settings for a server at each address; returns where clients reach them. Raises EnvironmentTrouble."""
    if jars() is None:
        raise EnvironmentTrouble(
            "ZooKeeper is not installed: install it (on Debian `apt-get install zookeeper`), or choose "
            "--store embedded."
        )
    ports = find_free_ports("127.0.0.1", 3 * len(addresses))
    mine = [ports[3 * at : 3 * at + 3] for at in range(len(addresses))]
    everybody = {
        f"server.{number}": f"{address}:{quorum}:{election}"
        for number, (address, (_, quorum, election)) in enumerate(zip(addresses, mine, strict=True), 1)
    }
    for number, (name, address, (client, _, _)) in enumerate(zip(ZOOKEEPER, addresses, mine, strict=True), 1):
        own: dict[str, object] = {"clientPort": client, "clientPortAddress": address}
        write_settings(folder / name, number, own | everybody)
    return tuple(f"{address}:{client}" for address, (client, _, _) in zip(addresses, mine, strict=True))


def write_settings(directory: Path, number: int, settings: dict[str, object]) -> None:
    """The files of one server. Its elections are short: a tick is 100 ms, where a production's is 2 s."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    common: dict[str, object] = {
        "dataDir": directory,
        "tickTime": _TICK_MS,
        "initLimit": 100,
        "syncLimit": 20,
        "minSessionTimeout": 2 * _TICK_MS,
        "maxSessionTimeout": 40_000,
        "admin.enableServer": "false",
        "4lw.commands.whitelist": "srvr,wchs,mntr",
    }
    (directory / "myid").write_text(str(number))
    (directory / "log4j.properties").write_text(_LOGGING)
    lines = [f"{name}={value}\n" for name, value in (common | settings).items()]
    (directory / SETTINGS).write_text("".join(lines))


def command(directory: Path) -> tuple[str, ...]:
    """How the server with the files in `directory` is started. Raises EnvironmentTrouble."""
    path = jars()
    if path is None:
        raise EnvironmentTrouble("ZooKeeper is not installed any more: install it (on Debian the package zookeeper).")
    small = (_MEMORY, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
    return ("java", *small, "-cp", f"{directory}:{path}", _MAIN, str(directory / SETTINGS))
