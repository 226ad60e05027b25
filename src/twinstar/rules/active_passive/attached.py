"""Who is attached to a leader, as far as it counts."""

from __future__ import annotations

from twinstar.model.engine import Attachment, Primary
from twinstar.model.register import Register
from twinstar.model.view import View

_NEAR_BYTES = 16 * 1024 * 1024
"""A standby within this distance of the log's end has arrived and may become a voter."""


def attached(view: View, register: Register) -> dict[str, Attachment]:
    """Members whose confirmations count for this epoch."""
    return counted(view.primary, register)


def counted(primary: Primary | None, register: Register) -> dict[str, Attachment]:
    """Who is attached to this primary genuinely, and for the register's epoch."""
    attachments = primary.attachments if primary else ()
    return {a.member: a for a in attachments if a.genuine and a.epoch == register.epoch}


def arrived(view: View, register: Register) -> frozenset[str]:
    """Who may be a voter: streams, and is near the end of the log."""
    end = view.primary.position.lsn if view.primary else 0
    known = set(view.settings.members) - view.settings.nofailover
    here = attached(view, register)
    return frozenset(m for m, a in here.items() if m in known and a.streaming and end - a.flush_lsn <= _NEAR_BYTES)


def flushed(view: View, register: Register) -> frozenset[str]:
    """Who holds the log up to where it ended when the present names had come into effect."""
    return frozenset(m for m, a in attached(view, register).items() if a.flush_lsn >= view.enforced_lsn)
