"""Keepers with real etcd: a store begins once, grows, survives its keepers, and replaces who was lost."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.store.certificates import make_certificates
from tests.store.keepers import Keepers, until
from twinstar.model.errors import StoreUnavailable
from twinstar.model.register import KEY, Durability, Phase, Register
from twinstar.store.base import ABSENT, Applied, CasOutcome, Unknown
from twinstar.store.etcd.client import EtcdStore
from twinstar.store.managed.settings import TlsFiles

pytestmark = [pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed")]

NAMES = ("n1", "n2", "w1")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keepers]:
    """Two data nodes' and a witness's, shared: each test leaves it whole."""
    keepers = Keepers(tmp_path_factory.mktemp("kept"), NAMES)
    keepers.start()
    yield keepers
    keepers.stop()


@pytest.fixture
async def store(kept: Keepers) -> AsyncIterator[EtcdStore]:
    store = kept.open()
    yield store
    await store.close()


async def written(store: EtcdStore, key: str, value: bytes = b"v") -> int:
    outcome: CasOutcome | None = None

    async def applied() -> bool:
        nonlocal outcome
        found = await store.read(key)
        outcome = await store.compare_and_set(key, value, found.revision if found else ABSENT)
        return isinstance(outcome, Applied)

    await until(applied)
    assert isinstance(outcome, Applied)
    return outcome.revision


async def test_a_store_of_three_begins_and_serves(kept: Keepers, store: EtcdStore) -> None:
    ids = await kept.whole("n1")
    assert len(set(ids.values())) == len(NAMES)
    await written(store, "begun")
    assert kept.said("n1").count("beginning a store") == 1
    assert all("beginning a store" not in kept.said(name) for name in NAMES[1:])


async def test_a_killed_keeper_leaves_its_etcd_and_the_next_one_finds_it(kept: Keepers, store: EtcdStore) -> None:
    await kept.whole("n1")
    pids = kept.etcd_pids("n1")
    kept.processes["n1"].kill()
    assert kept.etcd_pids("n1") == pids
    await written(store, "without a keeper")
    kept.start("n1")
    kept.kill_etcd("n1")
    await until(lambda: kept.etcd_pids("n1") not in ([], pids))
    await kept.whole("n1")


async def test_one_member_after_the_other_is_restarted_while_the_others_serve(kept: Keepers, store: EtcdStore) -> None:
    """As for an upgrade of etcd: a keeper that is asked to end ends its etcd, and the next one begins a new one."""
    before = await kept.whole("n1")
    for name in NAMES:
        assert kept.processes[name].end() == 0
        assert kept.etcd_pids(name) == []
        await written(store, "two of three", name.encode())
        kept.start(name)
        await until(lambda: kept.etcd_pids(name))  # noqa: B023 - called before the loop goes on
        assert await kept.whole(name) == before


@pytest.mark.parametrize("lost", ["n2", "n1"])
async def test_a_member_whose_disk_is_gone_is_replaced(kept: Keepers, store: EtcdStore, lost: str) -> None:
    """`n1` is the founder: it does not begin a second store."""
    before = await kept.whole("w1")
    revision = await written(store, "kept", lost.encode())
    kept.lose(lost)
    kept.start(lost)
    await until(lambda: kept.etcd_pids(lost))
    after = await kept.whole("w1")
    assert after[lost] != before[lost]
    assert {n: i for n, i in after.items() if n != lost} == {n: i for n, i in before.items() if n != lost}
    found = await store.read("kept")
    assert found is not None
    assert (found.value, found.revision) == (lost.encode(), revision)


async def test_the_store_is_not_led_beside_the_databases_leader(kept: Keepers) -> None:
    """So that a machine that dies takes one leader along. A witness is preferred: it holds no copy."""
    names = {member: name for name, member in (await kept.whole("n1")).items()}
    store = kept.open(kept.cluster)
    seen = [""]

    async def another_leads() -> bool:
        status = await kept.status("n1")
        found = names.get(status.leader, "") if status else ""
        if found not in ("", seen[-1]):
            seen.append(found)
            return True
        return False

    try:
        await until(another_leads)
        for _ in range(3):
            before = seen[-1]
            copies = frozenset({"n1", "n2", before})
            register = Register(1, Phase.LEADING, before, copies, 1, Durability.QUORUM, nonce=before)
            await written(store, KEY, register.encode())
            await until(another_leads)
            if before != "w1":
                assert seen[-1] == "w1"
    finally:
        await store.delete(KEY)
        await store.close()


async def test_who_was_removed_does_not_come_back_with_its_old_data(kept: Keepers, store: EtcdStore) -> None:
    before = await kept.whole("w1")
    await kept.remove(before["n2"], by="w1")
    await until(lambda: list(kept.place("n2").glob("removed-*")))
    after = await kept.whole("w1")
    assert after["n2"] != before["n2"]
    await written(store, "replaced")


async def test_a_full_store_has_room_again_by_itself(kept: Keepers, store: EtcdStore) -> None:
    """The same key over and over: what fills it is its past."""
    await kept.whole("n1")
    refusals = []
    for _ in range(800):
        found = await store.read("large")
        outcome = await store.compare_and_set("large", b"x" * 60_000, found.revision if found else ABSENT)
        if isinstance(outcome, Unknown) and "space" in outcome.why:
            refusals.append(outcome.why)
            break
    assert refusals, "it was filled"
    await written(store, "room again")
    await store.delete("large")

    async def quiet() -> bool:
        found = [await kept.status(name) for name in NAMES]
        return all(status is not None and not status.full for status in found)

    await until(quiet)


async def test_a_founder_does_not_begin_while_anybody_is_silent(tmp_path: Path) -> None:
    keepers = Keepers(tmp_path, NAMES)
    try:
        keepers.start("n1", "n2")
        await until(lambda: "w1" in keepers.said("n1"))
        assert keepers.etcd_pids("n1") == keepers.etcd_pids("n2") == []
        store = keepers.open()
        with pytest.raises(StoreUnavailable, match="no store member here yet"):
            await store.read("any")
        await store.close()
    finally:
        keepers.stop()


async def test_another_clusters_keeper_is_nobody(tmp_path: Path) -> None:
    """It has no member here, but its word is not this store's."""
    ours, theirs = Keepers(tmp_path / "ours", ("n1", "n2", "n3")), Keepers(tmp_path / "theirs", ("n1",), secret="other")
    theirs.members = ours.members
    theirs.write("n3", ours.members)
    try:
        ours.start("n1", "n2")
        theirs.start("n3")
        await until(lambda: "n3: http" in ours.said("n1") and "no store member here yet" in ours.said("n1"))
        assert ours.etcd_pids("n1") == []
    finally:
        ours.stop()
        theirs.stop()


async def test_members_and_keepers_speak_tls_with_each_other(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "tls")
    files = TlsFiles(str(made.server.certificate), str(made.server.key), str(made.authority))
    keepers = Keepers(tmp_path, NAMES, tls=files)
    try:
        keepers.start()
        await keepers.whole("w1")
        plain = keepers.open()
        with pytest.raises(StoreUnavailable):
            await plain.read("any")
        await plain.close()
    finally:
        keepers.stop()
