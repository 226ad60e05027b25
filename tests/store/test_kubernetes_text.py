"""Names, objects and kubeconfigs: what needs no server."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.store.kube_server import write_kubeconfig, write_private
from twinstar.cli.own_kubernetes import Json
from twinstar.model.errors import UsageError
from twinstar.store.base import Versioned
from twinstar.store.http import Request
from twinstar.store.kubernetes.access import Access, in_pod
from twinstar.store.kubernetes.kubeconfig import from_kubeconfig
from twinstar.store.kubernetes.manifest import manifest
from twinstar.store.kubernetes.names import label_of, name_of
from twinstar.store.kubernetes.records import Records, Strange

_PART = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
NAME = re.compile(rf"{_PART}(\.{_PART})*")
"""RFC 1123, as Kubernetes checks it."""
PLACES = st.tuples(st.text(max_size=30), st.text(max_size=300))
NEAR = st.tuples(st.sampled_from(["a", "a-", "z", "zh", "", "a/b"]), st.text("az/-.h0Z", max_size=5))


class TestNames:
    @pytest.mark.parametrize(
        ("key", "name"),
        [
            ("register", "orders.register"),
            ("seals/7/n1", "orders.seals.7.n1"),
            ("history/0000000007", "orders.history.0000000007"),
            ("a//b", "orders.a.zz.b"),
            ("-é.", "orders.z2dzc3za9z2e"),
        ],
    )
    def test_examples(self, key: str, name: str) -> None:
        assert name_of("orders", key) == name

    @given(PLACES)
    def test_each_is_one_that_kubernetes_takes(self, place: tuple[str, str]) -> None:
        name, label = name_of(*place), label_of(place[0])
        assert NAME.fullmatch(name)
        assert len(name) <= 253
        assert re.fullmatch(_PART, label)
        assert len(label) <= 63

    @given(st.one_of(PLACES, NEAR), st.one_of(PLACES, NEAR))
    def test_no_two_keys_share_one(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        assert (name_of(*one) == name_of(*other)) == (one == other)
        assert (label_of(one[0]) == label_of(other[0])) == (one[0] == other[0])

    def test_long_ones_are_apart_too(self) -> None:
        names = {name_of("c" * 40, "k" * 250 + end) for end in ("", "a", "b")}
        assert len(names) == 3


class TestRecords:
    @given(st.text(max_size=40), st.binary(max_size=200), st.integers(0, 1 << 62))
    def test_what_was_written_is_read(self, key: str, value: bytes, after: int) -> None:
        records = Records("orders", "ns")
        stored = json.loads(json.dumps(records.written(key, value, after, wall_ms=0)))
        stored["metadata"]["resourceVersion"] = "17"
        assert records.read(stored) == Versioned(key, value, 17)

    def test_people_see_who_leads(self) -> None:
        value = json.dumps({"leader": "n1", "epoch": 7, "phase": "leading", "copies": ["n1"]}).encode()
        shown = Records("orders", "ns").written("register", value, 3, wall_ms=1_790_000_000_000)["shown"]
        assert shown == {"leader": "n1", "epoch": 7, "phase": "leading", "changed": "2026-09-21T14:13:20Z"}

    @pytest.mark.parametrize("value", [b"\xff", b"[]", b"7", b'{"epoch": "7", "leader": null, "phase": true}'])
    def test_what_is_no_register_shows_nothing_wrong(self, value: bytes) -> None:
        assert set(Records("orders", "ns").written("k", value, 0, wall_ms=0)["shown"]) == {"changed"}

    @pytest.mark.parametrize(
        "change",
        [
            {"spec": {"cluster": "orders2", "key": "register", "text": ""}},
            {"spec": {"cluster": "orders", "key": "other", "text": ""}},
            {"spec": {"cluster": "orders", "key": "register"}},
            {"spec": None},
            {"metadata": {"name": "orders.register", "resourceVersion": "x"}},
        ],
    )
    def test_what_is_not_ours_is_refused(self, change: Json) -> None:
        records = Records("orders", "ns")
        with pytest.raises(Strange):
            records.read({**records.written("register", b"", 3, wall_ms=0), **change})


class TestKubeconfig:
    def test_what_it_says(self, tmp_path: Path) -> None:
        write_private(tmp_path / "t", " token-1\n")
        file = write_kubeconfig(tmp_path / "k", "https://10.0.0.1:6443", {}, {"tokenFile": "t"}, "orders")
        access = Access(from_kubeconfig(file, None))
        assert (access.url, access.namespace) == ("https://10.0.0.1:6443", "orders")
        assert access.headers() == [("Authorization", "Bearer token-1")]

    def test_nothing_that_is_printed_shows_a_secret(self, tmp_path: Path) -> None:
        user = {"token": "secret-1", "client-key-data": base64.b64encode(b"secret-2").decode()}
        identity = from_kubeconfig(write_kubeconfig(tmp_path / "k", "https://a", {}, user, "x"), None)()
        request = Request("GET", "/", [("Authorization", "Bearer secret-1")])
        assert (identity.token, identity.key) == (b"secret-1", b"secret-2")
        assert "secret" not in f"{identity!r} {request!r}"

    def test_tokens_are_read_again(self, tmp_path: Path) -> None:
        """Both in a file of their own and in the kubeconfig."""
        write_private(tmp_path / "t", "old")
        named = Access(
            from_kubeconfig(write_kubeconfig(tmp_path / "k", "https://a", {}, {"tokenFile": "t"}, "x"), None)
        )
        within = write_kubeconfig(tmp_path / "l", "https://a", {}, {"token": "older"}, "x")
        inline = Access(from_kubeconfig(within, None))
        assert inline.headers() == [("Authorization", "Bearer older")]
        write_private(tmp_path / "t", "new")
        write_kubeconfig(tmp_path / "l", "https://a", {}, {"token": "newer-1"}, "x")
        assert named.headers() == [("Authorization", "Bearer new")]
        assert inline.headers() == [("Authorization", "Bearer newer-1")]

    @pytest.mark.parametrize(
        ("cluster", "user", "said"),
        [
            ({}, {"exec": {"command": "aws"}}, "uses `exec`.*tokenFile"),
            ({}, {"auth-provider": {"name": "gcp"}}, "uses `auth-provider`"),
            ({}, {"username": "a", "password": "b"}, "uses `username`"),
            ({"proxy-url": "http://p"}, {}, "uses `proxy-url`"),
            ({"tls-server-name": "x"}, {}, "uses `tls-server-name`"),
            ({"insecure-skip-tls-verify": True}, {}, "uses `insecure-skip-tls-verify`.*certificate-authority"),
            ({"server": "http://10.0.0.1"}, {}, "unencrypted: use https"),
            ({"server": "https://10.0.0.1/path"}, {}, "write it as https://host:port"),
            ({"certificate-authority": "missing.crt"}, {}, "missing.crt cannot be read"),
            ({"certificate-authority-data": "****"}, {}, "cannot be understood"),
            ({"certificate-authority-data": base64.b64encode(b"x").decode()}, {}, "are of no use"),
            ({}, {"token": "a\nb"}, "no token"),
            ({}, {"tokenFile": "missing"}, "missing cannot be read"),
        ],
    )
    def test_what_is_refused_says_what_to_do(self, tmp_path: Path, cluster: Json, user: Json, said: str) -> None:
        file = write_kubeconfig(tmp_path / "k", "https://10.0.0.1", cluster, user, "orders")
        with pytest.raises(UsageError, match=said):
            Access(from_kubeconfig(file, None))

    def test_contexts(self, tmp_path: Path) -> None:
        file = write_kubeconfig(tmp_path / "k", "https://10.0.0.1", {}, {}, "orders")
        with pytest.raises(UsageError, match="no context 'other': it has twinstar"):
            Access(from_kubeconfig(file, "other"))
        without = {**yaml.safe_load(file.read_text()), "current-context": ""}
        write_private(file, yaml.safe_dump(without))
        with pytest.raises(UsageError, match="no current context"):
            Access(from_kubeconfig(file, None))
        assert Access(from_kubeconfig(file, "twinstar")).namespace == "orders"

    def test_a_file_that_others_may_read_is_refused(self, tmp_path: Path) -> None:
        file = write_kubeconfig(tmp_path / "k", "https://10.0.0.1", {}, {"token": "secret-1"}, "orders")
        file.chmod(0o644)
        with pytest.raises(UsageError, match="chmod 600") as caught:
            Access(from_kubeconfig(file, None))
        assert "secret-1" not in str(caught.value)
        with pytest.raises(UsageError, match="cannot be read"):
            Access(from_kubeconfig(tmp_path / "none", None))


def test_outside_of_a_pod_a_kubeconfig_is_asked_for(tmp_path: Path) -> None:
    for environment in ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}):
        with pytest.raises(UsageError, match="no pod of Kubernetes"):
            in_pod(environment, tmp_path)


@pytest.mark.parametrize("name", ["", "Orders", "a.b", "x: y", "a" * 64, "-a"])
def test_a_manifest_takes_names_alone(name: str) -> None:
    with pytest.raises(UsageError, match="no name for Kubernetes"):
        manifest(name, "twinstar")
    with pytest.raises(UsageError, match="no name for Kubernetes"):
        manifest("orders", name)
