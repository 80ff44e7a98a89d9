"""The command `stream`: video from a prompt, chunk after chunk, with the time that every stage takes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2search.api.stream_packages import StreamPackages
from s2search.api.stream_setup import NumberFormat, OpenedStream, Setup, device_of, interruption, sampler_and_notes
from s2search.api.values import PathText, Texts, model_of, plugin_of, texts_of
from s2search.cost import CommitPolicy
from s2search.document import check_writable
from s2search.errors import InputError, keeping, require
from s2search.planner.plan import Plan
from s2search.preset import Preset, token_grid

_VIDEO = "256x144"

if TYPE_CHECKING:
    from s2search.block import Window
    from s2search.codec.base import Codec
    from s2search.network.network import S2DiT
    from s2search.reporting.clips import ClipsReport
    from s2search.reporting.stream import StreamReport
    from s2search.streaming.header import Header
    from s2search.streaming.pipeline import Prompts
    from s2search.streaming.state import StreamState
    from s2search.text.base import TextEncoder


def stream(
    out: PathText,
    weights: PathText | S2DiT | None = None,
    *,
    preset: str | Preset | None = None,
    random_weights: bool = False,
    plan: PathText | Plan | None = None,
    layout: str | None = None,
    package: PathText | Sequence[PathText] = (),
    prompt: str = "",
    prompt_at: Texts | Mapping[int, str] = (),
    prompts: PathText | None = None,
    samples: int = 1,
    chunks: int = 8,
    video: str | None = None,
    fps: float = 16.0,
    steps: int | None = None,
    shift: float | None = None,
    commit: CommitPolicy | None = None,
    seed: int = 0,
    text: str | TextEncoder | None = None,
    codec: str | Codec | None = None,
    overlap: bool = False,
    compile: bool = False,
    device: str = "cpu",
    dtype: NumberFormat = "float32",
    threads: int | None = None,
    state_in: PathText | None = None,
    state_out: PathText | None = None,
) -> StreamReport | ClipsReport:
    """Stream video from a prompt into a file, or of many prompts into a folder, and say where the time goes.

    Args:
        out: The video file: .mp4. With `prompts` the folder of the clips; finished ones are kept.
        weights: A folder that save_pretrained wrote, or a model.
        preset: Model size, a TOML file of sizes, or the sizes; without weights.
        random_weights: Untrained weights: to time a model before it is trained.
        plan: Realize this plan (a JSON file, or the plan) at the preset's sizes.
        layout: Realize this layout: `L4S4`.
        package: Instead of a model, what `export` wrote: the folder of a step, and with it those of a text encoder and
            a decoder, where they are packages too.
        prompt: What to show.
        prompt_at: From a chunk on, another prompt: `4:a dog`, or `{4: "a dog"}`.
        prompts: A text file of one prompt a line: clips `<prompt>-<index>.mp4`, as VBench reads them.
        samples: Clips of each of them, with other noise.
        chunks: Of 3 latent frames, where the model has no others: 9 pixel frames, then 12 each.
        video: Video size; 256x144 by default, or the package's own.
        fps: Frames per second of the file.
        steps: Denoising passes per chunk; by default what the weights were trained for (4 where they do not say).
        shift: How far noise levels are pushed towards 1, likewise (5).
        commit: Who writes the state, likewise (`reuse_last`).
        seed: Of the noise, and of random weights. A stream that goes on keeps its noise's own.
        text: Text encoder; `hashing`, as wide as the model, by default.
        codec: What decodes latents; `dct` by default.
        overlap: Decode while the next chunk is denoised.
        compile: torch.compile the layers first; on a GPU also CUDA graphs.
        device: `cpu`, `cuda`, `cuda:1`.
        dtype: Of the model.
        threads: On a CPU; the fastest of a short trial by default.
        state_in: Go on from this state.
        state_out: Write the state after the last chunk.

    Raises:
        InputError: The options contradict each other or what the weights were trained for, or a file or a device cannot
            be used.
    """
    if state_out is not None:
        check_writable(Path(state_out))
        if Path(state_out).resolve() == Path(out).resolve():
            raise InputError(f"video and state are both {str(out)!r}", remedy="name two files")
    alone = {"--prompt": prompt, "--prompt-at": prompt_at, "--state-in": state_in, "--state-out": state_out}
    if prompts is None:
        check_writable(Path(out))
    else:
        _check_many(Path(out), alone)
    if prompts is None and samples != 1:
        raise InputError(f"--samples {samples} is for the prompts of a file", remedy="name it with --prompts")
    token_grid(video or _VIDEO)
    given: dict[str, object] = {
        "WEIGHTS": weights,
        "--preset": preset,
        "--random-weights": random_weights,
        "--plan": plan,
    }
    given |= {"--layout": layout, "--compile": compile, "--threads": threads}
    given |= {"--device": device != "cpu", "--dtype": dtype != "float32"}
    packages = _packages(package, given, {"text": text, "codec": codec}, video)
    source = packages or model_of(
        weights, preset=preset, random_weights=random_weights, plan=plan, layout=layout, seed=seed
    )
    read_prompts(prompt, prompt_at)
    sampler, notes = sampler_and_notes(source, steps, shift, commit)
    if packages is not None:
        packages.check(sampler)
    setup = Setup(
        source=source,
        video=video or (packages.video if packages else _VIDEO),
        fps=fps,
        seed=seed,
        sampler=sampler,
        where=device_of(device),
        decoder=(packages and packages.decoder) or plugin_of("codecs", codec or "dct"),
        encoder=(packages and packages.text) or (None if text is None else plugin_of("texts", text)),
        overlap=overlap,
        compile=compile,
        dtype=dtype,
        threads=threads,
        notes=notes,
    )
    if prompts is not None:
        from s2search.api.stream_clips import stream_clips

        return stream_clips(setup, Path(out), Path(prompts), samples, chunks=chunks)
    before = _before(setup, state_in)
    said = read_prompts(prompt, prompt_at, end=chunks + (before.chunks if before else 0))
    return _stream_one(setup, Path(out), said, chunks, state_in, state_out)


def _packages(
    folders: PathText | Sequence[PathText], model: Mapping[str, object], parts: Mapping[str, object], video: str | None
) -> StreamPackages | None:
    """Return the packages that are named, once nothing is that they would stand beside.

    Args:
        folders: Of the packages; none is no package.
        model: Options that say what a model is and how torch runs it.
        parts: Text encoder and codec, where they are named.
        video: Size, where it is named.
    """
    if isinstance(folders, str | os.PathLike):
        folders = (folders,)
    if not folders:
        return None
    require("torch")
    for option, value in model.items():
        if value:
            raise InputError(f"{option} is given beside --package", remedy="leave out one of them")
    found = StreamPackages.read([Path(folder) for folder in folders])
    for option, packaged, named in (("text", found.text, parts["text"]), ("codec", found.decoder, parts["codec"])):
        if packaged is not None and named is not None:
            raise InputError(f"--{option} is given beside a package of one", remedy="leave out one of them")
    if video is not None and token_grid(video) != found.step.manifest.grid:
        raise InputError(
            f"the package streams video of {found.video}, and --video {video} is asked for",
            remedy="leave out --video, or export for this size",
        )
    return found


def _check_many(out: Path, alone: Mapping[str, object]) -> None:
    """Refuse what is for a clip alone, and would be lost in silence."""
    for option, value in alone.items():
        if value:
            raise InputError(f"{option} is given beside --prompts", remedy="leave out one of them")
    if out.suffix.lower() == ".mp4":
        raise InputError(f"{str(out)!r} is the name of one clip, and --prompts makes many", remedy="name a folder")


def _before(setup: Setup, state_in: PathText | None) -> Header | None:
    """Return the header of the state to go on from: all that can be known before the weights are read is checked."""
    from s2search.streaming.header import Header

    if state_in is None:
        return None
    before = Header.read(state_in)
    before.check(
        name=f"the state {str(state_in)!r}",
        grid=setup.grid,
        dtype=setup.dtype,
        schedule=setup.sampler.schedule,
        commit=setup.sampler.commit,
        flow_level=setup.sampler.flow_level,
        codec=setup.decoder.label,
        text=None if setup.encoder is None else setup.encoder.label,
    )
    return before


def _stream_one(
    setup: Setup,
    out: Path,
    prompts: Prompts,
    chunks: int,
    state_in: PathText | None,
    state_out: PathText | None,
) -> StreamReport:
    import torch

    from s2search.codec.video import VideoWriter
    from s2search.reporting.progress import progress_bar
    from s2search.reporting.stream import StreamReport

    writer = VideoWriter(out, fps=setup.fps)
    with setup.opened() as opened:
        state, notes = _start(opened, setup.seed, state_in)
        report = StreamReport(
            passes=setup.sampler.passes,
            video=setup.video,
            device=setup.ran_on,
            dtype=setup.number_format,
            threads=torch.get_num_threads(),
            out=out,
            caveat=writer.caveat,
            notes=opened.notes + notes,
        )
        with writer, interruption() as interrupted, progress_bar("streaming") as progress:
            for chunk in opened.pipeline.chunks(prompts, chunks, state):
                writer.append(chunk.frames_THWC)
                report.add(chunk)
                state = chunk.state
                progress(report.chunks, chunks, f"{report.live_fps:.1f} FPS")
                if interrupted():
                    break
    report.interrupted = report.chunks < chunks
    if state_out is not None:
        with keeping(report):
            state.save(Path(state_out))
    return report


def _start(opened: OpenedStream, seed: int, state_in: PathText | None) -> tuple[StreamState, tuple[str, ...]]:
    """Return where the stream begins, and in words what it has from a state rather than from its options."""
    from s2search.streaming.state import StreamState

    if state_in is None:
        return opened.start(seed), ()
    model = opened.pipeline.model
    state = StreamState.load(state_in, model)
    state.header.check(name=f"the state {str(state_in)!r}", text=opened.text)
    plugins = {"--codec": opened.codec, "--text": opened.text}
    return state, _taken_over(state.header, seed, model.config.preset.window, plugins)


def read_prompts(first: str, later: Texts | Mapping[int, str] = (), *, end: int | None = None) -> Prompts:
    """Return the prompt of every chunk: one from the start, and others from a chunk on.

    Args:
        first: From chunk 0 on.
        later: `4:a dog`, or `{4: "a dog"}`.
        end: The chunk after the last one, counted from the start of the stream.

    Raises:
        InputError: A later one does not say from which chunk on, or would never be seen.

    >>> prompts = read_prompts("a cat", ["2:a dog: wet"])
    >>> [prompts(chunk) for chunk in range(4)]
    ['a cat', 'a cat', 'a dog: wet', 'a dog: wet']
    """
    starts = {0: first} if first else {}
    pairs = later.items() if isinstance(later, Mapping) else map(_from_chunk, texts_of(later))
    for start, text in pairs:
        if start in starts:
            raise InputError(f"chunk {start} has two prompts: {starts[start]!r} and {text!r}", remedy="leave out one")
        if start < 0 or (end is not None and start >= end):
            allowed = "at least 0" if end is None else f"0 to {end - 1}, the last chunk of this stream"
            raise InputError(f"--prompt-at names chunk {start}", allowed=allowed, remedy="correct it, or stream longer")
        starts[start] = text
    starts.setdefault(0, first)
    return lambda chunk: starts[max(start for start in starts if start <= chunk)]


def _from_chunk(text: str) -> tuple[int, str]:
    match = re.fullmatch(r"\s*(\d{1,9})\s*:\s*(.*)", text, re.DOTALL)
    if match is None:
        raise InputError(f"--prompt-at {text!r} does not name a chunk", remedy="write for example '4:a dog'")
    return int(match[1]), match[2]


def _taken_over(header: Header, seed: int, window: Window, plugins: Mapping[str, str]) -> tuple[str, ...]:
    """Return in words what a stream that goes on has from its state, and not from its options."""
    notes = []
    if header.seed != seed:
        notes.append(f"the noise goes on with the state's seed {header.seed}, not {seed}")
    if header.window != window:
        notes.append(f"the window is the state's: {header.window.frames} frames, a sink of {header.window.sink_frames}")
    for option, own in (("--codec", header.codec), ("--text", header.text)):
        if own is not None and "[" in own and own != plugins[option]:
            notes.append(f"{option} {plugins[option]} goes on where {own} was")
    if header.schedule is None and header.chunks:
        notes.append("the state does not say its steps and commit policy, which were taken to be these")
    return tuple(notes)
