"""YAML, JSON and CSV read strictly: what could be taken in two ways, or is there to harm, is refused.

YAML is built here from PyYAML's events, by a loop: no object is ever constructed from a tag, no alias is followed (a
file of ten lines can expand to gigabytes), a key may stand once, nesting is bounded, and plain words stay text, so that
a version 2.10 does not become 2.1. JSON keeps its numbers as text too, and knows neither NaN nor Infinity.

Why: docs/decisions/tables.md, "YAML is built from events".
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, NoReturn

from s2search.document import separator
from s2search.errors import TableError, require
from s2search.tables.foreign import finite, whole

MOST_BYTES = 32 * 2**20
_MOST_YAML = 4 * 2**20  # its events are taken one by one, 1 MiB a second
_DEEPEST = 32
_CORRECT = "correct the file"
_MEBIBYTE = 2**20


class Plain(str):
    """What stands without quotes in a file: a number, or in YAML also a word."""

    __slots__ = ()


def decode(content: bytes) -> str:
    """Return a file's text: UTF-8, with or without a byte-order mark.

    Raises:
        TableError: It is no text.
    """
    if not content.strip():
        raise TableError("it is empty", remedy="give a file that is not")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"byte {error.start} is not UTF-8 text", remedy="convert the file to UTF-8") from error


def read_yaml(text: str) -> Any:
    """Return a YAML document as dictionaries, lists and text.

    Raises:
        TableError: It is no YAML, or has tags, anchors, aliases, keys that stand twice or are no text, several
            documents, or more than 32 levels.
    """
    require("yaml")
    import yaml

    if len(text) > _MOST_YAML:
        raise TableError(f"it is larger than {_MOST_YAML >> 20} MiB of YAML", remedy="split the file")
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=loader):
            builder.take(event)
    except (yaml.YAMLError, ValueError) as error:
        raise TableError(f"it is not YAML: {str(error)[:200]}", remedy=_CORRECT) from error
    return builder.document


def read_json(text: str) -> Any:
    """Return a JSON document as dictionaries, lists, text, `Plain` numbers, booleans and null.

    Raises:
        TableError: It is no JSON, has keys that stand twice, NaN or Infinity, or is nested too deeply.
    """
    try:
        found = json.loads(
            text, object_pairs_hook=_unique, parse_int=Plain, parse_float=Plain, parse_constant=_no_number
        )
        return _shallow(found)
    except RecursionError as error:
        raise TableError("it is nested too deeply", remedy=_CORRECT) from error
    except ValueError as error:
        raise TableError(f"it is not JSON: {error}", remedy=_CORRECT) from error


def read_csv(text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header of a CSV file, and its other lines with their numbers.

    Raises:
        TableError: It is no CSV, has no header, names a column twice, or has a line with too many or too few cells.
    """
    reader = csv.reader(io.StringIO(text), strict=True, delimiter=separator(text))
    try:
        header = next(reader, [])
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise TableError(f"it is not CSV: {error}", remedy=_CORRECT) from error
    if (twice := first_repeated(header)) is not None:
        raise TableError(f"it has the column {twice[:60]!r} twice", remedy=_CORRECT)
    for number, cells in lines:
        if len(cells) != len(header):
            raise TableError(f"line {number} has {len(cells)} cells, the first line {len(header)}", remedy=_CORRECT)
    return header, lines


def mapping(value: Any, where: str) -> dict[str, Any]:
    """Return a value that must be a mapping."""
    if not isinstance(value, dict):
        _refuse(value, where, "names with values")
    return value


def listing(value: Any, where: str) -> list[Any]:
    """Return a value that must be a list."""
    if not isinstance(value, list):
        _refuse(value, where, "a list")
    return value


def words(value: Any, where: str) -> str:
    """Return a value that must be text, or a number that stands for itself such as a version."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        _refuse(value, where, "printable text")
    return str(value).strip()


def number(value: Any, where: str) -> float:
    """Return a value that must be a finite number, without quotes."""
    try:
        return finite(value) if isinstance(value, Plain) else finite(f"no number: {value}")
    except ValueError:
        _refuse(value, where, "a finite number")


def count(value: Any, where: str) -> int:
    """Return a value that must be a whole number from 0, without quotes."""
    try:
        return whole(value) if isinstance(value, Plain) else whole("no number")
    except ValueError:
        _refuse(value, where, "a whole number from 0")


def mebibytes(value: Any, where: str) -> int:
    """Return a number of MiB (2^20 bytes), which must not be negative, as bytes."""
    if (size := number(value, where)) < 0 or size > 2**30:
        _refuse(value, where, "MiB, from 0 to 2^30")
    return round(size * _MEBIBYTE)


def absent(value: Any) -> bool:
    """Whether a value is left out, or null in JSON's or YAML's way."""
    return value is None or (isinstance(value, Plain) and value in ("", "~", "null", "Null", "NULL"))


def first_repeated(names: Sequence[str]) -> str | None:
    """Return the first name that is there a second time, or null."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _refuse(value: Any, where: str, allowed: str) -> NoReturn:
    shown = f"{type(value).__name__}" if isinstance(value, dict | list) else repr(value)[:40]
    raise TableError(f"{where[:200]} is {shown}", allowed=allowed, remedy=_CORRECT)


def _shallow(document: Any) -> Any:
    """Return a document, unless it has more levels than any reader needs."""
    level = [document]
    for _ in range(_DEEPEST):
        nested = [one for one in level if isinstance(one, dict | list)]
        if not nested:
            return document
        level = [inner for one in nested for inner in (one.values() if isinstance(one, dict) else one)]
    raise TableError(f"it has more than {_DEEPEST} levels", remedy=_CORRECT)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if (twice := first_repeated([name for name, _ in pairs])) is not None:
        raise TableError(f"the key {twice[:60]!r} stands twice", remedy="keep one of them")
    return dict(pairs)


def _no_number(text: str) -> NoReturn:
    raise TableError(f"it holds {text}", allowed="finite numbers", remedy=_CORRECT)


class _Builder:
    """Builds one document from YAML's events, without recursion."""

    def __init__(self) -> None:
        self.document: Any = Plain("")
        self._open: list[Any] = []
        self._keys: list[str | None] = []
        self._documents = 0

    def take(self, event: Any) -> None:
        """Take the next event."""
        import yaml

        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            _complain(event, "an alias or an anchor", "write the values out")
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                _complain(event, "a second document", "keep one document per file")
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent | yaml.ScalarEvent):
            if event.tag is not None:
                _complain(event, f"the tag {event.tag[:60]!r}", "write plain values")
            if isinstance(event, yaml.ScalarEvent):
                self._add(str(event.value) if event.style else Plain(event.value), event)
                return
            inner: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            self._add(inner, event)
            self._open.append(inner)
            self._keys.append(None)
            if len(self._open) > _DEEPEST:
                _complain(event, f"more than {_DEEPEST} levels", _CORRECT)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            self._open.pop()
            self._keys.pop()

    def _add(self, value: Any, event: Any) -> None:
        if not self._open:
            self.document = value
        elif isinstance(self._open[-1], list):
            self._open[-1].append(value)
        elif self._keys[-1] is not None:
            self._open[-1][self._keys[-1]], self._keys[-1] = value, None
        elif not isinstance(value, str):
            _complain(event, "a key that is not text", _CORRECT)
        elif value in self._open[-1]:
            _complain(event, f"the key {value[:60]!r} a second time", "keep one of them")
        else:
            self._keys[-1] = str(value)


def _complain(event: Any, what: str, remedy: str) -> NoReturn:
    raise TableError(f"line {event.start_mark.line + 1} has {what}", remedy=remedy)
