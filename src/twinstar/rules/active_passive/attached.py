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
    """Who may be a voter: streams, is near the end of the log, and is known."""
    end = view.primary.position.lsn if view.primary else 0
    near = {m for m, a in attached(view, register).items() if a.streaming and end - a.flush_lsn <= _NEAR_BYTES}
    return known(view, register) & near


def known(view: View, register: Register) -> frozenset[str]:
    """The data nodes of the configuration; a new one when it is in that of the other copies, too: one that came to lead
    before could not be followed, nor missed, by those to which it is a stranger.
    """
    told = [m for m in register.copies - {view.me} if view.peer(m).heard]
    others = frozenset(view.settings.members) - view.settings.nofailover
    return frozenset(m for m in others if m in register.copies or all(m in view.peer(each).members for each in told))


def flushed(view: View, register: Register) -> frozenset[str]:
    """Who holds the log up to where it ended when the present names had come into effect."""
    return frozenset(m for m, a in attached(view, register).items() if a.flush_lsn >= view.enforced_lsn)
