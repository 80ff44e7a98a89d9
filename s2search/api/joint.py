"""Layout and precisions in one plan: `plan` with `precisions`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s2search.api.question import GivenTables, Where, opened, request_of
from s2search.api.values import PathText, Texts, texts_of
from s2search.cost import Budget
from s2search.errors import InputError
from s2search.planner.joint_plan import JointRequest
from s2search.precision.documents import Sensitivity
from s2search.precision.noise import Elsewhere, Noise
from s2search.precision.part import PartPrecision
from s2search.tables.table import LatencyTable, in_precision

#: A sweep, or several: files, or what `sensitivity` returned.
Sweeps = PathText | Sensitivity | Sequence[PathText | Sensitivity]


@dataclass(frozen=True, kw_only=True)
class PrecisionWish:
    """What is wanted of precisions, as it was given."""

    precisions: Texts
    sensitivity: Sweeps
    least_db: float | None
    noise_elsewhere: Elsewhere

    @property
    def anything(self) -> bool:
        """Whether precisions are to be chosen at all.

        Raises:
            InputError: Only part of what that needs is given.
        """
        given = {
            "--precisions": bool(self.precisions),
            "--sensitivity": bool(self.sensitivity),
            "--least-db": self.least_db is not None,
        }
        if any(given.values()) and not all(given.values()):
            missing = " and ".join(name for name, there in given.items() if not there)
            named = next(name for name, there in given.items() if there)
            raise InputError(
                f"{named} is given without {missing}",
                remedy="give --precisions float16,w8a16,w4a16 --sensitivity sensitivity.json --least-db 30 together",
            )
        if self.noise_elsewhere != "refuse" and not any(given.values()):
            raise InputError(
                f"--noise-elsewhere {self.noise_elsewhere} is given without --precisions", remedy="leave it out"
            )
        return all(given.values())

    @property
    def labels(self) -> tuple[str, ...]:
        """The precisions on offer."""
        found = tuple(word.strip() for text in texts_of(self.precisions) for word in text.split(",") if word.strip())
        for label in found:
            PartPrecision.parse(label)
        if len({*found}) < len(found):
            raise InputError(f"--precisions names {', '.join(found)}", allowed="each once", remedy="correct it")
        return found

    @property
    def sweeps(self) -> tuple[Sensitivity, ...]:
        """The sweeps, read."""
        one = isinstance(self.sensitivity, str | os.PathLike | Sensitivity)
        several: Any = [self.sensitivity] if one else self.sensitivity
        return tuple(given if isinstance(given, Sensitivity) else Sensitivity.load(given) for given in several)


def joint_request(
    table: GivenTables, where: Where, wanted: PrecisionWish, *, budget: tuple[Budget, ...], **asked: Any
) -> JointRequest:
    """Read everything before anything is computed."""
    labels, least_db = wanted.labels, wanted.least_db
    assert least_db is not None
    noise = Noise(sweeps=wanted.sweeps, elsewhere=wanted.noise_elsewhere)
    (named, own), *others = opened(table, budget)
    if others:
        raise InputError(
            f"precisions are chosen for one device, and {1 + len(others)} tables are given",
            remedy="give one of them, or leave --precisions out",
        )
    if where.precision is not None:
        raise InputError(
            f"--precision {where.precision} names one precision, and --precisions several",
            remedy="leave one of them out",
        )
    table_of = {label: in_precision(named, where.scenario, label) for label in labels}
    asked_in = _in_first(table_of, (*budget, *own), where)
    request = request_of(table_of[labels[0]], asked_in, budget=(*budget, *own), **asked)
    return JointRequest(request=request, table_of=table_of, noise=noise, least_db=least_db)


def _in_first(table_of: Mapping[str, LatencyTable], budgets: tuple[Budget, ...], where: Where) -> Where:
    """Return which rows the plan's own figures are of: those of the first precision."""
    first, table = next(iter(table_of.items()))
    for budget in budgets:
        if budget.sustained and not table.card.sustained:
            raise InputError(
                f"{budget.text}@sustained asks for a second table beside {table.name!r}",
                remedy="with --precisions name the table that was measured under sustained load",
            )
    return dataclasses.replace(where, precision=first)


def refuse_beside(**others: object) -> None:
    """Refuse what a search for precisions does not answer, which would be lost in silence.

    Raises:
        InputError: One of them is asked.
    """
    for name, value in others.items():
        if value:
            raise InputError(
                f"--{name.replace('_', '-')} cannot be combined with --precisions",
                remedy="leave one of them out",
            )
