"""etcd v3 through its JSON gateway. `docs/decisions/etcd-client.md` says why not gRPC."""
