"""HAT's latency data sets: CSV of transformer layouts, each with mean and standard deviation of encoder and decoder.

Every layout makes two rows, `encoder` and `decoder`, since the file times them apart; their sum is the layout's
latency. The order is that of measuring, and `layout` counts it.

Source: Wang et al., "HAT" (ACL 2020), github.com/mit-han-lab/hardware-aware-transformers, latency_dataset.py:
`time.time()` differences times 1000, of which the fastest and the slowest tenth are left out before mean and
deviation are taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from s2search.errors import TableError
from s2search.readers.base import Reader, Reading
from s2search.readers.strict import Plain, decode, number, read_csv
from s2search.tables.foreign import ImportedRow

_PARTS = ("encoder", "decoder")
_TIMES = ("latency_mean_encoder", "latency_mean_decoder", "latency_std_encoder", "latency_std_decoder")


@dataclass(frozen=True, kw_only=True)
class HAT(Reader):
    """Reads HAT's latency data sets."""

    statement: ClassVar[str] = "published by HAT: encoders and decoders of whole layouts, timed by its authors"

    def parse(self, content: bytes) -> Reading:
        """Return two rows per layout."""
        header, lines = read_csv(decode(content))
        if missing := [column for column in _TIMES if column not in header]:
            raise TableError(f"it has no column {missing[0]!r}", allowed=", ".join(_TIMES), remedy="correct the file")
        features = [column for column in header if column not in _TIMES]
        rows: list[ImportedRow] = []
        for layout, (line, values) in enumerate(lines):
            cells = dict(zip(header, map(Plain, values), strict=True))
            numbers = {column: number(cells[column], f"{column} in line {line}") for column in header}
            about = (str(layout), *(str(cells[column]) for column in features))
            rows += [
                ImportedRow(
                    part=part,
                    about=about,
                    latency_ms=numbers[f"latency_mean_{part}"],
                    latency_std_ms=numbers[f"latency_std_{part}"],
                )
                for part in _PARTS
            ]
        return Reading(
            rows=rows,
            columns={"layout": "position in the order of measuring, from 0"}
            | dict.fromkeys(features, "a feature of the layout; averages are over its layers"),
            assumptions=[
                "latency_ms is the mean of the source's timings without their fastest and slowest tenth",
                "latency_std_ms is the deviation of those timings, which leaves the tails out",
                "how often a layout was timed, the device and the date are not in the file",
            ],
        )
