"""s2search plans, builds and verifies streaming video diffusion transformers for one device.

Source: Zhao et al., "S2DiT: Sandwich Diffusion Transformer for Mobile Streaming Video Generation",
arXiv 2601.12719 (2026).

Importing this package loads neither torch nor coremltools.
"""

from s2search.planner.plan import Plan
from s2search.registry import own_version
from s2search.tables.table import LatencyTable

__all__ = ["LatencyTable", "Plan", "__version__"]
__version__ = own_version()
