"""Whether the package of a text encoder or a decoder gives what its source gives: prompt by prompt, chunk by chunk."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from s2search.codec.base import DecoderComponent
from s2search.decibels import parity_db
from s2search.errors import S2SearchError
from s2search.exporters.component.package import ComponentPackage, source_digest
from s2search.text.base import TextComponent
from s2search.verification.component_weights import check_weights
from s2search.verification.decoder_stream import DecoderStream, check_state, random_latents
from s2search.verification.inspectors.base import inspector_of
from s2search.verification.result import CheckResult, Verification, judged, keeps_promise, not_run

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What is encoded: nothing, words, more words than a prompt holds.
PROMPTS = ("", "a cat", "a dog and a cat", "cat " * 200)
#: Of packages by their precision; all others have fewer bits.
LEAST_DB = {"float32": 90.0, "float16": 40.0, "w8a16": 25.0}
LEAST_COMPRESSED_DB = 20.0

Progress = Callable[[int, int, str], Any]


def verify_component(
    folder: Path, *, chunks: int = 16, seed: int = 0, progress: Progress = lambda done, total, label: None
) -> Verification:
    """Check the package of a component against its source.

    Args:
        folder: What `export_component` wrote. Nothing in it is changed.
        chunks: Of a decoder's stream.
        seed: Of its latents.
        progress: Called as the work goes on.

    Raises:
        InputError: The folder holds no such package.
    """
    package, found = ComponentPackage.load(folder), list[CheckResult]()
    manifest = package.manifest
    pairs = chunks if manifest.part == "decoder" else len(PROMPTS)
    steps, done = pairs + 4, count()

    def say(label: str) -> None:
        progress(next(done), steps, label)

    looks: dict[str, Callable[[], CheckResult]] = {
        "files": lambda: _files(package),
        "weights": lambda: check_weights(package, package.open_source().model),
        "state": lambda: check_state(package, seed),
        "parity": lambda: _parity(package, chunks, seed, say),
    }
    for name, look in looks.items():
        say(name)
        if found and found[0].status == "failed":  # the files: what is changed is not loaded
            found.append(not_run(name, f"nothing of the package is loaded: {found[0].why}", required=True))
            continue
        try:
            found.append(look())
        except S2SearchError as error:
            found.append(CheckResult(name=name, status="failed", why=" ".join(str(error).split())))
    progress(steps, steps, "")
    emulation = inspector_of(package).emulation()
    return Verification(
        passed=keeps_promise(found),
        package=str(folder),
        exporter=f"{manifest.part} of {manifest.plugin}, {manifest.exporter}",
        precision=manifest.precision,
        model_digest=manifest.source_digest,
        plan_digest=None,
        environment={
            "runtime": emulation.told if emulation else manifest.exporter,
            "platform": platform.platform(),
            "torch": version("torch"),
        },
        checks=tuple(found),
    )


def _files(package: ComponentPackage) -> CheckResult:
    package.check_files()
    stated, digest = package.manifest.source_digest, source_digest(package.source)
    why = f"{len(package.manifest.files)} files have their digests"
    return judged("files", float(stated != digest), 0, "at most", unit="files changed", why=why)


def _parity(package: ComponentPackage, chunks: int, seed: int, say: Callable[[str], None]) -> CheckResult:
    component, parts = package.open_source(), dict[str, float]()
    if isinstance(component, TextComponent):
        pairs = _texts(package, component)
    else:
        pairs = _chunks(package, component, chunks, seed)
    for label, wanted, got in pairs:
        parts[label] = parity_db(wanted, got)
        say(label)
    worst = min(parts, key=lambda label: parts[label])
    least = LEAST_DB.get(package.manifest.precision, LEAST_COMPRESSED_DB)
    return judged("parity", parts[worst], least, "at least", unit="dB", where=worst, parts=parts)


def _texts(package: ComponentPackage, component: TextComponent) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    runtime = inspector_of(package).runtime(package)
    for prompt in PROMPTS:
        with torch.no_grad():
            wanted_BSE = component.loaded.encode([prompt])
        got = runtime.run("encode", {"ids": component.ids(prompt).numpy()})
        yield repr(prompt[:20]), wanted_BSE.numpy(), got["text"]


def _chunks(
    package: ComponentPackage, component: DecoderComponent, chunks: int, seed: int
) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Decode one stream by the codec and by the package, each with the cache that it made itself."""
    stream, cache = DecoderStream(package), None
    for chunk, latents_BCTYX in enumerate(random_latents(package, chunks, seed)):
        wanted_BCTYX, cache = component.loaded.decode(torch.from_numpy(latents_BCTYX), cache)
        yield f"chunk {chunk}", wanted_BCTYX.numpy(), stream.decode(latents_BCTYX)
