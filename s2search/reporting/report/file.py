"""A page as one file: its style and its one script inside, and a policy that lets nothing else run or load."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources

from s2search.reporting.report.markup import text


def page_file(title: str, content: str) -> str:
    """Return the page around its body; the one script that may run is named by its hash."""
    style, script, page = (_shipped(name) for name in ("page.css", "page.js", "page.html"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    placed = {
        "title": text(title),
        "style": style,
        "script_hash": f"sha256-{digest}",
        "script": script,
        "content": content,
    }
    parts = page.split("{{")
    return parts[0] + "".join(placed[name] + after for name, _, after in (part.partition("}}") for part in parts[1:]))


def _shipped(name: str) -> str:
    return resources.files("s2search.reporting.report").joinpath(name).read_text(encoding="utf-8")
