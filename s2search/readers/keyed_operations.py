"""What the lookup tables of OFA and ProxylessNAS share: YAML with one operation per key, its count, mean and spread.

A key is `expanded_conv-input:112x112x16-output:56x56x24-expand:6-kernel:3-stride:2-idskip:0`: the operation, then what
is said of it. Shapes are rows x columns x channels.

Source: Cai et al., "Once-for-All" (2020), github.com/mit-han-lab/once-for-all, ofa/tutorial/latency_table.py, which
reads these files and takes `mean` as milliseconds.
"""

from __future__ import annotations

import abc
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from s2search.errors import TableError
from s2search.readers.base import Reader, Reading, few
from s2search.readers.strict import absent, count, decode, mapping, number, read_yaml
from s2search.tables.foreign import ImportedRow

_MEANING = {
    "input": "shape of the input: rows x columns x channels",
    "output": "shape of the output: rows x columns x channels",
    "expand": "channels in the middle, as a factor of the input's or as a number: as the source writes it",
    "kernel": "size of the kernel",
    "stride": "stride",
    "idskip": "1 with a skip connection",
    "se": "1 with squeeze-and-excitation",
    "hs": "1 with h-swish",
}


@dataclass(frozen=True, kw_only=True)
class KeyedOperations(Reader):
    """Reads `{key: {count, mean, <spread>}}`."""

    #: What the spread is called, whose format has another one, and what this one is.
    spread: ClassVar[str]
    rival: ClassVar[str]
    spread_is: ClassVar[str]

    def parse(self, content: bytes) -> Reading:
        """Return one row per key."""
        entries = mapping(read_yaml(decode(content)), "the document")
        said = {key: _said(key) for key in entries}
        columns = few(list(dict.fromkeys(name for _, about in said.values() for name in about)))
        return Reading(
            rows=[self._row(*said[key], columns, key, entry) for key, entry in entries.items()],
            columns={name: _MEANING.get(name, "as the source names it") for name in columns},
            assumptions=[
                "latency_ms is the source's mean, in milliseconds",
                f"latency_std_ms is {self.spread_is}",
                "device, runtime, threads, batch and date are not in the file",
            ],
        )

    def _row(self, part: str, about: dict[str, str], columns: list[str], key: str, entry: Any) -> ImportedRow:
        fields = mapping(entry, f"the entry {key!r}")
        if unknown := sorted(set(fields) - {"count", "mean", self.spread}):
            raise TableError(
                f"the entry {key[:200]!r} has {unknown[0][:40]!r}",
                allowed=f"count, mean, {self.spread}; not {self.rival}",
                remedy="correct the file, or name its format",
            )
        if "mean" not in fields:
            raise TableError(f"the entry {key[:200]!r} has no mean", remedy="correct the file")
        spread, samples = fields.get(self.spread), fields.get("count")
        return ImportedRow(
            part=part,
            about=tuple(about.get(column, "") for column in columns),
            latency_ms=number(fields["mean"], f"the mean of {key!r}"),
            latency_std_ms=None if absent(spread) else self.std_ms(number(spread, f"the {self.spread} of {key!r}")),
            samples=None if absent(samples) else count(samples, f"the count of {key!r}"),
        )

    @abc.abstractmethod
    def std_ms(self, spread: float) -> float:
        """Return the standard deviation, milliseconds, of a spread as the file states it."""


def _said(key: str) -> tuple[str, dict[str, str]]:
    """Split a key into the operation and what is said of it."""
    part, *facts = key.split("-")
    about: dict[str, str] = {}
    for fact in facts:
        name, colon, value = fact.partition(":")
        if not colon or not value or name in about or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise TableError(
                f"the key {key[:200]!r} cannot be read at {fact[:60]!r}",
                allowed="an operation, then -name:value, each name once, as in Conv-input:224x224x3-output:112x112x32",
                remedy="correct the key",
            )
        about[name] = value
    return part, about
