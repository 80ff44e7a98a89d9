"""One item as the Core ML program that an exporter would write for it: the same form and conversion.

The profiler on a Mac and the phone kit both time these. What an exported package does once for all layers is
in every one that needs it (the step of `past_bias`) or in none (the transposition of the text, the cutting of what is
padded), and of a state that Core ML keeps they see zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from s2search.decibels import snr_db
from s2search.errors import CheckError
from s2search.exporters.coreml.form import Layout, StateKeeper
from s2search.exporters.graph import LEAST_PARITY_DB
from s2search.exporters.package import NEW, NumberType
from s2search.measurement.base import Item
from s2search.measurement.packed_call import packed_call
from s2search.measurement.program_memory import written_out_bytes
from s2search.measurement.step_call import step_call

if TYPE_CHECKING:
    from coremltools.models import MLModel


@dataclass(frozen=True, kw_only=True)
class CoreMLItem:
    """A converted item.

    Attributes:
        model: The program, not loaded.
        inputs: What it takes, by name; of what Core ML keeps nothing.
        exact: Those that are float32; the others are float16.
        rings: Names of the state's float16 tensors, which Core ML can keep.
        states: Those of them that it does keep.
        state_bytes: Bytes of the item's whole state, whoever keeps it.
        peak_bytes: Of activations, as if every operation's result were written out; see `program_memory`.
        parity_db: Of the graph that it was converted from, in float32, against the block or part itself.
    """

    model: MLModel
    inputs: dict[str, Tensor]
    exact: tuple[str, ...]
    rings: tuple[str, ...]
    states: tuple[str, ...]
    state_bytes: int
    peak_bytes: int
    parity_db: float

    def kept_by(self, keeper: StateKeeper) -> CoreMLItem:
        """Return the same with rings and tails as states of Core ML's own, where it is to keep them.

        All stays plain where nothing else would be returned: Core ML is said to refuse a function without outputs.
        """
        from s2search.exporters.coreml.state import hold_states
        from s2search.mil.library import load_coremltools, quiet_coremltools

        specification = self.model.get_spec()
        returned = {feature.name for feature in specification.description.output}
        if keeper != "core_ml" or not self.rings or returned <= {NEW + name for name in self.rings}:
            return self
        hold_states(specification, self.rings)
        with quiet_coremltools():
            model = load_coremltools().models.MLModel(
                specification, weights_dir=self.model.weights_dir, skip_model_load=True
            )
        inputs = {name: x for name, x in self.inputs.items() if name not in self.rings}
        return replace(self, model=model, inputs=inputs, states=self.rings)


def convert_item(item: Item, layout: Layout, keeper: StateKeeper = "plain") -> CoreMLItem:
    """Convert an item: packed as the host packs it, or else all of its state goes in and out.

    Raises:
        CheckError: The traced graph does not give what the block or part gives.
        InputError: No exporter could write it in this layout.
    """
    from s2search.exporters.coreml.conversion import convert_program
    from s2search.exporters.coreml.operators import decompositions_for_coreml
    from s2search.exporters.functions import program_of

    call = packed_call(item) if keeper == "host" else step_call(item, layout)
    program = program_of(call.module, call.inputs, decompositions_for_coreml())
    parity_db = snr_db(call.expected, program.module()(*call.inputs))
    if not parity_db >= LEAST_PARITY_DB:
        raise CheckError(
            f"the traced {item.key} comes within {parity_db:.1f} dB of what it was traced from",
            allowed=f"at least {LEAST_PARITY_DB:.0f} dB",
            remedy="this is a fault of the conversion: report it",
            parity_db=parity_db,
        )

    def kind(name: str) -> NumberType:
        return "float32" if name.removeprefix(NEW) in call.exact else "float16"

    model = convert_program(
        program,
        inputs={name: kind(name) for name in call.arguments},
        outputs={name: kind(name) for name in call.outputs},
        exact=call.exact,
    )
    specification = model.get_spec()
    taken = [feature.name for feature in specification.description.input]
    return CoreMLItem(
        model=model,
        inputs={name: call.arguments[name] for name in taken},
        exact=call.exact,
        rings=tuple(name for name in call.state if name not in call.exact),
        states=(),
        state_bytes=call.float16_state_bytes,
        peak_bytes=written_out_bytes(specification, call.state),
        parity_db=parity_db,
    )
