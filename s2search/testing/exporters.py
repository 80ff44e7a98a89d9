"""The conformance suite of exporters: hold a plugin against the contract of `s2search.exporters.base`.

    def test_my_exporter(tmp_path):
        check_exporter(MyExporter(), tiny_model(), tmp_path, least_snr_db=90)

Axes: see s2search/exporters/step.py
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from s2search.cost import CommitPolicy
from s2search.decibels import snr_db
from s2search.errors import CheckError, InputError
from s2search.exporters.base import Exporter, Runtime, exporter_of, open_runtime
from s2search.exporters.package import SOURCE, Package
from s2search.exporters.step import FUNCTIONS, MASKED, PAST_BIAS
from s2search.exporters.streamed import StreamedPackage
from s2search.network.network import S2DiT
from s2search.preset import Preset
from s2search.streaming.sampler_of import samplers_to_check
from s2search.streaming.state import StreamState

GRID = (3, 4)


def tiny_model(
    layout: str = "SLLS", *, seed: int = 0, text_channels: int = 8, text_tokens: int = 5, **rest: Any
) -> S2DiT:
    """Return a small random model, whose gates and maps are not those of a fresh one; `rest` is of its config."""
    preset = Preset(
        name="tiny",
        depth=len(layout),
        channels=32,
        heads=4,
        feed_forward=64,
        text_channels=text_channels,
        text_tokens=text_tokens,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = S2DiT.from_preset(preset, layout, **rest).eval()
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def check_exporter(
    exporter: Exporter, model: S2DiT, folder: Path, *, least_snr_db: float, chunks: int = 16
) -> dict[CommitPolicy, float]:
    """Export a model, run the package, and assert that it keeps the contract.

    Args:
        exporter: The plugin; it must be installed under its name.
        model: Float32.
        folder: An empty folder to write in.
        least_snr_db: How near every chunk must come to the model's, decibels.
        chunks: How many are streamed.

    Returns:
        The lowest signal-to-noise ratio of a chunk, by commit policy, decibels.
    """
    assert exporter.why_not() is None, f"it cannot run here: {exporter.why_not()}"
    package = _check_export(exporter, model, folder / "package")
    runtime = open_runtime(package)
    _check_functions(package, runtime)
    found = {}
    for commit in (sampler.commit for sampler in samplers_to_check(model.config)):
        found[commit] = min(stream_snr_db(model, StreamedPackage(package, runtime), commit=commit, chunks=chunks))
        assert found[commit] >= least_snr_db, f"{commit}: a chunk comes within {found[commit]:.1f} dB only"
    _check_files(package)
    return found


def stream_snr_db(model: S2DiT, streamed: StreamedPackage, *, commit: CommitPolicy, chunks: int) -> Iterator[float]:
    """Stream a model and its package side by side, each from its own state, and yield each chunk's ratio, decibels."""
    preset, manifest = model.config.preset, streamed.package.manifest
    size = (1, preset.text_tokens, preset.text_channels)
    text_BSE = torch.randn(size, generator=torch.Generator().manual_seed(0))
    sampler = next(one for one in samplers_to_check(model.config) if one.commit == commit)
    streams: list[Any] = [model, streamed]
    states = [StreamState.start(one, manifest.grid, window=manifest.window) for one in streams]
    for _ in range(chunks):
        latents: list[Tensor] = []
        for index, one in enumerate(streams):
            z_BCTYX, states[index] = sampler.next_chunk(one, text_BSE, states[index], frames=manifest.chunk_frames)
            latents.append(z_BCTYX)
        yield snr_db(*latents)


def _check_export(exporter: Exporter, model: S2DiT, out: Path) -> Package:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    steps: list[tuple[int, int]] = []
    package = exporter.export(model, GRID, out, lambda done, total, _: steps.append((done, total)))
    manifest = package.manifest
    assert package == Package.load(out), "what export returns is not what it wrote"
    assert exporter_of(package) == exporter, "the manifest does not name the exporter and its options"
    assert {one.name for one in manifest.functions} == set(FUNCTIONS)
    for last, step in pairwise(steps):
        assert step >= last or (last[0] == last[1] and step[0] == 0), "progress goes back before a stage is done"
    assert all(0 <= done <= total for done, total in steps)
    assert not list(out.parent.glob(".*")), "something is left beside the package"
    assert (manifest.model_digest, manifest.plan_digest) == (model.config.digest, model.config.plan_digest)
    assert manifest.sizes.state_bytes == manifest.sizes.predicted_state_bytes, "the state is not as large as predicted"
    source = S2DiT.from_pretrained(package.source)
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name!r} of the source differs from the model's"
        assert torch.equal(model.state_dict()[name], before[name]), f"the export changed {name!r} of the model"
    _refuses(InputError, "exists", lambda: exporter.export(model, GRID, out))
    return package


def _check_functions(package: Package, runtime: Runtime) -> None:
    """Names, shapes and types are the manifest's; a call changes no input and gives the same again."""
    generator = np.random.default_rng(0)
    for function in package.manifest.functions:
        inputs = {one.name: generator.uniform(0, 0.5, one.shape).astype(one.dtype) for one in function.inputs}
        if PAST_BIAS in inputs:
            inputs[PAST_BIAS][:3] = MASKED
        kept = {name: array.copy() for name, array in inputs.items()}
        outputs = runtime.run(function.name, inputs)
        assert {name: (array.shape, str(array.dtype)) for name, array in outputs.items()} == {
            one.name: (one.shape, one.dtype) for one in function.outputs
        }, f"outputs of {function.name} are not those of the manifest"
        copies = {name: array.copy() for name, array in outputs.items()}
        again = runtime.run(function.name, inputs)
        for name, array in copies.items():
            assert np.isfinite(array).all(), f"{name!r} of {function.name} is not finite"
            assert np.array_equal(array, again[name]), f"{name!r} of {function.name} differs the second time"
            assert np.array_equal(array, outputs[name]), f"{name!r} of {function.name} was overwritten by a later call"
        for name, array in inputs.items():
            assert np.array_equal(array, kept[name]), f"{function.name} changed its input {name!r}"


def _check_files(package: Package) -> None:
    """Every file is checked before it is run."""
    own = [entry for entry in package.manifest.files if not entry.path.startswith(f"{SOURCE}/")]
    assert own, "the package has no files of the runtime"
    for entry in own:
        path = package.folder / entry.path
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        _refuses(CheckError, entry.path, lambda: open_runtime(package))
        path.write_bytes(content)
    open_runtime(package)


def _refuses(error: type[Exception], words: str, call: Any) -> None:
    line = ""
    try:
        call()
    except error as problem:
        line = str(problem)
    assert words in line, f"{line!r} does not say {words!r}"
    assert len(line.splitlines()) == 1
