"""Sampling of a whole clip in many steps by the solvers of diffusers, for the bidirectional model.

Axes: B clips  C channels  T frames  Y X rows and columns  S text tokens  E channels of a token

What diffusers 0.42 does to noise levels, and what is done about it here:
 - UniPCMultistepScheduler cuts its timesteps to whole numbers: t / 1000 is up to 1e-3 below the level that the solver
   itself steps from. The network is given the solver's own level, in float32.
 - FlowMatchEulerDiscreteScheduler shifts its lowest level twice: at shift 5 the last step starts at 0.024, not 0.005.
   Both solvers are given evenly spaced levels, and shift them once.
 - Both look up their first step by its timestep, and begin at the second of two that are the same, as whole numbers
   are in many steps. The place is set.
 - UniPC starts at 1 - 1e-6, because it takes the logarithm of 1 - s; the network is told so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from s2search.errors import InputError, require
from s2search.network.flow import few_step_schedule, guided

#: velocity(x_BCTYX, s_BT, text_BSE) returns v_BCTYX; the noise levels s are float32, from 1 (noise) to 0.
Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class FullStepSampler:
    """Follows the flow from noise to latents in many steps.

    Attributes:
        steps: How often the network is asked, and once more per step for the unconditional velocity.
        solver: unipc, a predictor and corrector of second order; euler, of first order.
        shift: By how much noise levels are pushed towards 1: 3 at 256x144, 5 at 512x288.
        guidance: Weight w of u + w (c - u). At 1 the network is not asked without the prompt.

    Source: Zhao et al., "UniPC" (2023); Zhao et al., "S2DiT" (2026), arXiv 2601.12719, which samples its full-step
    model with UniPC.
    """

    steps: int = 50
    solver: Literal["unipc", "euler"] = "unipc"
    shift: float = 5.0
    guidance: float = 5.0

    def __post_init__(self) -> None:
        if self.solver not in _SOLVERS:
            raise InputError(
                f"the solver is {self.solver!r}", allowed=f"one of {', '.join(_SOLVERS)}", remedy="correct it"
            )
        if not np.isfinite(self.guidance):
            raise InputError(f"the guidance is {self.guidance}", allowed="a finite number", remedy="correct it")
        few_step_schedule(self.steps, self.shift)

    @property
    def levels(self) -> Tensor:
        """The noise levels that the network is asked at, in float32, and 0 behind them."""
        levels: Tensor = self._scheduler().sigmas
        return levels

    @torch.no_grad()
    def sample(
        self,
        velocity: Velocity,
        noise_BCTYX: Tensor,
        text_BSE: Tensor,
        *,
        unconditional_BSE: Tensor | None = None,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> Tensor:
        """Return the latents that some noise leads to; the same noise leads to the same latents.

        Args:
            velocity: The network. It sees latents on the noise's device and in its dtype.
            noise_BCTYX: Standard normal noise. The solver works in float32 whatever its dtype.
            text_BSE: The prompts' tokens.
            unconditional_BSE: The empty prompt's tokens, of one clip or of all; needed unless the guidance is 1.
            on_step: Called after each step with the steps done and their total.

        Raises:
            InputError: There is guidance, and no unconditional text.
            MissingExtraError: diffusers is not installed.
        """
        scheduler = self._scheduler()
        ask = self._guided(velocity, text_BSE, unconditional_BSE)
        x_BCTYX = noise_BCTYX.float()
        for step, level in enumerate(scheduler.sigmas[:-1]):
            s_BT = level.to(noise_BCTYX.device).expand(noise_BCTYX.shape[0], noise_BCTYX.shape[2])
            v_BCTYX = ask(x_BCTYX.to(noise_BCTYX.dtype), s_BT)
            (x_BCTYX,) = scheduler.step(v_BCTYX, scheduler.timesteps[step], x_BCTYX, return_dict=False)
            on_step(step + 1, self.steps)
        return x_BCTYX.to(noise_BCTYX.dtype)

    def _guided(
        self, velocity: Velocity, text_BSE: Tensor, unconditional_BSE: Tensor | None
    ) -> Callable[[Tensor, Tensor], Tensor]:
        if self.guidance == 1:
            return lambda x_BCTYX, s_BT: velocity(x_BCTYX, s_BT, text_BSE).float()
        if unconditional_BSE is None:
            raise InputError(
                f"guidance {self.guidance:g} without unconditional text",
                allowed="guidance 1 needs none",
                remedy="give the empty prompt's tokens",
            )
        empty_BSE = unconditional_BSE.expand_as(text_BSE)
        return lambda x_BCTYX, s_BT: guided(
            velocity(x_BCTYX, s_BT, empty_BSE), velocity(x_BCTYX, s_BT, text_BSE), self.guidance
        )

    def _scheduler(self) -> Any:
        """Return diffusers' scheduler at its first step. It keeps state, so every clip gets its own."""
        require("diffusers")
        import diffusers

        kind, options = _SOLVERS[self.solver]
        shift_name = "flow_shift" if self.solver == "unipc" else "shift"
        scheduler = getattr(diffusers, kind)(**options, **{shift_name: self.shift})
        scheduler.set_timesteps(sigmas=np.array(few_step_schedule(self.steps, shift=1.0)))
        scheduler.set_begin_index(0)
        return scheduler


_SOLVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "unipc": ("UniPCMultistepScheduler", {"prediction_type": "flow_prediction", "use_flow_sigmas": True}),
    "euler": ("FlowMatchEulerDiscreteScheduler", {}),
}
