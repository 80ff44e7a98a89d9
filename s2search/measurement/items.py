"""What a campaign measures: the candidates, the switches between streams and the two ends of the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

from s2search import registry
from s2search.block import Block, Part, Precision, Scenario, Shape
from s2search.errors import UnknownNameError
from s2search.measurement.base import Device, Item
from s2search.preset import Preset
from s2search.tables.row import ROLES, Role, Row

SCENARIOS: tuple[Scenario, ...] = ("stream", "clip")
#: Roles of a forward pass: all but commits, which known devices' tables do not foretell.
FORWARD: tuple[Role, ...] = ("block", "switch", "fixed")
_PARTS: dict[str, Role] = {"down": "switch", "up": "switch", "stem": "fixed", "head": "fixed"}


def campaign_items(
    preset: Preset,
    video: str,
    *,
    scenarios: Sequence[Scenario] = SCENARIOS,
    candidates: Sequence[Block] = (),
    clip_frames: int | None = None,
    roles: Collection[Role] = ROLES,
) -> tuple[Item, ...]:
    """List what a table needs so that every layout of the candidates can be priced, and its commits in a stream.

    Args:
        preset: The model's sizes.
        video: Pixels, width by height.
        scenarios: `stream`, `clip` or both.
        candidates: Blocks to measure; by default all installed ones.
        clip_frames: Latent frames of a clip; by default the preset's.
        roles: Leaves out the items of all others.

    >>> items = campaign_items(Preset.named("s2dit-tiny"), "256x144", scenarios=["stream"])
    >>> [item.key for item in items if item.role in ("switch", "fixed")]
    ['stream down 3x9x16', 'stream up 3x9x16', 'stream stem 3x9x16', 'stream head 3x9x16']
    >>> next(item.key for item in items if item.role == "commit")
    'stream full commit 3x9x16'
    """
    blocks = candidates or [registry.create("blocks", name) for name in registry.installed("blocks")]
    parts: list[tuple[Role, Part]] = [("block", block) for block in blocks]
    parts += [("commit", block) for block in blocks]
    parts += [(role, registry.create("parts", name)) for name, role in _PARTS.items()]
    return tuple(
        Item(role=role, part=part, scenario=scenario, shape=shape)
        for scenario in scenarios
        for shape in [preset.shape(video, scenario, frames=clip_frames if scenario == "clip" else None)]
        for role, part in parts
        if role in roles and (role != "commit" or scenario == "stream")
    )


def only_items(items: Sequence[Item], keys: Sequence[str]) -> tuple[Item, ...]:
    """Return the items of some keys, in the order of the keys; all items where no key is given.

    Raises:
        UnknownNameError: No item has a key.

    >>> items = campaign_items(Preset.named("s2dit-tiny"), "256x144", scenarios=["stream"])
    >>> [item.key for item in only_items(items, ["stream up 3x9x16", "stream ssa 3x9x16"])]
    ['stream up 3x9x16', 'stream ssa 3x9x16']
    """
    by_key = {item.key: item for item in items}
    for key in keys:
        if key not in by_key:
            raise UnknownNameError("row of this campaign", key, by_key, listed_as="its rows")
    return tuple(by_key[key] for key in dict.fromkeys(keys)) or tuple(items)


def long_skip_row(scenario: Scenario, shape: Shape, device: Device) -> Row:
    """Return the row of the long skip: a buffer that every layout holds, and that takes no time."""
    activation_bits = Precision.named(device.precision).activation_bits
    return Row(
        role="fixed",
        part="long_skip",
        scenario=scenario,
        **dataclasses.asdict(shape),
        precision=device.precision,
        compute_unit=device.compute_unit,
        latency_ms=0.0,
        latency_std_ms=0.0,
        weight_bytes=0,
        state_bytes=shape.tokens * shape.channels * activation_bits // 8,
        peak_bytes=0,
        latency_provenance="derived",
        bytes_provenance="derived",
        note="a buffer; not a computation",
    )
