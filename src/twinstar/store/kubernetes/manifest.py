"""The manifest that prepares a Kubernetes cluster: the kind of object, and the least rights that do."""

from __future__ import annotations

import re
from importlib.resources import files
from string import Template

from twinstar.model.errors import UsageError

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def manifest(namespace: str, account: str) -> str:
    """YAML for ``kubectl apply -f -``. Raises UsageError for what is no name."""
    for name in (namespace, account):
        if not _LABEL.fullmatch(name):
            raise UsageError(f"{name!r} is no name for Kubernetes: write small letters, digits and `-`, at most 63.")
    text = files(__package__).joinpath("manifest.yaml").read_text(encoding="utf-8")
    return Template(text).substitute(namespace=namespace, account=account)
