"""A real Kubernetes API server on one etcd: as `scripts/kube-apiserver` builds it, on the loopback, without root."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import secrets
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which

import pytest
import yaml

from tests.store.certificates import make_certificates
from tests.store.servers import START_S, Process
from twinstar.cli.own_kubernetes import ACCOUNT, Json, OwnKubernetes
from twinstar.ports.clock import SystemClock
from twinstar.ports.system_network import SystemNetwork
from twinstar.store.kubernetes.access import Access
from twinstar.store.kubernetes.api import Patience
from twinstar.store.kubernetes.client import KubernetesStore
from twinstar.store.kubernetes.kubeconfig import from_kubeconfig
from twinstar.store.kubernetes.records import GROUP, PLURAL, VERSION

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "kube-apiserver"
REQUIRED = "TWINSTAR_REQUIRE_KUBERNETES"
"""In the environment: a server that is not there makes the tests fail instead of being skipped."""
PATIENT = Patience(deadline_ms=20_000, silence_ms=1_000)
"""A server that has just started takes a second for its first change, alone; several when the machine is busy."""
HASTY = Patience(deadline_ms=1_500, silence_ms=1_000)
"""Where no answer is expected. Whether one comes in time is a matter of chance."""


def needed() -> None:
    """Skips the test, or fails it where `REQUIRED` is set, when there can be no server."""
    if why := missing():
        if os.environ.get(REQUIRED):
            pytest.fail(why)
        pytest.skip(why)


@contextmanager
def full(etcd_url: str) -> Iterator[None]:
    """An etcd that takes no changes, as one does that has reached its quota."""
    _alarm(etcd_url, "ACTIVATE")
    try:
        yield
    finally:
        _alarm(etcd_url, "DEACTIVATE")


def _alarm(etcd_url: str, action: str) -> None:
    body = json.dumps({"action": action, "memberID": 0, "alarm": "NOSPACE"}).encode()
    with urllib.request.urlopen(f"{etcd_url}/v3/maintenance/alarm", body, timeout=20) as answer:
        assert answer.status == 200


def missing() -> str:
    """Why there can be no server; empty if there can."""
    if which("etcd") is None:
        return "no etcd for the Kubernetes API server: install Debian's etcd-server"
    if which("go") is None:
        return "no Go that could have built kube-apiserver: install it, then `make kube-apiserver`"
    if not program().is_file():
        return "kube-apiserver is not built: `make kube-apiserver` does it, once, in some five minutes"
    return ""


def program() -> Path:
    found = subprocess.run([SCRIPT, "--where"], capture_output=True, text=True, check=True, timeout=60)
    return Path(found.stdout.strip())


class KubeServer:
    """Everything below `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.people = make_certificates(directory / "people")
        """Whose certificates the server takes for users, by their common names."""
        self._own = OwnKubernetes(directory)
        self._own.make()
        self.port, self.url, self.etcd_url = self._own.port, self._own.url, self._own.etcd_url
        self.authority = self._own.authority
        server = self._own.server_command(str(program()), client_ca_file=str(self.people.authority))
        self.etcd = Process(list(self._own.etcd_command()), directory / "etcd.log")
        self.api = Process(list(server), directory / "api.log")

    def start(self) -> None:
        if self.etcd.died():
            self.etcd.start()
        self.api.start()
        self.serves()

    def kill(self) -> None:
        self.api.kill()
        self.etcd.kill()

    def serves(self) -> None:
        """Returns when the server says that it is ready."""
        deadline = time.monotonic() + START_S
        while True:
            with suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            if self.api.died() or self.etcd.died() or time.monotonic() > deadline:
                raise AssertionError(self.api.trouble() + self.etcd.trouble())
            time.sleep(0.05)

    def ask(
        self, method: str, path: str, document: Json | None = None, *, token: str | None = None, table: bool = False
    ) -> tuple[int, Json]:
        """As the administrator, unless a token is given. `table`: as what kubectl prints."""
        accept = "application/json;as=Table;g=meta.k8s.io;v=v1" if table else ""
        return self._own.ask(method, path, document, token=token, accept=accept)

    def prepare(self, namespace: str) -> None:
        """Applies the manifest that users are given, and waits until the kind is served."""
        self._own.apply(namespace, ACCOUNT)
        deadline = time.monotonic() + START_S
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"
        token = self.token(namespace)
        while self.ask("GET", path, token=token)[0] != 200:  # the kind is served and the role known a moment later
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def token(self, namespace: str) -> str:
        """Of the account that the manifest has made, good for an hour."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{ACCOUNT}/token"
        status, said = self.ask("POST", path, {"spec": {"expirationSeconds": 3600}})
        assert status == 201, said
        return str(said["status"]["token"])

    def kubeconfig(self, namespace: str, url: str | None = None) -> Path:
        """A new file that names the account of a namespace; its token is in a file beside it (`.token`)."""
        file = self.directory / f"{namespace}-{secrets.token_hex(4)}.kubeconfig"
        write_private(file.with_suffix(".token"), self.token(namespace))
        user = {"tokenFile": file.with_suffix(".token").name}
        return write_kubeconfig(file, url or self.url, {"certificate-authority": str(self.authority)}, user, namespace)

    def store(
        self, cluster: str, kubeconfig: Path, namespace: str = "", patience: Patience = PATIENT
    ) -> KubernetesStore:
        access = Access(from_kubeconfig(kubeconfig, None))
        where = namespace or access.namespace
        return KubernetesStore(access, where, cluster, SystemClock(), SystemNetwork(), patience=patience)


def write_kubeconfig(file: Path, url: str, cluster: Json, user: Json, namespace: str) -> Path:
    document = {
        "current-context": "twinstar",
        "contexts": [{"name": "twinstar", "context": {"cluster": "here", "user": "agent", "namespace": namespace}}],
        "clusters": [{"name": "here", "cluster": {"server": url, **cluster}}],
        "users": [{"name": "agent", "user": user}],
    }
    return write_private(file, yaml.safe_dump(document))


def write_private(file: Path, text: str) -> Path:
    file.touch(mode=0o600)
    file.write_text(text)
    return file


class KubeBackend:
    """What the conformance suite does to it: to the API server alone, or to the etcd below it as well."""

    def __init__(self, server: KubeServer, namespace: str, below: bool) -> None:
        self.server = server
        self._kubeconfig = server.kubeconfig(namespace)
        self._below = below

    def open(self, cluster: str) -> KubernetesStore:
        return self.server.store(cluster, self._kubeconfig)

    def open_hasty(self, cluster: str) -> KubernetesStore:
        return self.server.store(cluster, self._kubeconfig, patience=HASTY)

    async def hang(self) -> None:
        self._hanging.stop()

    async def resume(self) -> None:
        self._hanging.signal(signal.SIGCONT)
        await asyncio.to_thread(self.server.serves)

    async def crash(self) -> None:
        self.server.api.kill()
        if self._below:
            self.server.etcd.kill()

    async def restart(self) -> None:
        await asyncio.to_thread(self.server.start)

    @property
    def _hanging(self) -> Process:
        return self.server.etcd if self._below else self.server.api
