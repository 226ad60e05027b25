"""Ports of this worker's own: what tests of several workers find free at the same time never meets, however late it is
used, and while the server that had it is dead.

They lie below what Linux gives to outgoing connections (32768 and up), and what `find_free_ports` gives (20000 and up).
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_PORTS_EACH = 2_000
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
_OWN = range(12_000 + _WORKER * _PORTS_EACH, 12_000 + (_WORKER + 1) * _PORTS_EACH)
_next = itertools.cycle(random.SystemRandom().sample(_OWN, len(_OWN)))


@contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Ports that nobody listens on, and that no other test is given before this one has begun to use them."""
    with ExitStack() as bound:
        found: list[int] = []
        while len(found) < count:
            probe = bound.enter_context(socket.socket())
            port = next(_next)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                found.append(port)
        yield found
