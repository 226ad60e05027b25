"""Runs the command `twinstar` as a user would, and looks for what it leaves behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

from twinstar.config.load import load
from twinstar.ports import procfs

SOURCE = Path(__file__).parents[2] / "src"
TOKEN = "TWINSTAR_TEST_RUN"


class Folder:
    """A folder with a local cluster, or without one yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = token_hex(8)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(SOURCE), TOKEN: self.token, "COLUMNS": "200"}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "twinstar.cli.main", *arguments]

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def popen(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.path,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @property
    def data(self) -> list[Path]:
        file = self.path / "twinstar.yaml"
        return [node.directory / "data" for node in load(file).nodes] if file.exists() else []

    def processes(self) -> list[str]:
        """What still runs of it: by the token that all its processes inherit, or in its data directories."""
        wanted = f"{TOKEN}={self.token}".encode()
        found = [process.title for directory in self.data for process in procfs.of_directory(directory)]
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and procfs.run_id(int(entry.name)) is not None:
                try:
                    if wanted in (entry / "environ").read_bytes().split(b"\0"):
                        found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
                except OSError:
                    continue
        return found

    def remove(self) -> None:
        if (self.path / "twinstar.yaml").exists():
            self.run("down")
            for data in self.data:
                shutil.rmtree(data.parent.parent, ignore_errors=True)


def until(condition: Callable[[], bool], what: str, patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience_s:.0f} s: {what}"
        time.sleep(0.05)
