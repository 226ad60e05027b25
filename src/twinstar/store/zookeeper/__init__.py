"""ZooKeeper, spoken directly. `docs/decisions/zookeeper-client.md` says why."""
