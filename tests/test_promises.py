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
