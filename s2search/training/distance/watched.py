"""What samples of a model were like when a run looked at them, and when that is called a fault; without torch."""

from __future__ import annotations

import msgspec

#: Standard deviation, to that of real latents, above which samples are called saturated.
SATURATED_ABOVE = 1.3
#: Mean absolute difference of frames, to that of real clips, below which samples are called frozen.
FROZEN_BELOW = 0.5


class WatchedDistance(msgspec.Struct, frozen=True, kw_only=True):
    """What samples are like.

    Attributes:
        mmd: MMD^2 to held-out clips, unbiased, by the name of each network.
        mmd_error: Standard errors.
        std_ratio: Standard deviation, to that of the clips.
        motion_ratio: Mean absolute difference of frames, to that of the clips.
    """

    mmd: dict[str, float]
    mmd_error: dict[str, float]
    std_ratio: float
    motion_ratio: float

    @property
    def saturated(self) -> bool:
        """Whether the standard deviation is above 1.3 times that of real clips."""
        return self.std_ratio > SATURATED_ABOVE

    @property
    def frozen(self) -> bool:
        """Whether frames differ by less than half of what those of real clips do."""
        return self.motion_ratio < FROZEN_BELOW
