"""What tests ask of a page that we made: that it is whole, needs nothing else, and looks right in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Checker(HTMLParser):
    """Every tag that is opened is closed, and nothing is fetched from elsewhere."""

    VOID = frozenset({"meta", "rect", "line", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {"src", "href"} & {name for name, _ in attrs}
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def check(page: str) -> list[str]:
    """The page's tags."""
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker.seen


@dataclass(frozen=True)
class Rendered:
    """What a browser has made of a page."""

    width: int
    scroll_width: int
    """Of the whole document; more than `width`: something sticks out."""
    plots: dict[str, list[list[float]]]
    """By kind: width and height of each plot's drawing."""
    outside: list[str]
    """Marks and words that lie outside of their plot, and words that do not fit into their cell."""
    paper: tuple[int, ...]
    inks: list[tuple[int, ...]]
    """Colours of words."""


_LOOK = """
const page = frame.contentDocument, view = frame.contentWindow, plots = {}, outside = [], inks = new Set();
for (const figure of page.querySelectorAll("figure.plot")) {
  const drawing = figure.querySelector("svg"), box = drawing.getBoundingClientRect();
  const kind = [...figure.classList].find(name => name != "plot");
  (plots[kind] ??= []).push([box.width, box.height]);
  for (const mark of drawing.querySelectorAll("text, rect, line, polyline")) {
    const at = mark.getBoundingClientRect();
    if (at.left < box.left - 1 || at.right > box.right + 1 || at.top < box.top - 2 || at.bottom > box.bottom + 2)
      outside.push(figure.textContent.slice(0, 60) + ": " + mark.outerHTML.slice(0, 160));
    if (mark.tagName == "text") inks.add(view.getComputedStyle(mark).fill);
  }
}
for (const cell of page.querySelectorAll("p, td, th, figcaption, h1, h2, h3, li")) {
  if (cell.scrollWidth > cell.clientWidth + 1) outside.push(cell.outerHTML.slice(0, 160));
  inks.add(view.getComputedStyle(cell).color);
}
const root = page.documentElement;
said.textContent = JSON.stringify({width: root.clientWidth, scroll_width: root.scrollWidth, plots, outside,
  paper: view.getComputedStyle(page.body).backgroundColor, inks: [...inks]});
"""


def browser() -> str:
    """The first one that is here; the test is skipped where none is."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed: nobody can look at the page")
    return found


def rendered(page: str, width: int, folder: Path, *, dark: bool = False) -> Rendered:
    """`page` in a window of `width` pixels. `folder` takes what the browser writes."""
    frame = folder / f"frame-{width}.html"
    frame.write_text(
        f'<!doctype html><meta charset="utf-8"><iframe id="frame" style="border:0;width:{width}px;height:900px" '
        f'srcdoc="{escape(page)}"></iframe><pre id="said"></pre>'
        f'<script>addEventListener("load", () => {{ {_LOOK} }});</script>',
        encoding="utf-8",
    )
    shown = _dumped(frame, folder / "profile", dark=dark)
    said = re.search(r'<pre id="said">(.+?)</pre>', shown, re.DOTALL)
    assert said, "the browser ran no script"
    found: dict[str, Any] = json.loads(unescape(said[1]))
    return Rendered(
        found["width"],
        found["scroll_width"],
        found["plots"],
        found["outside"],
        _colour(found["paper"]),
        [_colour(ink) for ink in found["inks"]],
    )


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Of two colours, as the Web Content Accessibility Guidelines reckon it: from 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: tuple[int, ...]) -> float:
    parts = (part / 255 for part in colour)
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _colour(text: str) -> tuple[int, ...]:
    """Of ``rgb(1, 2, 3)``."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _dumped(file: Path, profile: Path, *, dark: bool) -> str:
    """The document after its scripts have run. The browser and its children end with this."""
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}"]
    with subprocess.Popen(
        [browser(), *options, *scheme, "--dump-dom", file.as_uri()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        try:
            shown, complaints = running.communicate(timeout=120)
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 0, complaints
    return shown
