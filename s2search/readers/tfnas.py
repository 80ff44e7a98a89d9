"""TF-NAS's latency tables: CSV of operation, width and latency, as converted from the project's pickles.

An operation is `MBInvertedResBlock_112_16_0_24_k3_s2_relu`: its name, the input's rows (as many as columns), the
channels in, of squeeze-and-excitation and out, kernel, stride and activation; `width` is the channels in the middle.
The line `base` is what every network has. Negative latencies, left by a difference of two timings, are kept for the
linter.

Source: Hu et al., "TF-NAS" (ECCV 2020), github.com/AberHu/TF-NAS, latency_pkl/make_lat_lut_example.py. Its pickles
are not read: unpickling runs what a file asks for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from s2search.errors import TableError
from s2search.readers.base import Reader, Reading
from s2search.readers.strict import Plain, count, decode, number, read_csv
from s2search.tables.foreign import ImportedRow

_HEADER = ["op", "width", "latency_ms"]
_OPERATION = re.compile(
    r"([A-Za-z]\w{0,60}?)_(\d{1,6})_(\d{1,6})_(\d{1,6})_(\d{1,6})_k(\d{1,3})_s(\d{1,3})_([a-z]\w{0,30})"
)
_COLUMNS = {
    "resolution": "rows and columns of the input",
    "in_channels": "channels of the input",
    "se_channels": "channels of squeeze-and-excitation, 0 without",
    "out_channels": "channels of the output",
    "kernel": "size of the kernel",
    "stride": "stride",
    "activation": "activation function",
    "width": "channels in the middle",
}


@dataclass(frozen=True, kw_only=True)
class TFNAS(Reader):
    """Reads TF-NAS's latency tables."""

    statement: ClassVar[str] = "published by TF-NAS: single blocks, timed by its authors"

    def parse(self, content: bytes) -> Reading:
        """Return one row per line."""
        header, lines = read_csv(decode(content))
        if header != _HEADER:
            raise TableError(
                f"its first line is {','.join(header)[:80]!r}",
                allowed=",".join(_HEADER),
                remedy="convert the pickle to CSV",
            )
        return Reading(
            rows=[_row(line, *cells) for line, cells in lines],
            columns=_COLUMNS,
            assumptions=["batch, device, runtime, samples and date are not in the file"],
        )


def _row(line: int, operation: str, width: str, latency: str) -> ImportedRow:
    latency_ms = number(Plain(latency), f"latency_ms in line {line}")
    if (operation, width) == ("", "base"):
        return ImportedRow(part="base", about=("",) * len(_COLUMNS), latency_ms=latency_ms)
    match = _OPERATION.fullmatch(operation)
    if match is None or not operation.isascii():
        raise TableError(
            f"line {line} has the operation {operation[:80]!r}",
            allowed="NAME_rows_in_se_out_kK_sS_activation",
            remedy="correct the file",
        )
    width = str(count(Plain(width), f"width in line {line}"))
    return ImportedRow(part=match[1], about=(*match.groups()[1:], width), latency_ms=latency_ms)
