"""The part of coremltools 9.0 that the kit's runner uses."""

import enum

from . import models  # noqa: F401


class ComputeUnit(enum.Enum):
    ALL = 1
    CPU_AND_GPU = 2
    CPU_ONLY = 3
    CPU_AND_NE = 4
