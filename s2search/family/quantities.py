"""Numbers with a unit, exact: a table's cells, budgets, and the whole numbers that a search counts in."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from s2search.errors import InputError, QuantityError

_LARGEST, _SMALLEST = Fraction(10**18), Fraction(1, 10**18)
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?"
_LONGEST = 60  # characters
_DIGITS = 9  # that a search keeps of the largest number, where no resolution is stated
_MOST = 2**48  # what all slots add up to at most, in whole numbers

_THOUSANDS = {"u": Fraction(1, 10**6), "m": Fraction(1, 10**3), "": Fraction(1), "k": Fraction(10**3)}
_BYTES = {
    **{name: Fraction(1000**power) for power, name in enumerate(("B", "KB", "MB", "GB", "TB"))},
    **{name: Fraction(1024**power) for power, name in enumerate(("KiB", "MiB", "GiB", "TiB"), start=1)},
}
#: Units that are turned into each other, by what they measure; any other unit stands for itself alone.
_KINDS: tuple[dict[str, Fraction], ...] = (
    {"ns": Fraction(1, 10**9), "us": Fraction(1, 10**6), "ms": Fraction(1, 1000), "s": Fraction(1)},
    _BYTES,
    {f"{prefix}J": size for prefix, size in _THOUSANDS.items()} | {"Wh": Fraction(3600), "mWh": Fraction(36, 10)},
    {f"{prefix}W": size for prefix, size in _THOUSANDS.items()},
)


def number(text: str) -> Fraction | None:
    """Return a decimal number exactly; None for what is none, is not finite, or is beyond any quantity.

    >>> number("0.1") * 3, number("nan"), number("1e99")
    (Fraction(3, 10), None, None)
    """
    if len(text) > _LONGEST or not re.fullmatch(_NUMBER, text):
        return None
    value = Fraction(text)
    return value if value == 0 or _SMALLEST <= abs(value) <= _LARGEST else None


def in_unit(amount: Fraction, unit: str, wanted: str) -> Fraction | None:
    """Return an amount in another unit; None where the two do not measure the same.

    >>> in_unit(Fraction(3200), "uJ", "mJ"), in_unit(Fraction(1), "s", "mJ")
    (Fraction(16, 5), None)
    """
    if unit == wanted:
        return amount
    return next((amount * kind[unit] / kind[wanted] for kind in _KINDS if unit in kind and wanted in kind), None)


def written(amount: Fraction, unit: str = "") -> str:
    """Write an amount so that a budget of just this much does: exactly, or rounded up to nine digits.

    >>> written(Fraction(123, 10), "ms"), written(Fraction(1, 3)), written(Fraction(1200))
    ('12.3 ms', '0.333333334', '1200')
    """
    text = _decimal(amount)
    if text is None:
        step = _power(_magnitude(amount) - _DIGITS + 1)
        text = _decimal(math.ceil(amount / step) * step) or ""
    return f"{text} {unit}".rstrip()


def shown(amount: Fraction, unit: str = "") -> str:
    """Write an amount for people, in six digits.

    >>> shown(Fraction(1, 3), "ms"), shown(Fraction(12345678)), shown(Fraction(0))
    ('0.333333 ms', '12345700', '0')
    """
    if amount:
        step = _power(_magnitude(amount) - 5)
        amount = round(amount / step) * step
    return f"{_decimal(amount)} {unit}".rstrip()


@dataclass(frozen=True, kw_only=True)
class AskedBudget:
    """A limit as it is typed: what it limits ("" where the unit is to say it), how much, and in which unit."""

    text: str
    name: str
    amount: Fraction
    unit: str

    @classmethod
    def parse(cls, text: str) -> AskedBudget:
        """Read `energy:3.2mJ`, or `12ms`.

        Raises:
            QuantityError: It is no such thing.

        >>> AskedBudget.parse("energy: 3.2 mJ").unit, AskedBudget.parse("12ms").name
        ('mJ', '')
        """
        name, _, quantity = text.rpartition(":")
        match = re.fullmatch(rf"\s*({_NUMBER})\s*([^\s\d]\S*)?\s*", quantity)
        amount = None if match is None else number(match[1])
        if match is None or amount is None or amount < 0:
            raise QuantityError(
                f"the budget {text!r} is not a number, 0 or more, with its unit",
                allowed="NAME:NUMBER and the unit, or a number and a unit that only one resource has",
                remedy="write for example energy:3.2mJ or 12ms",
            )
        return cls(text=text.strip(), name=name.strip(), amount=amount, unit=match[2] or "")


def resolution(values: list[Fraction], layers: int, stated: float | None, what: str) -> tuple[Fraction, bool]:
    """Return what one whole number of a search stands for, and whether every value is a multiple of it.

    Unless it is stated, it is as fine as the values are written, down to nine digits of the largest.

    Raises:
        InputError: The stated one is no positive number.

    >>> resolution([Fraction(5, 4), Fraction(100)], 10, None, "energy")
    (Fraction(1, 100), True)
    """
    if stated is not None:
        step = number(repr(stated))
        if step is None or step <= 0:
            raise InputError(f"the resolution of {what} is {stated}", allowed="a number above 0, in its unit")
        if max(map(abs, values), default=Fraction(0)) * layers / step > _MOST:
            raise InputError(
                f"the resolution {stated:g} of {what} is too fine for sums of such numbers",
                remedy="leave it out, or state a coarser one",
            )
    else:
        step = _own_resolution(values, layers)
    return step, all((value / step).denominator == 1 for value in values)


def _own_resolution(values: list[Fraction], layers: int) -> Fraction:
    largest = max((abs(value) for value in values), default=Fraction(0))
    if not largest:
        return Fraction(1)
    step = _power(_magnitude(largest) - _DIGITS + 1)
    while largest * layers / step > _MOST:
        step *= 10
    while all((value / (10 * step)).denominator == 1 for value in values):
        step *= 10
    return step


def _magnitude(amount: Fraction) -> int:
    """Return the power of ten of an amount's first digit."""
    amount = abs(amount)
    power = len(str(amount.numerator)) - len(str(amount.denominator))
    return power if amount >= _power(power) else power - 1


def _power(exponent: int) -> Fraction:
    return Fraction(10) ** exponent


def _decimal(amount: Fraction) -> str | None:
    """Write an amount with all its digits; None where they do not end."""
    rest, places = amount.denominator, 0
    for prime in (2, 5):
        power = 0
        while rest % prime == 0:
            rest, power = rest // prime, power + 1
        places = max(places, power)
    if rest != 1:
        return None
    digits = str(abs(amount.numerator) * 10**places // amount.denominator).rjust(places + 1, "0")
    sign = "-" if amount < 0 else ""
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)
