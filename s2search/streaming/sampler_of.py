"""Which sampler a model's chunks are made by: the one that it was trained for."""

from __future__ import annotations

from typing import Literal

from s2search.cost import COMMIT_POLICIES, CommitPolicy
from s2search.network.config import CausalForm, ModelConfig
from s2search.network.flow import few_step_schedule
from s2search.streaming.as_trained import check_commit, check_sampling
from s2search.streaming.chunk_sampler import ChunkSampler
from s2search.streaming.flow_sampler import FLOW_STEPS, FlowSampler
from s2search.streaming.sampler import FewStepSampler

_STEPS, _SHIFT = 4, 5.0  # the paper's


def sampler_of(
    config: ModelConfig | None,
    *,
    steps: int | None = None,
    shift: float | None = None,
    commit: CommitPolicy | None = None,
) -> ChunkSampler:
    """Return the sampler of a model's chunks, as it was trained; what is asked for otherwise is refused.

    A model that follows the flow takes any number of steps along it, 50 by default. One that was not trained to stream
    takes what is asked for, and by default what the paper has: four steps, shift 5, `reuse_last`.

    Args:
        config: Of the weights; None is of random ones.
        steps: Denoising passes of a chunk; None is what the weights were trained for.
        shift: How far noise levels are pushed towards 1, likewise.
        commit: Commit policy, likewise.

    Raises:
        InputError: The weights were trained for something else, or there is no such schedule.
    """
    form = None if config is None else config.causal
    if config is None or form is None:
        schedule = few_step_schedule(_STEPS if steps is None else steps, _SHIFT if shift is None else shift)
        return FewStepSampler(schedule=schedule, commit=commit or "reuse_last")
    check_commit(config, commit or form.commit)
    if form.schedule is None:
        schedule = few_step_schedule(FLOW_STEPS if steps is None else steps, _SHIFT if shift is None else shift)
        return FlowSampler(schedule=schedule, commit=form.commit, level=form.level)
    asked = _asked(form.schedule, steps, shift)
    check_sampling(config, asked, form.commit, form.level)
    return FewStepSampler(schedule=asked, commit=form.commit)


def briefly(config: ModelConfig) -> ChunkSampler:
    """Return a model's own sampler, but for one that follows the flow only four steps along it: for checks and ranges.

    What they look at is how near two networks answer to the same questions, and not where the flow leads.
    """
    flows = config.causal is not None and config.causal.schedule is None
    return sampler_of(config, steps=_STEPS if flows else None)


def samplers_to_check(config: ModelConfig) -> tuple[ChunkSampler, ...]:
    """Return what a model may be streamed with: its own sampler, `briefly`; one of each policy where it has none."""
    if config.causal is not None:
        return (briefly(config),)
    return tuple(FewStepSampler(commit=policy) for policy in COMMIT_POLICIES)


def needs(sampler: ChunkSampler) -> Literal["advance", "commit"]:
    """Return what a sampler asks of a model beside reading: to commit in a read's pass, or in one of its own."""
    return "advance" if sampler.commit == "reuse_last" and sampler.flow_level is None else "commit"


def told(form: CausalForm) -> str:
    """Return in words how weights were trained to stream.

    >>> told(CausalForm(commit="clean_pass", level=0.0))
    'trained to follow the flow, clean_pass'
    """
    if form.schedule is None:
        return f"trained to follow the flow, {form.commit}"
    return f"trained for {len(form.schedule)} step{'s' if len(form.schedule) > 1 else ''}, {form.commit}"


def _asked(own: tuple[float, ...], steps: int | None, shift: float | None) -> tuple[float, ...]:
    """Return the schedule that is asked for of a model with one: its own where nothing else is said."""
    if shift is None and steps in (None, len(own)):
        return own
    return few_step_schedule(len(own) if steps is None else steps, _SHIFT if shift is None else shift)
