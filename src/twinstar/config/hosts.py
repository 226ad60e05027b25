"""What may stand for a host, and whether it is this machine alone."""

from __future__ import annotations

import ipaddress
import re


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine alone; a name other than ``localhost`` is taken for a way outside."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_host(text: str) -> bool:
    """A name, an IPv4 or an IPv6 address, without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return re.fullmatch(r"(?!-)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?", text) is not None
    return True
