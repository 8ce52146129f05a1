"""Named stresses: a path given by a few numbers, with diffusion on top."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxrisk.market.paths import Gbm, Move
from jaxrisk.numerics.pytree import pytree


@pytree
class ParametrisedShock:
    """A fall, a partial recovery, and noise around both.

    With s(t) = (1 − gap) min(t / fall_years, 1) + gap [t ≥ gap_years]
    − recovery min(max(t − fall_years, 0) / recovery_years, 1) the log price of asset a follows
    −(fall_a + basis_fall_a) s(t), its reference price −fall_a s(t), both plus the moves of the
    diffusion at its volatility times the multiplier.

    Attributes:
        diffusion: noise around the path.
        volatility_multiplier: of the diffusion; 0 leaves the bare path.
        fall: log fall at the bottom, −log(1 − fraction lost); ≥ 0 for a loss.
        basis_fall: further log fall of the market price below the reference price.
        fall_years: time from start to bottom, positive.
        recovery: share of both log falls that comes back.
        recovery_years: time from bottom to recovery, positive.
        gap: share of both log falls that comes at once, in [0, 1].
        gap_years: time from the start to that moment, positive.
    """

    diffusion: Gbm
    volatility_multiplier: Float[Array, ""]
    fall: Float[Array, " asset"]
    basis_fall: Float[Array, " asset"]
    fall_years: Float[Array, ""]
    recovery: Float[Array, ""]
    recovery_years: Float[Array, ""]
    gap: Float[Array, ""]
    gap_years: Float[Array, ""]

    def init(self) -> tuple[()]:
        """Return no state: the step index gives the time."""
        return ()

    def noise(
        self, key: Key[Array, ""], scenario: Int[Array, ""], step: Int[Array, ""]
    ) -> tuple[Float[Array, " asset"], Float[Array, ""]]:
        """Return the diffusion's draws and the number of steps behind."""
        behind = jnp.asarray(step).astype(self.fall.dtype)
        return self.diffusion.noise(key, scenario, step), behind

    def advance(
        self,
        state: tuple[()],
        noise: tuple[Float[Array, " asset"], Float[Array, ""]],
        step_years: float | Array,
    ) -> tuple[tuple[()], Move]:
        """Return the move of path and noise; all steps must be equally long."""
        normal, behind = noise
        years = jnp.asarray(step_years, self.fall.dtype)
        volatility = self.diffusion.volatility * self.volatility_multiplier
        diffusion = dataclasses.replace(self.diffusion, volatility=volatility)
        state, around = diffusion.advance(state, normal, years)
        reference = around.log_return - self._fallen(self.fall, behind, years)
        basis = self._fallen(self.basis_fall, behind, years)
        return state, Move(log_return=reference - basis, log_reference_return=reference)

    def _fallen(
        self, fall: Float[Array, " asset"], behind: Float[Array, ""], years: Float[Array, ""]
    ) -> Float[Array, " asset"]:
        """Return how much of a log fall, less its recovery, the next step adds."""
        down, up = self.fall_years / years, self.recovery_years / years
        back, steady = self.recovery * fall, (1 - self.gap) * fall
        fallen = _ramp(behind + 1, down, steady) - _ramp(behind, down, steady)
        # The step that reaches the moment holds the gap, whatever rounding does to their ratio.
        moment = jnp.ceil(self.gap_years / years - 1e-6)
        fallen = fallen + jnp.where(behind + 1 == moment, self.gap * fall, 0)
        return fallen - (_ramp(behind + 1 - down, up, back) - _ramp(behind - down, up, back))


def _ramp(
    steps: Float[Array, ""], duration: Float[Array, ""], height: Float[Array, " asset"]
) -> Float[Array, " asset"]:
    """Return the height a linear ramp has reached after a time, both times in steps.

    Selected, not clipped and scaled: the compiler fuses a product into a later sum for some batch
    sizes and not for others, and not through a selection.
    """
    rising = jnp.where(steps > 0, steps * (height / duration), 0)
    return jnp.where(steps < duration, rising, height)
