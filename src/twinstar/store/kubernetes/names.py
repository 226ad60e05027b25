"""From a cluster and a key to the name of an object, so that no two of them share one. Pure.

An object's name is small: lower-case letters, digits, `-` and `.`, each part between dots beginning and ending with a
letter or digit, 253 characters in all. So each `/` becomes a dot, and every byte that cannot stand there as it is
becomes ``z`` and its two hexadecimal digits (`z` itself too, and an empty part ``zz``). That can be read backwards,
hence two keys never meet; and the register of the cluster *orders* is simply ``orders.register``.

What is too long is named by its SHA-256. Whoever reads an object compares the cluster and the key that stand in it.
"""

from __future__ import annotations

from hashlib import sha256

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxy0123456789")
_LONGEST_NAME = 253
_LONGEST_LABEL = 63
_HASHED = "zh"


def name_of(cluster: str, key: str) -> str:
    name = ".".join([_part(cluster), *map(_part, key.split("/"))])
    return name if len(name) <= _LONGEST_NAME else _hashed(f"{_part(cluster)}.{key}")


def label_of(cluster: str) -> str:
    """The value of the label by which the objects of one cluster are found. Those of two clusters differ."""
    label = _part(cluster)
    return label if len(label) <= _LONGEST_LABEL else _hashed(cluster)[:_LONGEST_LABEL]


def _part(text: str) -> str:
    """One part between two dots."""
    raw = text.encode()
    last = len(raw) - 1
    return "".join(_letter(byte, 0 < index < last) for index, byte in enumerate(raw)) or "zz"


def _letter(byte: int, inside: bool) -> str:
    return chr(byte) if byte in _PLAIN or (inside and byte == ord("-")) else f"z{byte:02x}"


def _hashed(text: str) -> str:
    return _HASHED + sha256(text.encode()).hexdigest()
