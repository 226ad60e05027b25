"""Another durability for a cluster that runs, and back."""

from __future__ import annotations

from tests.cluster.real import RealCluster


def test_the_durability_is_changed_by_reload_while_clients_write(cluster: RealCluster) -> None:
    before = cluster.whole()
    with cluster.writing() as writers:
        for durability, required, names in (("async", 0, ""), ("quorum", 1, "ANY 1 (")):
            cluster.edit(lambda raw, chosen=durability: raw.update(durability=chosen))  # type: ignore[misc]
            cluster.told("reload")
            cluster.until(
                lambda s, wanted=(durability, required): (s["durability"], s["required"]) == wanted,  # type: ignore[misc]
                f"the register says {durability}",
            )
            shown = cluster.until(
                lambda _, wanted=names: (
                    confirming(cluster, before.leader).startswith(wanted)  # type: ignore[misc]
                    and bool(confirming(cluster, before.leader)) == bool(wanted)
                ),
                "the database lets the same ones confirm",
            )
            assert shown["epoch"] == before.epoch
            writers.progress(f"writes under {durability}")
    assert cluster.whole().epoch == before.epoch


def confirming(cluster: RealCluster, member: str) -> str:
    ((names,),) = cluster.ask(member, "SHOW synchronous_standby_names")
    return str(names)
