"""A real ensemble of three ZooKeeper servers, each with a port for clients without TLS and one for those with it."""

from __future__ import annotations

import asyncio
import signal
import ssl
import time
from pathlib import Path
from typing import cast

from tests.own_ports import free_ports
from tests.store.certificates import Certificates, Pair
from tests.store.servers import HASTY, PATIENT, START_S, Process
from twinstar.cli.own_zookeeper import command, write_settings
from twinstar.config.schema import Tls
from twinstar.config.tls import Purpose, ssl_context
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.endpoints import Patience
from twinstar.store.race import Failed
from twinstar.store.zookeeper import wire
from twinstar.store.zookeeper.client import ZooKeeperStore
from twinstar.store.zookeeper.connection import Connection
from twinstar.store.zookeeper.server import Access, Login, Server
from twinstar.store.zookeeper.wire import Op
from twinstar.store.zookeeper.znodes import Znodes


class Ensemble:
    """Its elections are short, so that tests are. `restart` and `hang` are for all three at once."""

    MEMBERS = 3

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        self.certificates = certificates
        with free_ports(4 * self.MEMBERS) as ports:
            pass
        self.hosts, self.secure_hosts, *among = ([f"127.0.0.1:{port}" for port in ports[at::4]] for at in range(4))
        everybody: dict[str, object] = {
            f"server.{number}": f"{quorum}:{election.rpartition(':')[2]}"
            for number, (quorum, election) in enumerate(zip(*among, strict=True))
        }
        self.members = [
            Process(self._command(directory / f"z{number}", number, everybody), directory / f"z{number}.log")
            for number in range(self.MEMBERS)
        ]

    def start(self) -> None:
        for member in self.members:
            member.start()
        asyncio.run(self.serves())

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    def open(
        self,
        cluster: str,
        hosts: list[str] | None = None,
        patience: Patience = PATIENT,
        login: Login | None = None,
    ) -> ZooKeeperStore:
        return ZooKeeperStore(
            hosts or self.hosts, cluster, SystemClock(), SystemNetwork(), patience=patience, login=login
        )

    def open_hasty(self, cluster: str) -> ZooKeeperStore:
        return self.open(cluster, patience=HASTY)

    def open_tls(self, cluster: str, tls: ssl.SSLContext) -> ZooKeeperStore:
        hosts = self.secure_hosts
        return ZooKeeperStore(hosts, cluster, SystemClock(), SystemNetwork(), tls=tls, patience=PATIENT)

    async def hang(self) -> None:
        for member in self.members:
            member.stop()

    async def resume(self) -> None:
        for member in self.members:
            member.signal(signal.SIGCONT)
        await self.serves()

    async def crash(self) -> None:
        self.kill()

    async def restart(self) -> None:
        for member in self.members:
            member.start()
        await self.serves()

    async def serves(self) -> None:
        """Returns when every server answers a question that needs the majority, at both of its ports."""
        tls = client_tls(self.certificates, self.certificates.client)
        ports = [(host, None) for host in self.hosts] + [(host, tls) for host in self.secure_hosts]
        for (host, context), member in zip(ports, 2 * self.members, strict=True):
            deadline = time.monotonic() + START_S
            while not await self._answers(host, context):
                if member.died() or time.monotonic() > deadline:
                    raise AssertionError(member.trouble())
                await asyncio.sleep(0.05)

    async def leader(self) -> Process:
        """Which of them leads, as they say themselves."""
        for host, member in zip(self.hosts, self.members, strict=True):
            if "Mode: leader" in await four_letters(host, "srvr"):
                return member
        raise AssertionError("nobody leads")

    async def _answers(self, host: str, tls: ssl.SSLContext | None) -> bool:
        server = Server(host, Access(SystemNetwork(), SystemClock(), tls, None, PATIENT))
        try:
            async with asyncio.timeout(5):
                await server.ask(lambda connection, _: Znodes("", "nobody", None).read(connection, "nothing"))
        except (Failed, TimeoutError):
            return False
        finally:
            await server.close()
        return True

    def _command(self, directory: Path, number: int, everybody: dict[str, object]) -> list[str]:
        directory.mkdir(parents=True)
        files = self.certificates
        key = directory / "server.pem"
        key.write_bytes(files.server.key.read_bytes() + files.server.certificate.read_bytes())
        settings: dict[str, object] = {
            "clientPort": self.hosts[number].rpartition(":")[2],
            "clientPortAddress": "127.0.0.1",
            "secureClientPort": self.secure_hosts[number].rpartition(":")[2],
            "secureClientPortAddress": "127.0.0.1",
            "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
            "ssl.keyStore.location": key,
            "ssl.keyStore.type": "PEM",
            "ssl.trustStore.location": files.authority,
            "ssl.trustStore.type": "PEM",
            "ssl.clientAuth": "need",
        }
        write_settings(directory, number, settings | everybody)
        return list(command(directory))


class SecuredEnsemble:
    """The same servers through TLS with a client certificate, as a user of scheme `digest`."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self.hosts = ensemble.secure_hosts
        self.hang, self.resume = ensemble.hang, ensemble.resume
        self.crash, self.restart = ensemble.crash, ensemble.restart

    def open(
        self,
        cluster: str,
        user: str = "twinstar",
        password: str = "swordfish-71",
        patience: Patience = PATIENT,
    ) -> ZooKeeperStore:
        return ZooKeeperStore(
            self.hosts,
            cluster,
            SystemClock(),
            SystemNetwork(),
            chroot="/secured",
            tls=client_tls(self.ensemble.certificates, self.ensemble.certificates.client),
            login=Login(user, lambda: password),
            patience=patience,
        )

    def open_hasty(self, cluster: str) -> ZooKeeperStore:
        return self.open(cluster, patience=HASTY)


def client_tls(certificates: Certificates, pair: Pair) -> ssl.SSLContext:
    tls = Tls(certificate=pair.certificate, key=pair.key, authority=certificates.authority)
    return ssl_context(tls, Purpose.STORE)


async def four_letters(host: str, word: str) -> str:
    """What a server says of itself."""
    name, _, port = host.rpartition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write(word.encode())
    said = await reader.read()
    writer.close()
    return said.decode()


def server_at(host: str, patience: Patience = PATIENT, login: Login | None = None) -> Server:
    return Server(host, Access(SystemNetwork(), SystemClock(), None, login, patience))


async def set_acl(connection: Connection, path: str, grant: wire.Grant) -> None:
    """As an operator does, with `setAcl` in ZooKeeper's own client."""
    operation = cast(Op, 7)  # the client itself never changes an ACL
    one = (1).to_bytes(4, "big")
    body = wire.text(path) + one + grant.permissions.to_bytes(4, "big") + wire.text(grant.scheme) + wire.text(grant.id)
    answer = await connection.send(operation, body + (0xFFFFFFFF).to_bytes(4, "big"))
    assert answer.code == wire.Code.OK, answer
