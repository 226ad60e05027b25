"""The Kubernetes API as a store: an object for each key. `docs/decisions/kubernetes-client.md` says why in this way."""
