"""The embedded store's process and client."""

from __future__ import annotations

import asyncio
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.conformance import StoreConformance, Told, create
from tests.store.servers import EmbeddedServer
from twinstar.model.errors import StoreUnavailable
from twinstar.store.base import Applied, Conflict, Unknown
from twinstar.store.embedded.frames import MAX_ANSWER_BYTES, encode, receive
from twinstar.store.embedded.table import Table


@pytest.fixture
def backend(embedded_server: EmbeddedServer) -> EmbeddedServer:
    return embedded_server


class TestEmbedded(StoreConformance):
    pass


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server that the test may end as it likes."""
    server = EmbeddedServer(tmp_path)
    server.start()
    yield server
    server.process.kill()


def refused(*options: str) -> str:
    """What a server that must not start says. It says it in one line."""
    command = [sys.executable, "-m", "twinstar.store.embedded", *options]
    ended = subprocess.run(command, capture_output=True, timeout=30, text=True, env={"PYTHONPATH": "src"}, check=False)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    return ended.stderr


async def test_a_terminated_server_ends_in_order(own: EmbeddedServer) -> None:
    store = own.open("c")
    async with Told(store) as told:
        revision = await create(store, "k", b"1")
        await told.until_stands({"k": b"1"})
        assert await asyncio.to_thread(own.process.end) == 0
    await store.close()
    assert not own.socket.exists()
    assert not own.file.with_name(own.file.name + "-wal").exists()  # folded into the file
    own.start()
    again = own.open("c")
    assert await again.compare_and_set("k", b"2", 0) == Conflict(await again.read("k"))
    assert isinstance(await again.compare_and_set("k", b"2", revision), Applied)
    await again.close()


def test_files_and_socket_belong_to_one_user(own: EmbeddedServer) -> None:
    assert stat.S_IMODE(own.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(own.file.stat().st_mode) == 0o600


def test_a_file_has_one_owner(own: EmbeddedServer, tmp_path: Path) -> None:
    assert "Another store process owns" in refused("--socket", str(tmp_path / "t"), "--file", str(own.file))


def test_a_socket_has_one_server(own: EmbeddedServer, tmp_path: Path) -> None:
    assert "Another process serves" in refused("--socket", str(own.socket), "--file", str(tmp_path / "other"))


def test_a_file_belongs_to_one_cluster(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    server.process.command += ["--cluster", "orders"]
    server.start()
    assert server.process.end() == 0
    said = refused("--socket", str(server.socket), "--file", str(server.file), "--cluster", "billing")
    assert "'orders'" in said
    assert "'billing'" in said


@pytest.mark.parametrize("content", [b"no database" * 1000, None])
def test_a_useless_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "store" / "file"
    if content:
        file.parent.mkdir()
        file.write_bytes(content)
    assert str(file) in refused("--socket", str(tmp_path / "t"), "--file", str(file))


def test_each_change_waits_for_the_disk(tmp_path: Path) -> None:
    """What a power failure leaves cannot be seen after a kill; that SQLite was told to wait can."""
    table = Table(tmp_path / "file", "", first_revision=1)
    settings = [table._database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    table.close()
    full = 2
    assert settings == ["wal", full]


async def test_a_disk_that_is_full_is_a_doubt_and_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk. With room again everything confirmed is there."""
    server = EmbeddedServer(tmp_path)
    unlimited = server.process.command
    server.process.command = ["sh", "-c", 'ulimit -f 300; exec "$@"', "sh", *unlimited]
    server.start()
    store, confirmed = server.open("c"), dict[str, int]()
    for number in range(100):
        outcome = await store.compare_and_set(f"k{number}", b"x" * 10_000, 0)
        if isinstance(outcome, Unknown):
            assert "disk refuses" in outcome.why
            break
        assert isinstance(outcome, Applied)
        confirmed[f"k{number}"] = outcome.revision
    else:
        pytest.fail("the disk did not become full")
    server.process.kill()
    server.process.command = unlimited
    await asyncio.to_thread(server.start)
    try:
        found = {value.key: value.revision for value in await store.read_all("")}
    finally:
        await store.close()
        server.process.kill()
    assert confirmed
    assert confirmed.items() <= found.items()


async def test_a_lost_file_begun_again_continues_above_the_old_revisions(own: EmbeddedServer) -> None:
    """A change that was meant for the old file must not fit into the new one by chance."""
    store = own.open("c")
    revision = await create(store, "k", b"1")
    own.process.kill()
    for file in own.file.parent.glob(own.file.name + "*"):
        file.unlink()
    await asyncio.to_thread(own.start)
    assert await create(store, "k", b"2") > revision
    await store.close()


async def test_what_is_no_request_is_refused_with_a_sentence(own: EmbeddedServer) -> None:
    too_large = (1 << 30).to_bytes(4, "big")
    for said in (
        encode({"op": "read"}),
        encode({"op": "compare_and_set", "key": "k", "value": "?", "expected": 0}),
        encode({"op": "compare_and_set", "key": "k", "value": "", "expected": True}),
        encode({"op": "drop"}),
        b"\0\0\0\2[]",
        b"\0\0\0\2{{",
        too_large,
    ):
        reader, writer = await asyncio.open_unix_connection(own.socket)
        writer.write(said)
        answer = await receive(reader, MAX_ANSWER_BYTES)
        assert answer["error"].endswith(".")
        assert await reader.read() == b""  # the connection has ended
        writer.close()
        await writer.wait_closed()
    store = own.open("c")
    await create(store, "k", b"")  # and the server goes on
    await store.close()


async def test_without_a_server_the_sentence_says_what_to_look_at(tmp_path: Path) -> None:
    store = EmbeddedServer(tmp_path).open("c")
    with pytest.raises(StoreUnavailable, match=r"does not answer .*: see that its process runs\.$"):
        await store.read("k")


async def test_a_copy_of_the_file_taken_after_a_kill_holds_every_confirmed_change(
    own: EmbeddedServer, tmp_path: Path
) -> None:
    """Changes under way from several clients, the server killed among them: what was confirmed is in the files."""
    confirmed: dict[str, int] = {}
    enough = asyncio.Event()

    async def write(number: int) -> None:
        store = own.open("c")
        for turn in range(1000):
            key = f"k{number}-{turn}"
            outcome = await store.compare_and_set(key, b"v", 0)
            if not isinstance(outcome, Applied):
                break
            confirmed[key] = outcome.revision
            if len(confirmed) >= 50:
                enough.set()
        await store.close()

    writers = [asyncio.create_task(write(number)) for number in range(3)]
    await enough.wait()
    own.process.kill()
    await asyncio.gather(*writers)
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in own.file.parent.glob(own.file.name + "*"):
        shutil.copy(file, copy)
    server = EmbeddedServer(copy)
    server.start()
    try:
        store = server.open("c")
        found = {value.key: value.revision for value in await store.read_all("")}
        await store.close()
    finally:
        server.process.kill()
    assert confirmed.items() <= found.items()
