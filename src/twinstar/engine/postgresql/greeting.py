"""Whether another member's database answers at all, without knowing anything of it.

An SSLRequest is answered with one byte by a backend that the main process has forked for it: a stopped or spinning main
process does not answer, although the kernel accepts the connection for it. It says nothing about queries.
"""

from __future__ import annotations

from contextlib import suppress

from twinstar.model.address import Address
from twinstar.ports.clock import Clock
from twinstar.ports.network import Network

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


async def greets(network: Network, clock: Clock, address: Address, deadline_ms: float) -> bool:
    """True when a byte came back within the deadline."""
    try:
        async with clock.timeout_ms(deadline_ms):
            reader, writer = await network.dial(address)
            try:
                writer.write(_SSL_REQUEST)
                return len(await reader.read(1)) == 1
            finally:
                writer.close()
                with suppress(OSError):
                    writer.transport.abort()
    except (OSError, TimeoutError):
        return False
