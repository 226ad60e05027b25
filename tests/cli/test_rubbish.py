"""What is removed meanwhile is gone in the end, also for somebody in a hurry."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.cli.local import SOURCE, until
from twinstar.cli.rubbish import Rubbish

_INTERRUPTED = """
import shutil, signal, sys, time
from pathlib import Path
from twinstar.cli import rubbish
from twinstar.cli.output import stop_on_sigterm

really = shutil.rmtree
def slowly(folder, **how):
    time.sleep(2)
    really(folder, **how)

rubbish.shutil.rmtree = slowly
stop_on_sigterm()
with rubbish.Rubbish() as taken:
    taken.take(Path(sys.argv[1]))
    print("taken", flush=True)
"""


def folder(path: Path) -> Path:
    made = path / "folder"
    (made / "inside").mkdir(parents=True)
    (made / "inside" / "file").write_text("x")
    return made


def test_what_was_taken_is_gone_when_it_was_waited_for(tmp_path: Path) -> None:
    one = folder(tmp_path / "one")
    with Rubbish() as rubbish:
        rubbish.take(one)
        rubbish.wait()
        assert not one.exists()
        other = folder(tmp_path / "other")
        rubbish.take(other)
    assert not other.exists()


def test_who_is_told_to_end_ends_when_it_is_gone(tmp_path: Path) -> None:
    one = folder(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED, str(one)], env={"PYTHONPATH": str(SOURCE)}, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"taken\n"
        running.send_signal(signal.SIGTERM)
        until(lambda: running.poll() is not None, "it ends")
    assert running.returncode == 128 + signal.SIGTERM
    assert not one.exists()
