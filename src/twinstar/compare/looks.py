"""How the contestants look wherever they are drawn: a hue for the strategy, its strength for the durability."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from twinstar.compare.why import short

STYLE = """
:root { --active-passive-async: #6aa5da; --active-passive-quorum: #1d5696; --active-active-async: #e59a4f;
  --active-active-quorum: #a34f0c; }
@media (prefers-color-scheme: dark) { :root { --active-passive-async: #b4d6f5; --active-passive-quorum: #4c92d9;
  --active-active-async: #fbd0a2; --active-active-quorum: #e5822f; } }
"""


def colour(name: str) -> str:
    """Of a contestant, as an inline style for a mark."""
    return f'style="--mark: var(--{escape(name)}, var(--bar))"'


def legend(names: Iterable[str]) -> str:
    keys = "".join(f'<span {colour(name)}><i class="key"></i>{escape(short(name))}</span>' for name in names)
    return f'<p class="legend">{keys}</p>'
