"""Files that were harmed on purpose: strategies for hypothesis, and what must survive them."""

from __future__ import annotations

import hashlib
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from s2search.errors import S2SearchError

#: What a file may hold where it should not.
TOKENS = (
    *(
        b"",
        b"-",
        b"0",
        b"-1",
        b"1e999",
        b"-1e308",
        b"nan",
        b".nan",
        b"NaN",
        b"Infinity",
        b".inf",
        b"null",
        b"~",
        b"true",
    ),
    *(b"9" * 400, b"1" * 5000, b"1_000", b"0x1F", b"1:30:00", b"1e-400", b"0.1e9999999999", b"-0.0", b"1,5"),
    *(
        b"\xef\xbb\xbf",
        b"\x00",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\x1b[31m",
        b"\r",
        b"\n",
        b"\t",
        b"\xe2\x80\xae",
    ),
    *(
        b"[" * 200,
        b"{" * 200,
        b'{"a":' * 2000,
        b"[" * 20000,
        b"- " * 200,
        b"]",
        b"}",
        b'"',
        b"'",
        b",",
        b":",
        b": ",
        b"#",
    ),
    *(
        b"&a",
        b"*a",
        b"<<: *a",
        b"!!python/object/apply:os.system [id]",
        b"!!int 5",
        b"---\n",
        b"...\n",
        b"? ",
        b"| \n",
        b"%",
    ),
    *(b'"\\ud800"', b'"\\u0000"', b"[]", b"{}", b'""', b"[1]", b'{"min":1}', b"latency_ms", b"std", b"var", b"mean"),
    "٣".encode(),
    "é".encode() * 3000,
)
_OPERATIONS = ("flip", "insert", "replace", "cut", "repeat", "truncate", "swap", "number", "word", "prepend", "append")
_SLOWEST_S = 3.0
_MOST_GROWTH_KIB = 700 * 1024


def harmed(*samples: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy of copies of these files, each harmed one to six times."""
    places = st.floats(0, 1, exclude_max=True)
    steps = st.tuples(st.sampled_from(_OPERATIONS), places, places, st.sampled_from(TOKENS))
    return st.builds(_harm, st.sampled_from(samples), st.lists(steps, min_size=1, max_size=6)).map(Harmed)


class Harmed(bytes):
    """Bytes that a failing test does not print by the page; `HARMED=folder` in the environment keeps them."""

    __slots__ = ()

    def __repr__(self) -> str:
        name = hashlib.sha256(self).hexdigest()[:16]
        if folder := os.environ.get("HARMED"):
            Path(folder, name).write_bytes(self)
        return f"<{len(self)} bytes {name}: {bytes(self[:60])!r}...>"


def survives(run: Callable[[bytes], object], files: st.SearchStrategy[bytes], examples: int) -> None:
    """Assert that whatever the file, `run` returns or raises S2SearchError of one line, soon and in little memory."""

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), database=None, phases=[Phase.generate])
    @given(files)
    def once(content: bytes) -> None:
        start = time.process_time()
        message = "read"
        try:
            run(content)
        except S2SearchError as error:
            message = str(error)
        assert message.splitlines() == [message]
        assert len(message) < 5_000
        assert time.process_time() - start < _SLOWEST_S

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    once()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _MOST_GROWTH_KIB


def _harm(content: bytes, steps: list[tuple[str, float, float, bytes]]) -> bytes:
    for operation, place, size, token in steps:
        content = _STEPS[operation](content, int(place * len(content)), size, token)
    return content


def _flip(content: bytes, at: int, size: float, token: bytes) -> bytes:
    return content[:at] + bytes(byte ^ (1 << int(8 * size)) for byte in content[at : at + 1]) + content[at + 1 :]


def _cut(content: bytes, at: int, size: float, token: bytes) -> bytes:
    return content[:at] + content[at + 1 + int(40 * size) :]


def _repeat(content: bytes, at: int, size: float, token: bytes) -> bytes:
    """Repeat a line, or for large sizes some of the content: keys and rows twice."""
    start = content.rfind(b"\n", 0, at) + 1
    end = len(content) if size > 0.9 else content.find(b"\n", at) + 1
    return content[:end] + content[start:end] + content[end:]


def _swap(content: bytes, at: int, size: float, token: bytes) -> bytes:
    """Exchange two runs of bytes."""
    other = int(size * len(content))
    first, second = sorted((at, other))
    length = min(20, second - first)
    a, b = content[first : first + length], content[second : second + length]
    return content[:first] + b + content[first + length : second] + a + content[second + length :]


def _at_run(content: bytes, at: int, members: bytes, token: bytes) -> bytes:
    """Replace the first run of such bytes from a place on."""
    start = next((i for i in range(at, min(at + 400, len(content))) if content[i] in members), None)
    if start is None:
        return content + token
    end = start
    while end < len(content) and content[end] in members:
        end += 1
    return content[:start] + token + content[end:]


_STEPS: dict[str, Callable[[bytes, int, float, bytes], bytes]] = {
    "flip": _flip,
    "insert": lambda content, at, size, token: content[:at] + token + content[at:],
    "replace": lambda content, at, size, token: content[:at] + token + content[at + 1 + int(30 * size) :],
    "cut": _cut,
    "repeat": _repeat,
    "truncate": lambda content, at, size, token: content[:at],
    "swap": _swap,
    "number": lambda content, at, size, token: _at_run(content, at, b"0123456789.", token),
    "word": lambda content, at, size, token: _at_run(content, at, b"abcdefghijklmnopqrstuvwxyz_", token),
    "prepend": lambda content, at, size, token: token + content,
    "append": lambda content, at, size, token: content + token,
}
