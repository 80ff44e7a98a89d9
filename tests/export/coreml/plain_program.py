"""A module as a Core ML program in the plainest way, for tests of what reads, runs and checks such programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from coremltools.models import MLModel
from torch import Tensor, nn
from torch.export import ExportedProgram

from s2search.decibels import snr_db
from s2search.errors import CheckError
from s2search.exporters.coreml.operators import decompositions_for_coreml, right_operators
from s2search.exporters.graph import LEAST_PARITY_DB, banded, exported
from s2search.mil.library import load_coremltools, quiet_coremltools


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A module as a graph of ATen operators, and how near it comes to the module.

    Attributes:
        program: Takes the arguments in their order.
        names: The arguments' names.
        parity_db: Signal-to-noise ratio of its outputs against the eager module's, both float32, in decibels.
    """

    program: ExportedProgram
    names: tuple[str, ...]
    parity_db: float


@torch.no_grad()
def trace(module: nn.Module, arguments: Mapping[str, Tensor]) -> Traced:
    """Export a module for given inputs, with depthwise 3-D convolutions rewritten.

    Args:
        module: Takes the arguments by position; it is left as it was.
        arguments: Contiguous float32 inputs of at most five axes, by the names that they shall have in Core ML.

    Raises:
        CheckError: The traced program does not give what the module gives.
    """
    inputs = tuple(arguments.values())
    program = exported(banded(module, inputs), inputs, decompositions_for_coreml())
    parity_db = snr_db(module(*inputs), program.module()(*inputs))
    if not parity_db >= LEAST_PARITY_DB:
        raise CheckError(
            f"the traced {type(module).__name__} comes within {parity_db:.1f} dB of the module",
            allowed=f"at least {LEAST_PARITY_DB:.0f} dB",
            remedy="this is a fault of the conversion: report it",
            parity_db=parity_db,
        )
    return Traced(program=program, names=tuple(arguments), parity_db=parity_db)


def convert(traced: Traced, *, exact: tuple[str, ...] = ()) -> MLModel:
    """Make a float16 Core ML program for iOS 18 of a traced module. Weights and activations are float16.

    Args:
        traced: The module.
        exact: Inputs that stay float32; all others are float16.
    """
    coremltools = load_coremltools()
    inputs = [
        coremltools.TensorType(name=name, dtype=np.float32 if name in exact else np.float16) for name in traced.names
    ]
    with quiet_coremltools(), right_operators():
        return coremltools.convert(
            traced.program,
            inputs=inputs,
            convert_to="mlprogram",
            minimum_deployment_target=coremltools.target.iOS18,
            compute_precision=coremltools.precision.FLOAT16,
            skip_model_load=True,
        )
