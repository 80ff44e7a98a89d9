"""A process that loads ONNX graphs, runs them, and prints what it took at every moment: see `exporters/resident.py`.

It holds what an application holds: inputs (the state among them), sessions, and the last outputs. The first line is
before anything is loaded, with the runtime's library in memory already.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from s2search.exporters.counters import process_bytes


def main(job_file: str) -> None:
    """Load, run, and tell; the job says which graphs, their inputs, and how the sessions are made."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    _tell()
    inputs = [_arrays(graph["inputs"]) for graph in job["graphs"]]
    sessions = [_session(graph["path"], job["threads"]) for graph in job["graphs"]]
    _tell()
    held: list[Any] = []
    for call in range(job["calls"]):
        held = [session.run(None, arrays) for session, arrays in zip(sessions, inputs, strict=True)]
        if call == 0:
            _tell()
    _tell()
    del held


def _arrays(path: str) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files}


def _session(path: str, threads: int) -> Any:
    """Make a session as the profiler and `LoadedOnnx` make theirs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads, options.inter_op_num_threads = 3, threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _tell() -> None:
    sys.stdout.write(json.dumps(process_bytes()) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
