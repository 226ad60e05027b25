"""A standby that has fallen too far behind is made anew, by itself, and the log is kept for nobody for ever."""

from __future__ import annotations

import pytest

from tests.cluster.real import RealCluster, member

pytestmark = [pytest.mark.slow]


def test_a_standby_whose_slot_is_lost_is_copied_anew(cluster: RealCluster) -> None:
    before = cluster.whole()
    standby = before.standbys[0].name
    marker = cluster.data[standby] / "left-by-a-test"
    keep_little = {"max_slot_wal_keep_size": "32MB", "wal_keep_size": "0"}
    cluster.edit(lambda raw: raw["postgresql"].update(parameters=keep_little))
    try:
        cluster.told("reload")
        with cluster.writing() as writers:
            cluster.kill(standby)
            marker.touch()
            for _ in range(6):
                writers.progress("log is written", count=2)
                cluster.ask(before.leader, "SELECT pg_switch_wal()")
            cluster.ask(before.leader, "CHECKPOINT")
            lost = f"SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'twinstar_{standby}'"
            assert cluster.ask(before.leader, lost) in ([("lost",)], [("unreserved",)], [])
            cluster.start(standby)
            cluster.until(
                lambda s: not marker.exists() and member(s, standby)["state"] == "streaming", "it is made anew"
            )
            writers.progress("all the time")
    finally:
        cluster.edit(lambda raw: raw["postgresql"].update(parameters={}))
        cluster.cli("reload")
    assert cluster.whole().epoch == before.epoch
