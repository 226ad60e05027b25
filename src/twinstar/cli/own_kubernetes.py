"""A Kubernetes API server of a cluster's own, and the etcd below it, on this machine: for drills, demos and tests.

It has no nodes, runs nothing and needs no root: the real server, which is all that a store is of a Kubernetes cluster.
"""

from __future__ import annotations

import http.client
import json
import secrets
import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from twinstar.config.secrets import write_private
from twinstar.model.errors import EnvironmentTrouble
from twinstar.ports.free_ports import find_free_ports
from twinstar.store.kubernetes.manifest import manifest
from twinstar.store.kubernetes.records import GROUP, PLURAL, VERSION

KUBERNETES = ("kube-etcd", "kube-apiserver")
NAMESPACE = ACCOUNT = "twinstar"

Json = dict[str, Any]
_HOST = "127.0.0.1"
_PORTS = "ports"
_ADMIN, _AGENT = "admin.token", "agent.token"
_TIMEOUT_S = 20.0
"""A server that has just begun takes seconds for a change when its machine is busy."""
_CLUSTER_WIDE = ("CustomResourceDefinition", "Namespace")


@dataclass(frozen=True, slots=True)
class OwnKubernetes:
    """What lies in `folder`."""

    folder: Path

    @property
    def kubeconfig(self) -> Path:
        """Of the account that may do what the manifest allows, and nothing else."""
        return self.folder / "kubeconfig"

    @property
    def authority(self) -> Path:
        """Made by the server when it is first started."""
        return self.folder / "pki" / "apiserver.crt"

    @property
    def port(self) -> int:
        return self._ports[0]

    @property
    def etcd_url(self) -> str:
        return f"http://{_HOST}:{self._ports[1]}"

    @property
    def url(self) -> str:
        return f"https://{_HOST}:{self.port}"

    def make(self) -> None:
        """Ports, keys and the kubeconfig. Raises EnvironmentTrouble."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / _PORTS).write_text(" ".join(map(str, find_free_ports(_HOST, 3))))
        write_private(self.folder / "accounts.key", _signing_key())
        tokens = {name: secrets.token_hex(16) for name in (_ADMIN, _AGENT)}
        for name, token in tokens.items():
            write_private(self.folder / name, token)
        account = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
        lines = f'{tokens[_ADMIN]},admin,admin,"system:masters"\n{tokens[_AGENT]},{account},agent,\n'
        write_private(self.folder / "tokens.csv", lines)
        write_private(self.kubeconfig, yaml.safe_dump(self._kubeconfig()))

    def etcd_command(self, program: str = "etcd") -> tuple[str, ...]:
        peer = f"http://{_HOST}:{self._ports[2]}"
        return (
            *(program, "--name", "kube", "--data-dir", str(self.folder / "etcd")),
            *("--listen-client-urls", self.etcd_url, "--advertise-client-urls", self.etcd_url),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"kube={peer}", "--log-level", "warn", "--logger", "zap"),
        )

    def server_command(self, program: str = "kube-apiserver", **more: str) -> tuple[str, ...]:
        """`more`: further options, with ``_`` for ``-``."""
        key = str(self.folder / "accounts.key")
        options = {
            "etcd-servers": self.etcd_url,
            "bind-address": _HOST,
            "advertise-address": _HOST,
            "secure-port": str(self.port),
            "endpoint-reconciler-type": "none",  # it would publish an address of the loopback, which the API refuses
            "cert-dir": str(self.authority.parent),
            "token-auth-file": str(self.folder / "tokens.csv"),
            "authorization-mode": "RBAC",
            "anonymous-auth": "false",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": key,
            "service-account-signing-key-file": key,
            "service-cluster-ip-range": "10.96.0.0/16",
            "profiling": "false",
        } | {name.replace("_", "-"): value for name, value in more.items()}
        return (program, *(f"--{name}={value}" for name, value in options.items()))

    def ask(
        self, method: str, path: str, document: Json | None = None, *, token: str | None = None, accept: str = ""
    ) -> tuple[int, Json]:
        """As the administrator, unless a token is given. Raises OSError or http.client.HTTPException."""
        context = ssl.create_default_context(cafile=str(self.authority))
        connection = http.client.HTTPSConnection(_HOST, self.port, context=context, timeout=_TIMEOUT_S)
        headers = {"Authorization": f"Bearer {token or self._token(_ADMIN)}", "Accept": accept or "application/json"}
        if document is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, json.dumps(document) if document is not None else None, headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        try:
            return answer.status, dict(json.loads(body))
        except ValueError:
            return answer.status, {"message": body.decode(errors="replace")}

    def prepare(self) -> bool:
        """Applies the manifest; True once the account can work, until when it is to be called again."""
        try:
            if self.ask("GET", "/readyz")[0] != 200:
                return False
            self.apply(NAMESPACE, ACCOUNT)
            path = f"/apis/{GROUP}/{VERSION}/namespaces/{NAMESPACE}/{PLURAL}"
            return self.ask("GET", path, token=self._token(_AGENT))[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def apply(self, namespace: str, account: str) -> None:
        """What `kubectl apply` would do with the manifest, where nothing of it is there. Raises EnvironmentTrouble."""
        for document in yaml.safe_load_all(manifest(namespace, account)):
            status, said = self.ask("POST", _collection(document, namespace), document)
            if status not in (201, 409):
                raise EnvironmentTrouble(f"The API server does not take its manifest: {said.get('message')}")

    @property
    def _ports(self) -> list[int]:
        return [int(port) for port in (self.folder / _PORTS).read_text().split()]

    def _token(self, name: str) -> str:
        return (self.folder / name).read_text()

    def _kubeconfig(self) -> Json:
        cluster = {"server": self.url, "certificate-authority": str(self.authority)}
        return {
            "current-context": "own",
            "contexts": [{"name": "own", "context": {"cluster": "own", "user": "agent", "namespace": NAMESPACE}}],
            "clusters": [{"name": "own", "cluster": cluster}],
            "users": [{"name": "agent", "user": {"tokenFile": str(self.folder / _AGENT)}}],
        }


def reserve(folder: Path) -> Path:
    """Makes what a cluster's own server needs; returns the kubeconfig. Raises EnvironmentTrouble."""
    remedies = {"etcd": "on Debian `apt-get install etcd-server`", "kube-apiserver": "docs/stores.md says how"}
    for program, remedy in remedies.items():
        if shutil.which(program) is None:
            raise EnvironmentTrouble(f"{program} is not installed: install it ({remedy}), or choose --store embedded.")
    own = OwnKubernetes(folder)
    own.make()
    return own.kubeconfig


def _collection(document: Json, namespace: str) -> str:
    start = "/apis" if "/" in document["apiVersion"] else "/api"
    inside = "" if document["kind"] in _CLUSTER_WIDE else f"/namespaces/{namespace}"
    return f"{start}/{document['apiVersion']}{inside}/{document['kind'].lower()}s"


def _signing_key() -> str:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise EnvironmentTrouble(
            "The package cryptography is missing, which makes the API server's key: install twinstar[tls]."
        ) from None
    private = ec.generate_private_key(ec.SECP256R1())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    return private.private_bytes(encoding, form, serialization.NoEncryption()).decode()
