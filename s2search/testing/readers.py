"""Conformance suite of readers: `check_reader(MyReader(), content)` raises AssertionError at a broken promise."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import tempfile
from pathlib import Path

from s2search.errors import S2SearchError
from s2search.readers.base import Reader
from s2search.tables.foreign import BY_ROW, NOT_STATED, ImportedTable

_HARMED = 300
_NOT_A_FILE = (b"", b"\x00", b"\xff\xfe", b"{}", b"[]", b"a: &a [*a]", b"[" * 100_000, b'{"a":' * 10_000, b"nan\n")


def check_reader(reader: Reader, content: bytes) -> None:
    """Hold a reader against its contract.

    Args:
        reader: The reader, without a device, runtime, precision, compute unit or date.
        content: A file that it reads.
    """
    table = reader.table(content, file="sample.txt")
    assert reader.table(content, file="sample.txt") == table, "the same file reads differently the second time"
    (source,) = table.card.sources
    assert source.digest == f"sha256:{hashlib.sha256(content).hexdigest()}", "the source's digest is not the file's"
    assert source.format == reader.name, f"the source's format is {source.format!r}"
    assert reader.statement.splitlines() == [reader.statement], "the statement is not one line"
    assert all(table.card.columns.values()), "a column is not explained"
    with tempfile.TemporaryDirectory() as folder:
        table.save(Path(folder, "sample"))
        again = ImportedTable.load(Path(folder, "sample"))
        assert (again.rows, again.card) == (table.rows, table.card), "the table does not read back as it was written"
    _check_told(reader, content, table)
    _check_harmed(reader, content)


def _check_told(reader: Reader, content: bytes, table: ImportedTable) -> None:
    """What the importer tells is said to be told, and chooses rows where the file states it by row."""
    for field in ("device", "runtime", "precision", "compute_unit"):
        stated = getattr(table.card, field)
        if stated == NOT_STATED:
            told = dataclasses.replace(reader, **{field: "mine"}).table(content, file="sample.txt")
            assert (getattr(told.card, field), told.card.told) == ("mine", [field]), f"{field} is not kept as told"
        elif stated == BY_ROW:
            here = table.place(table.rows[0])[field]
            kept = dataclasses.replace(reader, **{field: here}).table(content, file="sample.txt")
            wanted = [row.latency_ms for row in table.rows if table.place(row)[field] == here]
            assert [row.latency_ms for row in kept.rows] == wanted, f"{field} does not choose its rows"
            assert getattr(kept.card, field) == here, f"the card does not say the {field} that was chosen"


def _check_harmed(reader: Reader, content: bytes) -> None:
    """Whatever the bytes are, there is a table or one line."""
    rng = random.Random(0)
    for harmed in (*_NOT_A_FILE, *(_harm(content, rng) for _ in range(_HARMED))):
        line = "read"
        try:
            reader.table(harmed, file="harmed.txt")
        except S2SearchError as error:
            line = str(error)
        assert line.splitlines() == [line], f"not one line: {line}"


def _harm(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    if rng.random() < 0.3:
        return content[:start]
    return content[:start] + rng.randbytes(rng.randrange(4)) + content[start + rng.randrange(4) :]
