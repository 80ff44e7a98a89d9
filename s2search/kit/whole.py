"""Whole programs that a kit times beside single parts: made as the exporter makes a package's `denoise`.

A program is a model of its own with random weights: stem, the layers of its layout, their switches and the head, its
state in the form of the package that is to be shipped. It is large enough to run where whole models run, and the counts
of its parts are known. Numbers do not change how long it takes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s2search.block import Block, Shape
from s2search.decibels import snr_db
from s2search.errors import CheckError
from s2search.exporters.coreml.form import Form
from s2search.kit.manifest import ComputeUnits, KitProgram, KitRow, ProgramKind
from s2search.measurement.layouts import context_layouts, draw_layouts, layout_text, parts_of
from s2search.preset import Preset
from s2search.space import Space

if TYPE_CHECKING:
    from torch import Tensor

    from s2search.exporters.coreml.exporter import CoreMLExporter
    from s2search.exporters.past import StepShape

_BITS = {"float16": 16, "w4a16": 4}
_SEED = 0  # of weights: equal layouts are equal packages
_DEPTH = 6


@dataclass(frozen=True, kw_only=True)
class Wholes:
    """Which whole programs a kit times.

    Attributes:
        contexts: Every block as two and three equal layers, and every two blocks in both orders.
        layouts: How many random layouts, drawn as recalibration draws them.
        depth: Layers of those.
        seed: Draws them.
    """

    contexts: bool = False
    layouts: int = 0
    depth: int = _DEPTH
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class WholeItem:
    """A whole program to be timed: why, its layers, the model's sizes and a stream's shape."""

    kind: ProgramKind
    layers: tuple[Block, ...]
    preset: Preset
    shape: Shape

    @property
    def key(self) -> str:
        """What tells it from the others of its campaign."""
        return f"stream {self.kind} {layout_text(self.layers)} {self.shape.grid}"

    @property
    def of_this_depth(self) -> Preset:
        """The preset of a model of these layers alone."""
        return dataclasses.replace(self.preset, depth=len(self.layers), layout="")


def whole_items(preset: Preset, video: str, candidates: Sequence[Block], wholes: Wholes) -> tuple[WholeItem, ...]:
    """Return the whole programs of one video size, contexts first.

    Raises:
        InputError: There are no such layouts, or not so many.
    """
    shape = preset.shape(video, "stream")
    layouts = [("context", layers) for layers in context_layouts(candidates)] if wholes.contexts else []
    if wholes.layouts:
        space = Space(candidates=tuple(candidates), depth=wholes.depth)
        drawn = draw_layouts(space, wholes.layouts, wholes.seed)
        layouts += [("layout", tuple(space.candidates[c] for c in choice_L)) for choice_L in drawn]
    return tuple(WholeItem(kind=kind, layers=layers, preset=preset, shape=shape) for kind, layers in layouts)  # type: ignore[arg-type]


def program_row(
    number: int,
    item: WholeItem,
    *,
    precision: str,
    units: ComputeUnits,
    exporter: str,
    package: str,
    state_bytes: int,
    peak_bytes: int,
) -> KitRow:
    """Return the row of a whole program."""
    program = KitProgram(
        kind=item.kind,
        layout=layout_text(item.layers),
        function="denoise",
        counts=dict(sorted(parts_of(item.layers).items())),
        exporter=exporter,
    )
    return KitRow(
        id=number,
        role="layout",
        part="",
        options="",
        scenario="stream",
        shape=item.shape,
        precision=precision,
        compute_unit=units,
        package=package,
        state_bytes=state_bytes,
        peak_bytes=peak_bytes,
        program=program,
    )


def exporter_for(precision: str, form: Form) -> CoreMLExporter:
    """Return the exporter of a kit's programs: that of the package to be shipped, palettes spaced evenly."""
    from s2search.exporters.coreml.exporter import CoreMLExporter

    bits: Any = _BITS[precision]
    return CoreMLExporter(
        bits=bits,
        palette="uniform" if bits < _BITS["float16"] else "kmeans",
        layout=form.layout,
        state=form.state,
    )


def exporter_text(precision: str, form: Form) -> str:
    """Return what writes a kit's programs, as it is written on a command line."""
    exporter = exporter_for(precision, form)
    return f"{exporter.name}[{exporter.options_text}]" if exporter.options_text else exporter.name


@dataclass(frozen=True, kw_only=True)
class ConvertedProgram:
    """A whole program: not loaded, with inputs to draw its numbers after.

    Attributes:
        model: Of one function.
        inputs: What it takes, by name.
        exact: Those that are float32.
        state_bytes: Of its whole state.
        peak_bytes: Of activations, as if every operation's result were written out.
        parity_db: Of the traced graph in float32, against the same function in torch.
        states: What Core ML keeps of it.
    """

    model: Any
    inputs: dict[str, Tensor]
    exact: tuple[str, ...]
    state_bytes: int
    peak_bytes: int
    parity_db: float
    states: tuple[str, ...] = ()


def convert_whole(item: WholeItem, precision: str, form: Form) -> ConvertedProgram:
    """Convert a whole program.

    Raises:
        CheckError: The traced graph does not give what the model gives.
        InputError: A block has no such form.
    """
    import torch

    from s2search.exporters.coreml.operators import decompositions_for_coreml
    from s2search.exporters.coreml.state import hold_states
    from s2search.exporters.functions import program_of
    from s2search.exporters.graph import LEAST_PARITY_DB
    from s2search.exporters.host import ONE_STATE
    from s2search.measurement.program_memory import written_out_bytes
    from s2search.mil.library import load_coremltools, quiet_coremltools
    from s2search.network.config import ModelConfig
    from s2search.network.network import S2DiT

    exporter = exporter_for(precision, form)
    config = ModelConfig.new(item.of_this_depth, tuple(block.label for block in item.layers))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model = S2DiT(config).eval()
    shape = _step_shape(item)
    steps = exporter.steps(model, shape, ("denoise",))
    chunks = -(-shape.slots // shape.frames)
    given = steps.example("first")
    example = given | steps.left([given] * chunks)
    function = steps.function("denoise")
    program = program_of(function, tuple(steps.blank("denoise").values()), decompositions_for_coreml())
    inputs = tuple(example.values())
    with torch.no_grad():
        parity_db = snr_db(function(*inputs), program.module()(*inputs))
    if not parity_db >= LEAST_PARITY_DB:
        raise CheckError(
            f"the traced {item.key} comes within {parity_db:.1f} dB of the model",
            allowed=f"at least {LEAST_PARITY_DB:.0f} dB",
            remedy="this is a fault of the conversion: report it",
            parity_db=parity_db,
        )
    converted = exporter.convert(steps, "denoise", program)
    specification = converted.get_spec()
    peak_bytes = written_out_bytes(specification, list(steps.state))
    held = (ONE_STATE,) if ONE_STATE in steps.state else ()
    if held:
        hold_states(specification, held)
        with quiet_coremltools():
            converted = load_coremltools().models.MLModel(
                specification, weights_dir=converted.weights_dir, skip_model_load=True
            )
    taken = [feature.name for feature in specification.description.input]
    state_bytes = (
        sum(x.numel() * (4 if name in steps.exact else 2) for name, x in steps.state.items() if name != "past_bias")
        if steps.form is None
        else steps.form.state_bytes
    )
    return ConvertedProgram(
        model=converted,
        inputs={name: example[name] for name in taken},
        exact=tuple(name for name in taken if exporter.dtype(name, steps) == "float32"),
        state_bytes=state_bytes,
        peak_bytes=peak_bytes,
        parity_db=parity_db,
        states=held,
    )


def _step_shape(item: WholeItem) -> StepShape:
    from s2search.exporters.past import StepShape

    shape = item.shape
    return StepShape(grid=(shape.height, shape.width), frames=shape.frames, window=item.preset.window)
