"""Packages as people read them: what an export wrote, what a Core ML package breaks, and what it gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2search.cost import format_bytes
from s2search.exporters.memory import predicted_memory_bytes
from s2search.exporters.package import WEIGHT_FILES, Manifest
from s2search.preset import video_size

if TYPE_CHECKING:
    from s2search.exporters.component.package import ComponentPackage
    from s2search.exporters.package import Package
    from s2search.mil.residency import ElsewhereRun, Residency
    from s2search.mil.rules.rule import LintRule, RuleFinding
    from s2search.verification.any_package import Evaluated, LintedPackage, PackageFindings

_PLACES_SHOWN = 4
_RUNS_SHOWN = 4


def package_text(package: Package, *, seconds: float) -> RenderableType:
    """Return the package's files and sizes, and the seconds that it took."""
    manifest, sizes = package.manifest, package.manifest.sizes
    files = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for file in manifest.files:
        files.add_row(f"  {file.path}", Text(format_bytes(file.bytes), justify="right"))
    apart = sum(file.bytes for file in manifest.files if PurePosixPath(file.path).name in WEIGHT_FILES)
    label = "weights" if apart else "weights and graphs"
    rows = {
        label: (apart or sizes.weight_bytes, sizes.predicted_weight_bytes),
        "state": (sizes.state_bytes, sizes.predicted_state_bytes),
    }
    figures = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header in ("", "actual", "predicted", "difference"):
        figures.add_column(header, justify="left" if not header else "right")
    for label, (actual, predicted) in rows.items():
        difference = f"{actual / predicted - 1:+.1%}" if predicted else "-"
        figures.add_row(label, format_bytes(actual), format_bytes(predicted), difference)
    figures.add_row("memory, loaded", "not measured", format_bytes(predicted_memory_bytes(manifest)), "-")
    functions = ", ".join(function.name for function in manifest.functions)
    size = f"{video_size(*manifest.grid)}, chunks of {manifest.chunk_frames} latent frames, {manifest.precision}"
    runs = [(label, len(list(layers))) for label, layers in groupby(manifest.model.layout)]
    layout = ", ".join(label if count == 1 else f"{label}*{count}" for label, count in runs)
    return Group(
        Text(f"{manifest.exporter_text} package in {package.folder} after {seconds:.1f} s"),
        Text(layout),
        Text(size),
        Text(f"functions: {functions}"),
        *map(Text, _links(manifest)),
        files,
        figures,
        Text(f"model {manifest.model_digest[:19]}, plan {(manifest.plan_digest or 'none')[:19]}"),
        *_of_another_precision(package),
    )


def _links(manifest: Manifest) -> Iterator[str]:
    """Yield a line for every package of a chain: its layers, and what it hands over."""
    for number, link in enumerate(manifest.chain, 1):
        first, after = link.layers
        function = link.functions[0]
        handed = sum(one.bytes for one in function.outputs if one.name in link.hands_on)
        hands = f"; hands over {', '.join(link.hands_on)} ({format_bytes(handed)})" if handed else ""
        yield f"package {number} of {len(manifest.chain)}, {function.file}: layers {first} to {after - 1}{hands}"


def _of_another_precision(package: Package) -> Iterator[Text]:
    """Yield a line where the plan's numbers are not those of such a package."""
    plan, written = package.plan, package.manifest.precision
    if plan is not None and plan.precision != written:
        yield Text(
            f"the plan's table {plan.provenance.table} is of {plan.precision}, and this package is {written}: "
            "nothing is promised of its times and bytes"
        )


def component_text(package: ComponentPackage, *, seconds: float) -> RenderableType:
    """Return the functions and sizes of a text encoder's or decoder's package, and the seconds that it took."""
    manifest = package.manifest
    written = f"{manifest.exporter}[{manifest.options}]" if manifest.options else manifest.exporter
    lines = [
        f"{manifest.part} of {manifest.plugin} by {written} in {package.folder}, {manifest.precision}, {seconds:.0f} s"
    ]
    lines += [f"  {one.name}: {len(one.inputs)} inputs, {len(one.outputs)} outputs" for one in manifest.functions]
    size = sum(file.bytes for file in manifest.files if not file.path.startswith("source/"))
    lines.append(f"  {size / 1e6:.2f} MB, and {sum(one.bytes for one in manifest.states) / 1e6:.2f} MB of cache")
    return Text("\n".join(lines))


def package_findings_text(found: PackageFindings) -> RenderableType:
    """Return for every package its functions, and each rule that it breaks: where, what is known, and what to do."""
    rules = {rule.name: rule for rule in found.rules}
    parts = [part for package in found.packages for part in _linted(package, rules)]
    broken = sum(len({finding.rule for finding in package.findings}) for package in found.packages)
    verdict = f"{broken} of {len(rules)} rules broken" if broken else f"nothing found: {len(rules)} rules hold"
    return Group(*parts, Text(f"{found.path}: {verdict}", style="bold"))


def _linted(package: LintedPackage, rules: dict[str, LintRule]) -> Iterator[RenderableType]:
    by = f"by coremltools {package.coremltools}" if package.coremltools else "by a tool that is not stated"
    yield Text(f"{package.path}: {format_bytes(package.bytes)}, {by}")
    yield Text()
    yield _functions(package.functions)
    yield Text()
    for name, group in groupby(package.findings, key=lambda finding: finding.rule):
        findings = list(group)
        yield Text(f"{name}: {len(findings):,}", style="bold")
        yield _broken(findings, rules[name])
        yield Text()


def _functions(functions: Sequence[Residency]) -> RenderableType:
    """Return what of each function may run on the Neural Engine, and the longest runs elsewhere."""
    table = Table("function", box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))
    for name in ("operations", "may run there", "of time", "runs elsewhere"):
        table.add_column(name, justify="right")
    for one in functions:
        there, time = f"{one.operations_percent:.1f} %", f"{one.time_percent:.2f} %"
        table.add_row(one.function, f"{one.operations:,}", there, time, f"{len(one.elsewhere):,}")
    runs = [(one.function, run) for one in functions for run in one.elsewhere]
    if not runs:
        return table
    longest = sorted(runs, key=lambda pair: -pair[1].time_percent)[:_RUNS_SHOWN]
    return Group(table, Text(), _rows([(name, _run_text(run)) for name, run in longest]))


def _run_text(run: ElsewhereRun) -> str:
    many = f"{run.operations:,} operations from {run.first}" if run.operations > 1 else run.first
    percent = f"{run.time_percent:.{0 if run.time_percent >= 9.95 else 1}f}"  # with :.2g 100 is written 1e+02
    kinds = ", ".join(run.kinds[:4]) + (" ..." if run.kinds[4:] else "")
    return f"{many}: {', '.join(run.why)}, {percent} % of time ({kinds})"


def _broken(findings: list[RuleFinding], rule: LintRule) -> Table:
    rows = [(finding.function or "package", finding.problem) for finding in findings[:_PLACES_SHOWN]]
    if len(findings) > _PLACES_SHOWN:
        rows.append(("...", f"{len(findings) - _PLACES_SHOWN:,} more; --json lists all"))
    rows += [("fails", rule.fails), ("works", rule.works), ("remedy", rule.remedy), ("source", rule.source)]
    return _rows(rows)


def _rows(rows: Sequence[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for head, text in rows:
        grid.add_row(f"  {head}", text)
    return grid


def evaluated_text(found: Evaluated) -> RenderableType:
    """Return the outputs and states of a call: type, shape, range, mean, and how many numbers are not finite."""
    table = Table("", "name", "type", "shape", box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))
    for name in ("least", "largest", "mean", "not finite"):
        table.add_column(name, justify="right")
    for kind, arrays in (("output", found.outputs), ("state", found.states)):
        for name, array in arrays.items():
            numbers = array.astype("float64").ravel()
            finite = numbers[abs(numbers) < float("inf")]
            figures = [f"{value:.4g}" for value in (finite.min(), finite.max(), finite.mean())] if finite.size else []
            shape = "x".join(map(str, array.shape)) or "scalar"
            lost = f"{numbers.size - finite.size:,}"
            table.add_row(kind, name, str(array.dtype), shape, *(figures or ["-"] * 3), lost)
    return Group(Text(f"{found.function} in {found.mode}"), Text(), table)
