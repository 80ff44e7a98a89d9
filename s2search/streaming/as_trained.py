"""What weights were trained to stream with, held against what is asked of them. Without torch.

Why: docs/decisions/streaming.md, "A trained model streams as it was trained".
"""

from __future__ import annotations

from s2search.block import Window
from s2search.cost import CommitPolicy
from s2search.errors import InputError
from s2search.network.config import ModelConfig


def check_shape(config: ModelConfig, *, window: Window | None = None, frames: int | None = None) -> None:
    """Raise unless weights that were trained to stream are asked for their own window and chunks.

    Args:
        config: Of the weights. Where it does not say that they were trained to stream, nothing is raised.
        window: What is asked for; None is what the preset says.
        frames: Latent frames of a chunk, likewise.

    Raises:
        InputError: It names both.
    """
    preset = config.preset
    if config.causal is None:
        return
    if window is not None and window != preset.window:
        raise InputError(
            f"the weights were trained with {_told(preset.window)}, and {_told(window)} is asked for",
            remedy="leave it out, or train with this one: causal[window=N,sink=N]",
        )
    if frames is not None and frames != preset.chunk_frames:
        raise InputError(
            f"the weights were trained with chunks of {preset.chunk_frames} latent frames, and {frames} are asked for",
            remedy="leave it out, or train with these: causal[chunk=N]",
        )


def check_sampling(config: ModelConfig, schedule: tuple[float, ...], commit: CommitPolicy, level: float) -> None:
    """Raise unless weights that were trained to stream are sampled and committed as then.

    Those that follow the flow may take any steps along it.

    Args:
        config: Of the weights. Where it does not say that they were trained to stream, nothing is raised.
        schedule: Noise levels at which the network is asked.
        commit: How a chunk is committed.
        level: Noise level at which it is committed.

    Raises:
        InputError: It names both.
    """
    form = config.causal
    if form is None:
        return
    check_commit(config, commit)
    if form.schedule is not None and schedule != form.schedule:
        raise InputError(
            f"the weights were trained for {steps_told(form.schedule)}, and {steps_told(schedule)} "
            f"{'are' if len(schedule) > 1 else 'is'} asked for",
            remedy=f"leave out --steps and --shift, or train causal[steps={len(schedule)}], then "
            f"self_forcing[steps={len(schedule)}]",
        )
    if level != form.level:
        raise InputError(
            f"the weights see past chunks at the noise level {form.level:g}, and {level:g} is asked for",
            remedy="take s2search.streaming.sampler_of.sampler_of(model.config)",
        )


def check_commit(config: ModelConfig, commit: CommitPolicy) -> None:
    """Raise unless weights that were trained to stream are committed by their own policy.

    Raises:
        InputError: It names both.
    """
    if config.causal is not None and commit != config.causal.commit:
        raise InputError(
            f"the weights were trained with --commit {config.causal.commit}, and {commit} is asked for",
            remedy=f"leave it out, or train with it: causal[commit={commit}]",
        )


def steps_told(schedule: tuple[float, ...]) -> str:
    """Return a schedule in words.

    >>> steps_told((1.0, 0.625))
    '2 steps (1, 0.625)'
    """
    if len(schedule) > 8:
        return f"{len(schedule)} steps"
    count = f"{len(schedule)} step{'s' if len(schedule) > 1 else ''}"
    return f"{count} ({', '.join(f'{level:.4g}' for level in schedule)})"


def _told(window: Window) -> str:
    sink = f" and a sink of {window.sink_frames}" if window.sink_frames else ""
    return f"a window of {'all' if window.frames is None else window.frames} frames{sink}"
