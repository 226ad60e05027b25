"""Active-active: which nodes clients may be sent to, from what the nodes' agents say. Pure.

Any node is as good as any other, and a client that is sent to the wrong one loses nothing but time. A node that must
not take writes (its clock is off, it has been taken out) shuts clients out itself. It can do so only when it knows;
what is written to one that was taken out while nobody but its clients could reach it reaches nobody. Hence 4.

What it guarantees
    1. *A new session goes to a node that says it is open*, and said so within `SILENCE_MS`.
    2. *Nobody stays on a node that is over.* Sessions end on a node that says it is not open, so that its clients come
       back elsewhere; and on one that has said nothing for `SILENCE_MS` while others were heard, once one is open.
       A session on a node that was silent when nobody spoke is kept: perhaps it was the router that heard nobody. So
       the time counts from when somebody is heard again, and a silence is whole when somebody was heard after it.
    3. *`read` has a node whenever `any` has one.* A node is left out of it when it lags by more than the bound behind
       the one that lags the least. What all of them lack (a dead node's last writes) says nothing for or against any of
       them.
    4. *A node that lags behind the membership is left out*: one that has not learned of an epoch that the router has
       heard of, for `BEHIND_MS`. Perhaps it was that node that was taken out.

Silence is counted while this process runs: one that was itself stopped for a second has no right to call others silent
(`slept`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from twinstar.model.wire import PeerStatement
from twinstar.router.routes import LEFT_OUT_MS, Route, Why

SILENCE_MS = 250.0
"""Agents speak every 100 ms: two statements may be lost."""
BEHIND_MS = 5_000.0
"""How long a node may take to learn of a change of the membership."""


@dataclass(frozen=True, slots=True)
class Word:
    """What a node's agent said last, and when that arrived."""

    statement: PeerStatement
    at_ms: float
    lagging_since_ms: float | None = None
    """Since when it has been out of the lag bound."""
    behind_since_ms: float | None = None
    """Since when it has known an older epoch of the membership than another node."""

    def heard(self, now_ms: float) -> bool:
        return now_ms <= self.at_ms + SILENCE_MS

    def outdated(self, now_ms: float) -> bool:
        return self.behind_since_ms is not None and now_ms > self.behind_since_ms + BEHIND_MS


@dataclass(frozen=True, slots=True)
class Nodes:
    """What a router knows of the nodes. `max_lag_ms` is the bound for `read`."""

    max_lag_ms: float
    words: Mapping[str, Word] = field(default_factory=dict)
    """By member, of those that were ever heard."""
    hearing_since_ms: float = 0.0
    """Since when somebody has been heard, without `SILENCE_MS` in which nobody was."""

    def saw(self, member: str, statement: PeerStatement, now_ms: float) -> Nodes:
        """A statement that has just arrived."""
        words = dict(self.words)
        hearing = now_ms <= _newest_ms(words) + SILENCE_MS
        before = words.get(member)
        words[member] = replace(before, statement=statement, at_ms=now_ms) if before else Word(statement, now_ms)
        epoch = max(word.statement.epoch for word in words.values())
        for name, word in words.items():
            behind = word.statement.epoch < epoch
            words[name] = replace(word, behind_since_ms=_since(word.behind_since_ms, now_ms, holds=behind))
        lagging = _lagging(words, now_ms, self.max_lag_ms)
        for name, word in words.items():
            words[name] = replace(word, lagging_since_ms=_since(word.lagging_since_ms, now_ms, holds=name in lagging))
        return replace(self, words=words, hearing_since_ms=self.hearing_since_ms if hearing else now_ms)

    def slept(self, late_ms: float, now_ms: float) -> Nodes:
        """This process was not run for so long: for as much longer what was heard before counts as new."""
        words = {name: replace(word, at_ms=min(now_ms, word.at_ms + late_ms)) for name, word in self.words.items()}
        return replace(self, words=words, hearing_since_ms=min(now_ms, self.hearing_since_ms + late_ms))

    def route(self, now_ms: float, members: frozenset[str]) -> Route:
        """What follows, for a router that has the addresses of `members`."""
        here = {name: word for name, word in self.words.items() if name in members}
        usable = _open(here, now_ms)
        ended = {
            name: word.statement.reason or "it is closed" for name, word in here.items() if not word.statement.open
        }
        if not usable:
            return Route(ended=ended, why=Why.NOBODY_OPEN)
        newest_ms = _newest_ms(here)
        for name, word in here.items():
            if not word.heard(now_ms):
                if newest_ms >= max(word.at_ms, self.hearing_since_ms) + SILENCE_MS:
                    ended.setdefault(name, "it is silent")
            elif word.outdated(now_ms):
                ended.setdefault(name, f"it knows the membership's epoch {word.statement.epoch} alone")
        lagging = _lagging(here, now_ms, self.max_lag_ms)
        left_out = frozenset(
            name
            for name in lagging
            if (since := here[name].lagging_since_ms) is not None and now_ms > since + LEFT_OUT_MS
        )
        read = tuple(name for name in usable if name not in lagging)
        return Route(any=usable, read=read, left_out=left_out, ended=ended, why=None)

    def next_change_ms(self, now_ms: float) -> float:
        """When `route` may say something else although nothing was heard; `inf`: never."""
        ends = [word.at_ms + SILENCE_MS for word in self.words.values()]
        ends += [each.behind_since_ms + BEHIND_MS for each in self.words.values() if each.behind_since_ms is not None]
        ends += [
            each.lagging_since_ms + LEFT_OUT_MS for each in self.words.values() if each.lagging_since_ms is not None
        ]
        return min((end for end in ends if end >= now_ms), default=float("inf"))


def _newest_ms(words: Mapping[str, Word]) -> float:
    return max((word.at_ms for word in words.values()), default=float("-inf"))


def _open(words: Mapping[str, Word], now_ms: float) -> tuple[str, ...]:
    return tuple(
        sorted(
            name
            for name, word in words.items()
            if word.statement.open and word.heard(now_ms) and not word.outdated(now_ms)
        )
    )


def _since(before_ms: float | None, now_ms: float, *, holds: bool) -> float | None:
    """Since when something has held without a break; None: it does not."""
    if not holds:
        return None
    return now_ms if before_ms is None else before_ms


def _lagging(words: Mapping[str, Word], now_ms: float, max_lag_ms: float) -> frozenset[str]:
    """Of those that are open."""
    usable = _open(words, now_ms)
    least = min((words[name].statement.lag_ms for name in usable), default=0.0)
    return frozenset(name for name in usable if words[name].statement.lag_ms > least + max_lag_ms)
