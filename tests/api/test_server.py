"""The HTTP interface over real connections on the loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import sys
from pathlib import Path

import pytest

from tests.api.small_cluster import TOKEN, SmallCluster, served
from twinstar.api import exchange, server
from twinstar.api.client import Client
from twinstar.config.tls import Purpose, ssl_context
from twinstar.model.address import Address
from twinstar.model.errors import EnvironmentTrouble, PeerError
from twinstar.ports.clock import SystemClock
from twinstar.ports.free_ports import find_free_ports
from twinstar.ports.system_network import SystemNetwork


class HastyClock(SystemClock):
    """Its deadlines come a hundred times sooner."""

    def timeout_ms(self, duration_ms: float) -> asyncio.Timeout:
        return asyncio.timeout(duration_ms / 100_000)


async def exchange_bytes(address: Address, request: bytes, *, end: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Sends these bytes; returns code, headers (names in small letters) and body, or code 0 when nothing came."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(request)
        await writer.drain()
        if end:
            writer.write_eof()
        async with asyncio.timeout(20):
            answer = await reader.read()
    except ConnectionError:
        answer = b""
    finally:
        writer.close()
    if not answer:
        return 0, {}, b""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body


async def ask(address: Address, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    code, _, answer = await exchange_bytes(address, f"{method} {path} HTTP/1.1\r\n{fields}{length}\r\n".encode() + body)
    return code, answer


async def until_answered(address: Address, code: int) -> None:
    for _ in range(1000):
        if (await ask(address, "GET", "/health"))[0] == code:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"{address} never answered with {code}")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_load_balancer_sees_who_leads(host: str) -> None:
    async with served(host) as here:
        for method in ("GET", "HEAD", "OPTIONS"):
            code, body = await ask(here.address, method, "/primary")
            assert (code, bool(body)) == (200, method == "GET")
            assert (await ask(here.address, method, "/replica"))[0] == 503
        here.cluster.become(leader="n2", lag_bytes=2000)
        code, body = await ask(here.address, "GET", "/primary")
        assert code == 503
        assert json.loads(body)["role"] == "standby"
        assert (await ask(here.address, "GET", "/replica"))[0] == 200
        assert (await ask(here.address, "GET", "/replica?lag=2kB"))[0] == 200
        assert (await ask(here.address, "OPTIONS", "/replica?lag=1kB"))[0] == 503


async def test_a_nonsensical_bound_is_not_taken_for_none() -> None:
    async with served() as here:
        code, body = await ask(here.address, "GET", "/replica?lag=16QB")
        assert code == 400
        assert "such as 16MB" in json.loads(body)["message"]


async def test_the_answer_is_plain_http() -> None:
    async with served() as here:
        code, headers, body = await exchange_bytes(here.address, b"GET /health HTTP/1.0\n\n")
        assert code == 200
        assert headers["content-type"].startswith("application/json")
        assert int(headers["content-length"]) == len(body)
        assert (headers["connection"], headers["cache-control"]) == ("close", "no-store")


async def test_status_and_history_through_the_client() -> None:
    async with served() as here:
        before = await here.client.status(here.address)
        assert (before["leader"], before["members"][0]["position"]) == ("n1", "1:0/3000148")
        outcome = await here.client.command(here.address, "switchover", to="n3")
        assert (outcome.ok, outcome.details) == (True, {"epoch": 2})
        assert (await here.client.status(here.address))["leader"] == "n3"
        assert await here.client.history(here.address) == [{"from": "n1", "to": "n3", "epoch": 2}]


async def test_every_command_reaches_the_agent() -> None:
    async with served() as here:
        command, address = here.client.command, here.address
        for name, paused in (("pause", True), ("resume", False)):
            assert (await command(address, name)).ok
            assert here.cluster.paused is paused
        assert (await command(address, "restart", member="n2")).message == "n2 was restarted."
        assert (await command(address, "reinit", member="n2")).ok
        assert (await command(address, "reload")).details == {"changes": []}
        assert not (await command(address, "failover", to="n2")).ok
        assert (await command(address, "failover", to="n2", accept_loss=True)).ok
        assert (await command(address, "remove", member="n3")).ok
        assert here.cluster.members == ["n1", "n2"]
        refused = await command(address, "restart", member="n3")
        assert (refused.ok, refused.message) == (False, "There is no member n3: choose one of n1, n2.")


OF_ONE = ("restart", "reinit", "remove", "leave", "rejoin")
COMMANDS = ["switchover", "failover", "pause", "resume", *OF_ONE, "reload"]


@pytest.mark.parametrize("name", COMMANDS)
async def test_nothing_changes_without_the_token(name: str) -> None:
    async with served() as here:
        untouched = SmallCluster()
        body = b'{"member": "n2"}' if name in OF_ONE else b"{}"
        attempts: list[tuple[dict[str, str], int]] = [
            ({}, 401),
            ({"Authorization": "Basic Y29ycmVjdDpob3JzZQ=="}, 401),
            ({"Authorization": "Bearer"}, 401),
            ({"Authorization": f"Bearer {TOKEN}x"}, 403),
            ({"Authorization": "Bearer correct"}, 403),
            ({"Authorization": "Bearer \u00e9"}, 403),
        ]
        for headers, expected in attempts:
            code, answer = await ask(here.address, "POST", f"/{name}", body, **headers)
            assert code == expected
            assert json.loads(answer)["ok"] is False
            assert TOKEN.encode() not in answer
        assert (await ask(here.address, "GET", f"/{name}", Authorization=f"Bearer {TOKEN}"))[0] == 405
        assert here.cluster == untouched


async def test_a_changed_token_counts_at_once_and_a_lost_one_is_no_open_door() -> None:
    async with served() as here:
        here.token = "another"
        assert (await here.client.command(here.address, "pause")).ok is False
        here.token = ""
        code, answer = await ask(here.address, "POST", "/pause", b"{}", Authorization="Bearer x")
        assert (code, b"/somewhere" in answer) == (503, False)
        assert not here.cluster.paused


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("/switchover", b"{", "The body is no JSON"),
        ("/switchover", b'"n2"', "The body is no JSON object"),
        ("/switchover", b"[" * 9000, "The body is no JSON"),
        ("/switchover", b'{"ot": "n2"}', "`ot` is not a known field of this command: known here are `to`."),
        ("/switchover", b'{"to": 2}', "`to` must be text, not 2."),
        ("/switchover", b'{"to": ""}', "`to` is empty"),
        ("/failover", b'{"accept_loss": "yes"}', "`accept_loss` must be true or false"),
        ("/restart", b"", "`member` is missing"),
        ("/pause", b'{"now": true}', "known here are none"),
    ],
)
async def test_a_body_that_is_wrong_is_refused_with_a_sentence(path: str, body: bytes, sentence: str) -> None:
    async with served() as here:
        code, answer = await ask(here.address, "POST", path, body, Authorization=f"bearer {TOKEN}")
        assert code == 400
        assert sentence in json.loads(answer)["message"]
        assert here.cluster == SmallCluster()


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"DELETE /status HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /health\r\n\r\n", 400),
        (b"GET /health HTTP\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"POST /pause HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /pause HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /pause HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /pause HTTP/1.1\r\nContent-Length: 16385\r\n\r\n", 413),
        (b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n", 400),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", 400),
    ],
)
async def test_what_is_no_proper_request_gets_a_short_answer(
    request_bytes: bytes, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    async with served() as here:
        found, _, body = await exchange_bytes(here.address, request_bytes, end=True)
        assert found in (code, 0), "0: closed with what was not read, so that the answer was lost on the way"
        assert found == code or len(request_bytes) > exchange.MAX_HEAD_BYTES
        assert not body or json.loads(body)["ok"] is False
        assert (await ask(here.address, "GET", "/health"))[0] == 200
    assert "Traceback" not in capfd.readouterr().err


async def test_a_command_whose_sender_died_in_the_middle_is_not_run() -> None:
    async with served() as here:
        whole = f"POST /pause HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
        for length in range(1, len(whole)):
            await exchange_bytes(here.address, whole[:length], end=True)
            assert not here.cluster.paused, whole[:length]
        await exchange_bytes(here.address, whole, end=True)
        assert here.cluster.paused


async def test_trouble_is_a_sentence_and_a_fault_of_our_own_is_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    async with served() as here:
        here.cluster.become(store_reachable=False)
        outcome = await here.client.command(here.address, "switchover")
        assert (outcome.ok, outcome.message) == (False, "The store does not answer: see to it first.")
        code, body = await ask(here.address, "POST", "/reinit", b'{"member": "n3"}', Authorization=f"Bearer {TOKEN}")
        assert (code, b"a fault of our own" in body) == (500, False)
    assert "ZeroDivisionError" in capfd.readouterr().err, "the log has it"


async def test_what_is_asked_for_is_logged_and_the_token_is_not(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with served() as here:
        await here.client.command(here.address, "switchover", to="n2")
    assert "switchover" in caplog.text
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(here.client)


async def test_metrics_are_what_prometheus_reads() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    async with served() as here:
        here.cluster.become(epoch=7)
        code, body = await ask(here.address, "GET", "/metrics")
        assert code == 200
        families = {family.name: family for family in text_string_to_metric_families(body.decode())}
        assert all(name.startswith("twinstar_") for name in families)
        assert families["twinstar_epoch"].samples[0].labels == {"cluster": "demo", "member": "n1"}
        assert families["twinstar_epoch"].samples[0].value == 7
        elections = families["twinstar_elections"]
        assert (elections.type, elections.samples[0].name, elections.samples[0].value) == (
            "counter",
            "twinstar_elections_total",
            6,
        )
        assert "twinstar_lag_bytes" not in families, "what is unknown is left out, not 0"
        assert "twinstar_rewinds" not in families, "nor is what nobody counts"


async def test_slow_clients_are_cut_off_and_do_not_shut_others_out() -> None:
    network, cluster = SystemNetwork(), SmallCluster()
    address = Address("127.0.0.1", find_free_ports("127.0.0.1", 1)[0])
    hasty = server.Server(cluster, "demo", "n1", lambda: TOKEN, HastyClock())
    await hasty.start(network, address)
    try:
        slow = [await asyncio.open_connection(address.host, address.port) for _ in range(server.MAX_CONNECTIONS)]
        for _, writer in slow:
            writer.write(b"GET /health HT")
        for reader, writer in slow:
            async with asyncio.timeout(20):
                try:
                    assert await reader.read() == b""
                except ConnectionResetError:
                    pass
            writer.close()
        await until_answered(address, 200)  # on a busy machine this one may be too slow as well
    finally:
        await hasty.close()


async def test_more_clients_than_there_is_room_for_are_turned_away() -> None:
    async with served() as here:
        idle = [
            await asyncio.open_connection(here.address.host, here.address.port) for _ in range(server.MAX_CONNECTIONS)
        ]
        for _, writer in idle:
            writer.write(b"G")
        await until_answered(here.address, 0)
        for _, writer in idle:
            writer.close()
        await until_answered(here.address, 200)


async def test_closing_ends_what_is_under_way() -> None:
    async with served() as here:
        reader, writer = await asyncio.open_connection(here.address.host, here.address.port)
        writer.write(b"GET /health HT")
        await ask(here.address, "GET", "/health")
        await here.server.close()
        async with asyncio.timeout(20):
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass
        writer.close()
        with pytest.raises(EnvironmentTrouble, match=r"No agent answers at 127\.0\.0\.1"):
            await here.client.status(here.address)


async def test_a_port_that_is_taken_is_a_sentence() -> None:
    async with served() as here:
        second = server.Server(SmallCluster(), "demo", "n1", lambda: TOKEN, SystemClock())
        with pytest.raises(EnvironmentTrouble, match=str(here.address.port)):
            await second.start(SystemNetwork(), here.address)


async def test_the_client_says_what_it_met() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def ssh(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        writer.close()

    for handler, deadline_ms, error, sentence in (
        (silent, 100, EnvironmentTrouble, "within"),
        (ssh, 20_000, PeerError, "does not speak HTTP"),
    ):
        listener = await asyncio.start_server(handler, "127.0.0.1", 0)
        address = Address("127.0.0.1", listener.sockets[0].getsockname()[1])
        with pytest.raises(error, match=sentence):
            await Client(SystemNetwork(), SystemClock()).status(address, deadline_ms=deadline_ms)
        listener.close()


async def test_with_tls_the_client_checks_whom_it_speaks_to(tmp_path: Path) -> None:
    import datetime

    from tests.config.test_certificates import configured
    from twinstar.config.certificates import write_certificates
    from twinstar.config.derive import tls_of

    config = configured(tmp_path)
    write_certificates(config, datetime.datetime.now(datetime.UTC))
    tls = tls_of(config, "n1")
    assert tls is not None
    network, clock = SystemNetwork(), SystemClock()
    secure = server.Server(SmallCluster(), "demo", "n1", lambda: TOKEN, clock)
    address = Address("127.0.0.1", find_free_ports("127.0.0.1", 1)[0])
    await secure.start(network, address, ssl_context(tls, Purpose.SERVE_HTTP))
    try:
        trusting = Client(network, clock, ssl_context(tls, Purpose.CALL_HTTP), TOKEN)
        assert (await trusting.command(address, "pause")).ok
        with pytest.raises(EnvironmentTrouble, match="No agent answers"):
            await Client(network, clock, ssl.create_default_context()).status(address)
        with pytest.raises((EnvironmentTrouble, PeerError)):
            await Client(network, clock).status(address)
    finally:
        await secure.close()


async def test_at_rest_the_interface_schedules_nothing() -> None:
    async with served() as here:
        await here.client.status(here.address)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(20):
            while ending := asyncio.all_tasks() - {asyncio.current_task()}:  # the connection's end may arrive late
                await asyncio.wait(ending)
        loop = asyncio.get_running_loop()
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []  # type: ignore[attr-defined]
        assert loop._default_executor is None, "no thread either"  # type: ignore[attr-defined]
        assert asyncio.all_tasks() == {asyncio.current_task()}


def test_an_agent_that_nobody_scrapes_does_without_the_prometheus_client() -> None:
    import subprocess

    program = "import sys, twinstar.api.server, twinstar.config.load; print([m for m in sys.modules if m in {banned}])"
    banned = {"prometheus_client", "cryptography", "typer", "rich", "http.server", "wsgiref"}
    result = subprocess.run(
        [sys.executable, "-c", program.format(banned=banned)], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"
