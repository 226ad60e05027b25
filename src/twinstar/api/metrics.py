"""What an agent measures. Nothing here is about one kind of database.

A name's unit is at its end (seconds and bytes, as Prometheus wants it), counters end in ``_total``; `exposition.py`
puts ``twinstar_`` before it. That module alone imports the Prometheus client, at the first scrape.
"""

from __future__ import annotations

from dataclasses import dataclass, field


def _gauge(help_text: str) -> float | None:
    return field(default=None, metadata={"help": help_text, "type": "gauge"})


def _counter(help_text: str) -> float | None:
    return field(default=None, metadata={"help": help_text, "type": "counter"})


@dataclass(frozen=True, slots=True)
class Metrics:
    """One moment's values. None: unknown or not counted, and left out of the answer rather than shown as 0."""

    leader: float | None = _gauge("1 when this member leads.")
    standby: float | None = _gauge("1 when this member follows the leader.")
    open: float | None = _gauge("1 when the cluster's present epoch is open to clients.")
    paused: float | None = _gauge("1 when automatic changes are paused.")
    epoch: float | None = _gauge("The epoch this member knows of.")
    engine_running: float | None = _gauge("1 when the database accepts connections.")
    streaming: float | None = _gauge("1 when this standby receives its leader's log.")
    lag_bytes: float | None = _gauge("How far this standby's log is behind its leader's.")
    position_bytes: float | None = _gauge("End of this member's log, as a byte offset within its timeline.")
    timeline: float | None = _gauge("This member's timeline.")
    copies: float | None = _gauge("Members whose copy counts.")
    required: float | None = _gauge("Voters that must confirm a commit.")
    confirming: float | None = _gauge("Voters that could confirm a commit now; below `required` writes wait.")
    members_heard: float | None = _gauge("Other members heard of within the suspicion bound.")
    store_reachable: float | None = _gauge("1 when the coordination store answers.")
    restart_pending: float | None = _gauge("Settings that wait for a restart.")
    drift: float | None = _gauge("Settings that are Twinstar's own but have another value.")
    lease_left_seconds: float | None = _gauge("`async`: until the leader's lease ends.")
    last_failover_seconds: float | None = _gauge("From the notice to the opening, at this member's last take-over.")
    start_time_seconds: float | None = _gauge("When this agent started, in seconds since 1970.")
    loop_lag_seconds: float | None = _gauge("How late this agent's loop woke at worst since its start.")
    apply_lag_seconds: float | None = _gauge("Active-active: age of the oldest change of another node to come.")
    differing_rows: float | None = _gauge(
        "Active-active: rows that differ between nodes, by this one's last comparison."
    )
    dead_letters: float | None = _gauge("Active-active: changes of other nodes that could not be applied here.")
    conflicts: float | None = _gauge("Active-active: versions that lost a conflict, in this node's log.")
    sessions: float | None = _gauge("Active-active: sessions of clients.")
    clock_skew_seconds: float | None = _gauge("Active-active: greatest measured difference from another node's clock.")
    elections_total: float | None = _counter("Candidacies seen.")
    promotions_total: float | None = _counter("Promotions of this member.")
    suspicions_total: float | None = _counter("Times this member began to suspect another.")
    rewinds_total: float | None = _counter("Rewinds of this member.")
    rebuilds_total: float | None = _counter("Rebuilds of this member.")
    engine_deaths_total: float | None = _counter("Times the database ended without having been asked to.")
    store_unknown_total: float | None = _counter("Changes of the store whose outcome was not known at first.")
    messages_refused_total: float | None = _counter("Datagrams refused: not authentic, replayed or of another version.")
    stalls_total: float | None = _counter("Times this agent was itself not scheduled for too long.")
