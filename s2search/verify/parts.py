"""Whether the package of a text encoder or a decoder gives what its source gives: prompt by prompt, chunk by chunk."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from s2search.errors import S2SearchError
from s2search.export.onnx_package import OnnxPackage
from s2search.export.part_package import CACHE, NEW, DecoderPart, PartPackage, TextPart, source_digest
from s2search.verify.decibels import parity_db
from s2search.verify.report import CheckResult, Verification, judged, keeps_promise, not_run
from s2search.verify.stored import stored_tensors
from s2search.verify.weights import difference

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from s2search.export.base import Runtime

#: What is encoded: nothing, words, more words than a prompt holds.
PROMPTS = ("", "a cat", "a dog and a cat", "cat " * 200)
LEAST_DB = {"float32": 90.0, "float16": 40.0}

Progress = Callable[[int, int, str], Any]


def verify_part(
    folder: Path, *, chunks: int = 16, seed: int = 0, progress: Progress = lambda done, total, label: None
) -> Verification:
    """Check the package of a part against its source.

    Args:
        folder: What `export_part` wrote. Nothing in it is changed.
        chunks: Of a decoder's stream.
        seed: Of its latents.
        progress: Called as the work goes on.

    Raises:
        InputError: The folder holds no such package.
    """
    package, found = PartPackage.load(folder), list[CheckResult]()
    manifest = package.manifest
    looks: dict[str, Callable[[PartPackage], Iterator[CheckResult]]] = {
        "files": _files,
        "weights": _weights,
        "parity": lambda one: _parity(one, chunks, seed),
    }
    for done, (name, look) in enumerate(looks.items()):
        progress(done, len(looks), name)
        try:
            found += look(package)
        except S2SearchError as error:
            found.append(CheckResult(name=name, status="failed", why=" ".join(str(error).split())))
    progress(len(looks), len(looks), "")
    evaluated = manifest.exporter == "coreml" and sys.platform != "darwin"
    return Verification(
        passed=keeps_promise(found),
        package=str(folder),
        exporter=f"{manifest.part} of {manifest.plugin}, {manifest.exporter}",
        precision=manifest.precision,
        model_digest=manifest.source_digest,
        plan_digest=None,
        environment={
            "runtime": "the evaluator, in place of Core ML" if evaluated else manifest.exporter,
            "platform": platform.platform(),
            "torch": version("torch"),
        },
        checks=tuple(found),
    )


def _files(package: PartPackage) -> Iterator[CheckResult]:
    package.check_files()
    stated, digest = package.manifest.source_digest, source_digest(package.source)
    why = f"{len(package.manifest.files)} files have their digests"
    yield judged("files", float(stated != digest), 0, "at most", unit="files changed", why=why)


def _weights(package: PartPackage) -> Iterator[CheckResult]:
    """Compare every stored weight of the network with the source's, tensor by tensor."""
    if package.manifest.exporter != "onnx":
        yield not_run(
            "weights", "Core ML's programs fold the weights of these networks; parity covers them", required=False
        )
        return
    tensors: Mapping[str, torch.Tensor] = getattr(_source(package), "model", torch.nn.Module()).state_dict()
    if not tensors:
        why = (
            f"{package.manifest.plugin} has no weights: its numbers are constants of the graph, and parity covers them"
        )
        yield not_run("weights", why, required=False)
        return
    differing, seen = dict[str, str](), set[str]()
    for tensor in stored_tensors(package):
        if (name := tensor.name.removeprefix("model.")) in tensors:
            seen.add(name)
            if problem := difference(tensors[name].detach().float().numpy(), tensor):
                differing.setdefault(name, problem)
    where = min(differing, default="")
    first = f"{where} {differing[where]} " if where else ""
    why = f"{first}{len(seen)} stored tensors compared; {len(tensors) - len(seen)} of the source are of no use to it"
    yield judged("weights", len(differing), 0, "at most", unit="tensors differ", where=where, why=why)


def _parity(package: PartPackage, chunks: int, seed: int) -> Iterator[CheckResult]:
    part, parts = _source(package), dict[str, float]()
    pairs = _texts(package, part) if isinstance(part, TextPart) else _chunks(package, part, chunks, seed)
    for label, wanted, got in pairs:
        parts[label] = parity_db(wanted, got)
    worst = min(parts, key=lambda label: parts[label])
    least = LEAST_DB[package.manifest.precision]
    yield judged("parity", parts[worst], least, "at least", unit="dB", where=worst, parts=parts)


def _texts(package: PartPackage, part: TextPart) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    runtime = open_part(package)
    for prompt in PROMPTS:
        ids_BS = part.ids(prompt)
        with torch.no_grad():
            (wanted_BSE,) = part(ids_BS)
        yield repr(prompt[:20]), wanted_BSE.numpy(), runtime.run("encode", {"ids": ids_BS.numpy()})["text"]


def _chunks(
    package: PartPackage, part: DecoderPart, chunks: int, seed: int
) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Decode one stream by the codec and by the package, each with the cache that it made itself."""
    codec, runtime = part.codec, open_part(package)
    generator, cache = torch.Generator().manual_seed(seed), None
    got: dict[str, NDArray[Any]] = {}
    for chunk in range(chunks):
        latents_BCTYX = torch.randn(package.manifest.function("first").inputs[0].shape, generator=generator)
        wanted_BCTYX, cache = codec.decode(latents_BCTYX, cache)
        got = decoded(package, runtime, latents_BCTYX.numpy(), got)
        yield f"chunk {chunk}", wanted_BCTYX.numpy(), got["video"]


def decoded(
    package: PartPackage, runtime: Runtime, latents_BCTYX: NDArray[Any], before: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return what a decoder's package gives for the next chunk: the video and the new cache.

    Args:
        package: Of the decoder.
        runtime: Of the package.
        latents_BCTYX: The chunk.
        before: What this gave for the chunk before; empty at the stream's start.
    """
    function = "next" if before else "first"
    known = {name.removeprefix(NEW): array for name, array in before.items() if name.startswith(NEW + CACHE)}
    inputs = known | {"latents": latents_BCTYX}
    specs = package.manifest.function(function).inputs
    return runtime.run(function, {one.name: np.ascontiguousarray(inputs[one.name], one.dtype) for one in specs})


def open_part(package: PartPackage) -> Runtime:
    """Return the runtime of a part's package: ONNX Runtime, or the evaluator in place of Core ML."""
    if package.manifest.exporter == "onnx":
        return OnnxPackage(package)
    from s2search.verify.evaluated import EvaluatedCoreML

    return EvaluatedCoreML(package)


def _source(package: PartPackage) -> TextPart | DecoderPart:
    return (TextPart if package.manifest.part == "text" else DecoderPart)(package.plugin_text)
