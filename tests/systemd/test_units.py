"""The units: systemd accepts them, and no unit's restart or end reaches the database."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "systemd"
NODE_UNITS = (
    "twinstar-guard@n1.service",
    "twinstar-engine@n1.path",
    "twinstar-engine@n1.service",
    "twinstar-agent@n1.service",
)


def settings(name: str) -> dict[str, list[str]]:
    """Each setting of a unit with its values, in order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        key, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


def one(name: str, key: str) -> str:
    values = settings(name)[key]
    assert len(values) == 1
    return values[0]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    # Programs must exist to be accepted: those of /opt/twinstar are stood in for.
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("twinstar", "python"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    units = tmp_path / "units"
    units.mkdir()
    for unit in UNITS.glob("twinstar-*"):
        (units / unit.name).write_text(unit.read_text().replace("/opt/twinstar/bin", str(programs)))
    names = [str(units / name) for name in (*NODE_UNITS, "twinstar-store@n1.service", "twinstar-router.service")]
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *names],
        capture_output=True,
        text=True,
        timeout=60,
    )
    complaints = [line for line in result.stderr.splitlines() if "twinstar" in line]
    assert (result.returncode, complaints) == (0, []), result.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in UNITS.glob("twinstar-*")))
def test_no_unit_takes_another_down_with_it(name: str) -> None:
    bonds = {"Requires", "Requisite", "BindsTo", "PartOf", "Upholds", "Conflicts", "PropagatesStopTo"}
    assert not bonds & settings(name).keys()


def test_the_agents_restart_spares_whatever_runs_beside_it() -> None:
    assert one("twinstar-agent@.service", "KillMode") == "process"


def test_the_guard_is_the_last_that_memory_pressure_ends() -> None:
    scores = {path.name: int(one(path.name, "OOMScoreAdjust")) for path in UNITS.glob("*.service")}
    assert min(scores, key=lambda name: scores[name]) == "twinstar-guard@.service"
    assert scores["twinstar-engine@.service"] < scores["twinstar-agent@.service"] < 0


def test_the_order_to_start_the_database_is_left_where_it_is_looked_for() -> None:
    place = one("twinstar-engine@.path", "PathExists")
    assert one("twinstar-agent@.service", "Environment") == f"TWINSTAR_LAUNCH={place}"
    # Used up first: a file that stayed would start the database again as soon as it ended.
    assert one("twinstar-engine@.service", "ExecStartPre") == f"mv -f {place} {place}ed"
    assert shlex.split(one("twinstar-engine@.service", "ExecStart"))[-2:] == ["--launch", f"{place}ed"]


@pytest.mark.parametrize("name", sorted(path.name for path in UNITS.glob("*.service")))
def test_what_a_unit_starts_is_there(name: str) -> None:
    program, *words = shlex.split(one(name, "ExecStart"))
    if program.endswith("/python"):
        assert importlib.util.find_spec(f"{words[1]}.__main__")
        return
    command = words[: next(i for i, word in enumerate(words) if word.startswith("--"))]
    main = "import sys; from twinstar.cli.main import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-c", main, *command, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(UNITS.parent / "src"), "NO_COLOR": "1", "COLUMNS": "200"},
    )
    assert result.returncode == 0, result.stderr
    assert all(word in result.stdout for word in words if word.startswith("--"))


def test_everything_of_a_node_runs_as_one_ordinary_user_in_one_folder() -> None:
    for name in ("twinstar-guard@.service", "twinstar-agent@.service", "twinstar-engine@.service"):
        assert one(name, "User") == "twinstar"
        assert one(name, "RuntimeDirectory") == "twinstar/%i"
        # Otherwise the first of them to stop would take the others' files away.
        assert one(name, "RuntimeDirectoryPreserve") == "yes"


def test_the_readme_names_every_unit() -> None:
    text = (UNITS / "README.md").read_text()
    for path in UNITS.glob("twinstar-*"):
        assert re.search(re.escape(path.name.replace("@", "@NODE")), text)
