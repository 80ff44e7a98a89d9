"""What one hour more would buy a stage that trains: how many steps, and its loss if that went on as it did.

Steps are an hour over the median time of a step. The loss is that of steps: a straight line in the logarithm of the
step is fitted to its last half by least squares, and drawn on. A schedule that lets the learning rate fall to 0 bends
the end of a curve down, and a longer run would bend it later: it is an extrapolation, and says so. It ends at four
times the steps of the run, however many fit into an hour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import msgspec
import numpy as np

from s2search.training.run_folder import Row

HOUR_S = 3600.0
_FEWEST = 8  # points of a line
_FURTHEST = 4  # times the steps of a run


class OneHourMore(msgspec.Struct, frozen=True, kw_only=True):
    """A stage after one hour more of steps.

    Attributes:
        stage: Its name.
        step_s: Seconds of a step, the median.
        steps: That it was trained for.
        more_steps: That fit into an hour.
        drawn_to: Steps to which the line is drawn on: those of an hour more, or four times those of the run.
        loss: Of the line at the last step; null where there is no line.
        loss_then: Of the line at `drawn_to`.
        error: Standard error of the difference of these two, from the line's scatter.
    """

    stage: str
    step_s: float
    steps: int
    more_steps: int
    drawn_to: int
    loss: float | None = None
    loss_then: float | None = None
    error: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the loss falls by more than two of its errors."""
        if self.loss is None or self.loss_then is None or self.error is None:
            return False
        return self.loss - self.loss_then > 2 * self.error


def one_hour_more(stage: str, metrics: Sequence[Row], loss: str | None) -> OneHourMore | None:
    """Return what an hour would buy; None where no step was timed.

    Args:
        stage: Its name.
        metrics: What its run reported.
        loss: The name of the figure to draw on; None where the trainer's loss is no distance to anything.
    """
    seconds = [value for _, name, value in metrics if name == "seconds"]
    if not seconds:
        return None
    step_s, steps = median(seconds), max(step for step, _, _ in metrics)
    more = int(HOUR_S / step_s)
    drawn_to = min(steps + more, _FURTHEST * steps)
    found = OneHourMore(stage=stage, step_s=step_s, steps=steps, more_steps=more, drawn_to=drawn_to)
    points = [(math.log(step), value) for step, name, value in metrics if name == loss and step > steps / 2]
    if len(points) < _FEWEST:
        return found
    x_N, y_N = np.array(points).T
    slope, at_mean = np.polyfit(x_N - x_N.mean(), y_N, 1)
    off_N = y_N - at_mean - slope * (x_N - x_N.mean())
    slope_error = math.sqrt(
        float(np.square(off_N).sum()) / (len(points) - 2) / float(np.square(x_N - x_N.mean()).sum())
    )
    further = math.log(drawn_to / steps)
    now = float(at_mean + slope * (math.log(steps) - x_N.mean()))
    return msgspec.structs.replace(found, loss=now, loss_then=now + float(slope) * further, error=slope_error * further)
