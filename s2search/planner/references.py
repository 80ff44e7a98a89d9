"""The layouts that the paper reports, to compare a front with.

Source: S2DiT, table 3: models of one block type, the hourglass (KV-compressed attention around SSA) and the sandwich,
all of 28 layers. How the paper's sandwich interleaves its 12 LCHA and 16 SSA is not printed; four runs stand for it.
"""

from __future__ import annotations

from s2search.space import Space


def reference_layouts(space: Space) -> dict[str, tuple[int, ...]]:
    """Return the paper's layouts by name, as candidate indices: those that a space's candidates and groups can form.

    >>> list(reference_layouts(Space.parse("lcha,ssa", depth=28)))
    ['SSA only', 'LCHA only', 'sandwich']
    """
    labels = [block.label for block in space.candidates]
    return {
        name: tuple(labels.index(label) for label, count in runs for _ in range(count))
        for name, runs in _runs(space.depth).items()
        if sum(count for _, count in runs) == space.depth
        and all(label in labels and count % space.group_size == 0 for label, count in runs)
    }


def _runs(depth: int) -> dict[str, list[tuple[str, int]]]:
    return {
        "SSA only": [("ssa", depth)],
        "LCHA only": [("lcha", depth)],
        "sandwich": [("lcha", 4), ("ssa", 8), ("lcha", 4), ("ssa", 8), ("lcha", 4)],
        "hourglass": [("kv_compressed", 6), ("ssa", 16), ("kv_compressed", 6)],
    }
