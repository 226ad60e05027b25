"""How a sender whose start number is behind learns a higher one. No I/O; the datagrams are those of `model.wire`.

A receiver refuses what comes from an earlier start than the last one it has heard of: a replay. Who starts anew without
its state, and with an earlier wall clock than at its last start, is taken for one. The receiver cannot tell them apart,
so it answers with `LaterStart`: by which number that part of that member is known. Who is told of a higher number than
its own takes the next one, and keeps it where it keeps its number before it uses it.

**Why that is safe.** `LaterStart` states a fact that stays true: that start has been. So it may come late, twice, from
a replay, or from a sender that is itself taken for one (two that are behind for one another would never meet
otherwise). All it does is to raise a number, which takes nothing back: what was recorded under lower ones is refused as
before. It is never answered itself.

**What bounds it.** Only who holds the key can write one. It goes to the address that the configuration has for the
sender, never to where the refused datagram came from, so it floods nobody; and at most once a second to each. A number
that datagrams could not carry is not taken.

**Two living processes of one name** do not chase each other. Only the one at the configured address is told anything,
and a receiver says nothing to a number that it has itself heard and seen replaced (`Inbox`): who hears both listens to
the later start, and the earlier one stays unheard.
"""

from __future__ import annotations

from collections.abc import Callable

from twinstar.model.address import Address
from twinstar.model.wire import LARGEST_NUMBER, Envelope, Inbox, LaterStart, Part, Sender

_EVERY_MS = 1_000.0


class Starts:
    """Between one process's datagrams and what it makes of them."""

    def __init__(
        self,
        own: Sender,
        inbox: Inbox,
        address_of: Callable[[str, Part], Address | None],
        send: Callable[[Address, bytes], None],
        keep: Callable[[int], bool],
    ) -> None:
        """`address_of`: where a part of a member hears datagrams, as configured. `keep`: writes down another number of
        `own`, and says so; False when that failed, and then it is not used.
        """
        self._own, self._inbox = own, inbox
        self._address_of, self._send, self._keep = address_of, send, keep
        self._told_ms: dict[tuple[str, Part], float] = {}

    def open(self, data: bytes, now_ms: float) -> Envelope | None:
        """As `Inbox.open`, on any clock that does not go back. What concerns numbers alone is dealt with here."""
        opened = self._inbox.open(data)
        if isinstance(opened, LaterStart):
            self._tell(opened, now_ms)
            return None
        if opened is not None and isinstance(opened.message, LaterStart):
            self._hear(opened.message)
            return None
        return opened

    def _tell(self, later: LaterStart, now_ms: float) -> None:
        sender = (later.member, later.part)
        to = self._address_of(*sender)
        if to is not None and now_ms - self._told_ms.get(sender, now_ms - _EVERY_MS) >= _EVERY_MS:
            self._told_ms[sender] = now_ms
            self._send(to, self._own.pack(later))

    def _hear(self, later: LaterStart) -> None:
        meant = (later.member, later.part) == (self._own.member, self._own.part)
        if meant and self._own.boot < later.boot < LARGEST_NUMBER - 1 and self._keep(later.boot + 1):
            self._own.start_as(later.boot + 1)
