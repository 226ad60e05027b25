"""Every test that the documentation names as showing a promise is there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
PROMISES = TESTS.parent / "docs" / "verification.md"
SHORT = {"mw/": "engine/multiwriter/"}
NAMED = re.compile(r"`([\w/]+\.py)(?:: (test_\w+))?`|`(test_\w+)`")


def named(line: str) -> list[tuple[Path, str]]:
    """(file, test) of each that a row names; a test without a file is of the one before."""
    found, file = [], TESTS
    for path, test, alone in NAMED.findall(line):
        if path:
            long = next(
                (long + path.removeprefix(short) for short, long in SHORT.items() if path.startswith(short)), path
            )
            beside = file.parent / path
            file = TESTS / long if (TESTS / long).exists() or file == TESTS else beside
        found.append((file, test or alone))
    return found


def test_what_shows_a_promise_is_there() -> None:
    text = PROMISES.read_text()
    rows = [line for line in text.partition("what shows it")[2].splitlines() if line.startswith("| ")]
    found = [each for row in rows for each in named(row)]
    assert len(found) > 50
    missing = [
        f"{file.relative_to(TESTS)}: {test}"
        for file, test in found
        if not file.is_file() or (test and not re.search(rf"^(async )?def {test}\(", file.read_text(), re.MULTILINE))
    ]
    assert not missing


PLACE = re.compile(r"`((?:[a-z_]+/)*[a-z_]+\.py)(?::\s?([A-Za-z_]+)(?![\w…]))?")


def test_where_a_rule_of_the_protocol_stands_is_there() -> None:
    places = PLACE.findall((PROMISES.parent / "protocol.md").read_text())
    assert len(places) > 100
    files = [file for folder in (TESTS, TESTS.parent / "src") for file in folder.rglob("*.py")]
    missing = [f"{path}: {name}" for path, name in places if not any(_has(file, path, name) for file in files)]
    assert not missing


def _has(file: Path, path: str, name: str) -> bool:
    return f"/{file.as_posix()}".endswith(f"/{path}") and name in file.read_text()
