"""Known devices' tables as what a blend is made of: their rows at one scenario and shape, whatever they run in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from s2search.block import Scenario, Shape
from s2search.tables.table import LatencyTable
from s2search.transfer.blend import Items


def known_ms(known: LatencyTable, scenario: Scenario, shape: Shape) -> dict[str, float]:
    """Return a known device's latencies in milliseconds by row label, those of zero left out.

    Raises:
        TableError: It has no row of the scenario, or several precisions or compute units.
    """
    own = known.scope(scenario, video=(shape.height, shape.width))
    at_shape = dataclasses.replace(own, shape=shape)
    return {row.label: row.latency_ms for row in known.in_scope(at_shape) if row.latency_ms > 0}


def row_items(known: Sequence[Mapping[str, float]], labels: Sequence[str]) -> Items:
    """Return rows as items that err independently of one another."""
    known_ms_ND = np.array([[rows[label] for rows in known] for label in labels])
    return Items(known_ms_ND=known_ms_ND, trait_NF=np.eye(len(labels)))
