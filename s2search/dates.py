"""Dates, durations and versions as what they mean, not as text: `0.10.0` follows `0.9.0`; times have time zones."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import msgspec

from s2search.errors import InputError

_NEVER = datetime.min.replace(tzinfo=UTC)
_DAYS = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")
_SECONDS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0}


def instant(text: str) -> datetime:
    """Return the moment that an ISO 8601 text names, in UTC; without a time zone it is taken for UTC.

    >>> instant("2026-11-22T01:30:00+02:00").isoformat()
    '2026-11-21T23:30:00+00:00'

    Raises:
        InputError: It names none.
    """
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError(
            f"{text[:60]!r} is no time", allowed="ISO 8601, such as 2026-11-21T12:00:00+00:00", remedy="correct it"
        ) from None


def duration_s(text: str) -> float:
    """Read a duration, in seconds.

    >>> duration_s("5m"), duration_s("90s"), duration_s("500ms")
    (300.0, 90.0, 0.5)

    Raises:
        InputError: The text is none, or of no length.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min)\s*", text)
    found = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if not 0 < found < math.inf:
        raise InputError(f"{text!r} is not a duration", allowed="such as 90s or 5m", remedy="correct it")
    return found


def span(text: str) -> tuple[datetime, datetime] | None:
    """Return the first and the last moment that a date or a moment may mean, in UTC; null where it is neither.

    A year or a month may mean any of its days.

    >>> [str(moment.date()) for moment in span("2026-02")]
    ['2026-02-01', '2026-03-01']
    >>> span("yesterday")
    """
    if match := _DAYS.fullmatch(text):
        year, month, day = (int(part) if part else None for part in match.groups())
        try:
            first = datetime(year or 0, month or 1, day or 1, tzinfo=UTC)
            if day:
                return first, first + timedelta(days=1)
            following = first.replace(month=(month or 0) % 12 + 1) if month else first
            return first, following.replace(year=first.year + 1) if month in (None, 12) else following
        except (ValueError, OverflowError):
            return None
    try:
        return (instant(text),) * 2
    except InputError:
        return None


def is_later(one: str, other: str) -> bool:
    """Whether a date or moment surely lies after another.

    >>> is_later("2026-11-22T01:30:00+02:00", "2026-11-21"), is_later("2026-11-22", "2026-11-21")
    (False, True)
    """
    late, early = span(one), span(other)
    return bool(late and early and late[0] >= early[1] and late != early)


def latest(texts: Iterable[str]) -> str:
    """Return the text of the latest date; what is no date comes before all that are."""
    return max(texts, key=lambda text: found[1] if (found := span(text)) else _NEVER)


def release(version: str) -> tuple[int, ...] | None:
    """Return the numbers of a version, with or without a name before it; null where it has none.

    >>> release("s2search 0.10.0") > release("0.9.1")
    True
    """
    match = re.match(r"(?:[A-Za-z][\w-]* )?v?(\d{1,9}(?:\.\d{1,9})*)", version)
    return tuple(int(number) for number in match[1].split(".")) if match else None


def oldest(versions: Iterable[str]) -> str:
    """Return the oldest version; one without numbers counts as older than all that have some."""
    return min(versions, key=lambda version: release(version) or ())


def is_newer(schema: str, known: str) -> bool:
    """Whether a schema is a later version of one that is known.

    >>> is_newer("score/10", "score/9"), is_newer("plan/2", "score/1")
    (True, False)
    """
    (name, _, version), (known_name, _, known_version) = schema.rpartition("/"), known.rpartition("/")
    return name == known_name and version.isdecimal() and int(version[:18]) > int(known_version)


def newer_schema(content: bytes, known: str) -> str:
    """Return the schema that a JSON document states, if it is a later version of a known one; else nothing.

    >>> newer_schema(b'{"schema": "kit/2"}', "kit/1"), newer_schema(b"[]", "kit/1")
    ('kit/2', '')
    """
    try:
        found = str(msgspec.json.decode(content).get("schema", ""))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError):
        return ""
    return found if is_newer(found, known) else ""
