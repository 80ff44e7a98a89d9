"""The manifest of a kit's campaign: parts, whole programs and the package that is shipped, as rows in one order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import msgspec

from s2search.exporters.coreml.form import Form
from s2search.kit.manifest import (
    ComputeUnits,
    KitManifest,
    KitPackage,
    KitProgram,
    KitProtocol,
    KitRow,
    KnownTable,
    Shots,
    Strict,
    grouped,
    ordered,
)
from s2search.kit.shipped import ShippedPackage
from s2search.kit.shots import ShotChoice
from s2search.kit.whole import WholeItem, exporter_text, program_row
from s2search.measurement.base import Item
from s2search.measurement.schedule import sentinel_of
from s2search.registry import own_version

KitPrecision = Literal["float16", "w4a16"]


class Built(Strict, frozen=True, kw_only=True):
    """The note of a finished package."""

    made_of: dict[str, str]
    package: KitPackage
    state_bytes: int
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class KitCampaign:
    """What a kit's rows are made of."""

    items: Sequence[Item]
    wholes: Sequence[WholeItem]
    built: dict[tuple[str, str], Built]
    precisions: Sequence[KitPrecision]
    form: Form
    shipped: ShippedPackage | None

    @property
    def packages(self) -> list[KitPackage]:
        """All of them, each once."""
        shipped = [one.package for one in self.shipped.functions] if self.shipped else []
        notes = [note.package for note in self.built.values()]
        return list({package.digest: package for package in (*notes, *shipped)}.values())

    def rows(self, compute_units: Sequence[ComputeUnits]) -> list[KitRow]:
        """Return parts and whole programs on every unit in every precision, then the package that is shipped."""
        rows: list[KitRow] = []
        for units in compute_units:
            for precision in self.precisions:
                for item in self.items:
                    rows.append(_row(len(rows), item, precision, units, self.built[item.key, precision]))
                for whole in self.wholes:
                    note = self.built[whole.key, precision]
                    rows.append(
                        program_row(
                            len(rows),
                            whole,
                            precision=precision,
                            units=units,
                            exporter=exporter_text(precision, self.form),
                            package=note.package.digest,
                            state_bytes=note.state_bytes,
                            peak_bytes=note.peak_bytes,
                        )
                    )
        for units in compute_units:
            rows += self.shipped.rows(len(rows), units) if self.shipped else ()
        return rows


def manifest_of(
    campaign: KitCampaign,
    preset: str,
    compute_units: Sequence[ComputeUnits],
    protocol: KitProtocol,
    choice: ShotChoice | None,
) -> KitManifest:
    """Return the manifest of a campaign whose packages are all there."""
    rows, form = campaign.rows(compute_units), campaign.form
    sentinel = _sentinel(campaign.items, rows)
    weights = {package.digest: package.weight_bytes for package in campaign.packages}
    resident_bytes = {row.id: row.state_bytes + row.peak_bytes + weights[row.package] for row in rows}
    groups = grouped(rows, sentinel, resident_bytes, protocol.resident_bytes)
    return KitManifest(
        code_version=f"s2search {own_version()}",
        preset=preset,
        converter=converter(),
        layout=form.layout,
        state=form.state,
        protocol=protocol,
        packages=campaign.packages,
        rows=rows,
        sentinel=sentinel.id,
        groups=groups,
        order=ordered(groups, sentinel.id, protocol),
        shots=_shots(choice, rows) if choice and choice.foretold else msgspec.UNSET,
        shipped=campaign.shipped.told if campaign.shipped else msgspec.UNSET,
    )


def _sentinel(items: Sequence[Item], rows: Sequence[KitRow]) -> KitRow:
    """Return the row that tells the drift: three equal layers where there are such, since one may run elsewhere."""
    triple = f"{sentinel_of(items).part.label}*3"
    wholes = [(row, row.program) for row in rows if isinstance(row.program, KitProgram)]
    three = next((row for row, program in wholes if (program.kind, program.layout) == ("context", triple)), None)
    return three or rows[list(items).index(sentinel_of(items))]


def _shots(choice: ShotChoice, rows: Sequence[KitRow]) -> Shots:
    return Shots(
        shots=choice.shots,
        known=[KnownTable(name=table.name, digest=table.digest) for table in choice.known],
        chosen=[row.id for row in rows if row.role == "block"],
        foretold=[item.key for item in choice.foretold],
    )


def _row(number: int, item: Item, precision: KitPrecision, units: ComputeUnits, built: Built) -> KitRow:
    return KitRow(
        id=number,
        role=item.role,
        part=item.part.name,
        options=item.part.options_text,
        scenario=item.scenario,
        shape=item.shape,
        precision=precision,
        compute_unit=units,
        package=built.package.digest,
        state_bytes=built.state_bytes,
        peak_bytes=built.peak_bytes,
    )


def converter() -> dict[str, str]:
    """Return what packages are made with, by version."""
    return (
        {"s2search": own_version()} | {name: version(name) for name in ("coremltools", "torch")} | {"target": "iOS18"}
    )
