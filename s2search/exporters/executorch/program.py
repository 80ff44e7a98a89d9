"""ExecuTorch's methods, lowered one by one and joined to a program that holds every weight once.

Lowering copies a method's weights, for all partitions of all methods at once if it is given them together: six times
the model was the peak of four methods. One by one it is one method's beside those that are kept.

What was measured: docs/decisions/export.md, "ExecuTorch: exact GELU, methods one by one".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def xnnpack_lowered(program: ExportedProgram) -> ExportedProgram:
    """Return a program in ExecuTorch's edge dialect, with what XNNPACK takes in its hands.

    ExecuTorch's `to_edge_transform_and_lower` takes the program apart four times, to ask a partitioner about each
    operator by itself. XNNPACK's answers the same for all of a kind, so once gives the same program. Passes also note
    where each operator came from, and copy all notes before theirs: dropped halfway, they cost a third less time.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import EdgeCompileConfig, to_edge
    from executorch.exir.backend.backend_api import to_backend

    partitioner = XnnpackPartitioner()
    kept, _ = partitioner.ops_to_not_decompose(program)
    config = EdgeCompileConfig(preserve_ops=list(kept), _check_ir_validity=False)
    edge = to_edge(program, compile_config=config).exported_program()
    for node in edge.graph.nodes:
        node.meta.pop("from_node", None)
    lowered: ExportedProgram = to_backend(edge, partitioner)
    return lowered


def share_constants(programs: Iterable[ExportedProgram]) -> None:
    """Let equal constants of lowered programs be one in memory. Their names are digests of their contents."""
    first: dict[str, bytes] = {}
    for program in programs:
        for module in program.graph_module.children():
            store: Any = getattr(module, "named_data_store_output", None)
            for name, entry in store.pte_data.items() if store else ():
                data = store.buffers[entry.buffer_index]
                store.buffers[entry.buffer_index] = first.setdefault(name, data)


def joined(programs: Mapping[str, ExportedProgram]) -> Any:
    """Return ExecuTorch's program of lowered methods; its `write_to_file` copies nothing."""
    from executorch.exir import EdgeCompileConfig, EdgeProgramManager

    config = EdgeCompileConfig(_check_ir_validity=False)
    return EdgeProgramManager(dict(programs), compile_config=config).to_executorch()
