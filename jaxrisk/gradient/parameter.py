"""Named parameters of a system: where each one sits, and how a changed value is put back."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.gradient.law import gaussian_part
from jaxrisk.market.correlation import correlation_factor
from jaxrisk.market.history import Bootstrap, Replay
from jaxrisk.market.liquidity import Liquidity
from jaxrisk.market.paths import Gbm, GivenMoves, JumpDiffusion, Pegged
from jaxrisk.market.shock import ParametrisedShock
from jaxrisk.system.system import System
from jaxrisk.venue.deposit_pool import DepositPool
from jaxrisk.venue.margin_accounts import MarginAccounts


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One number of a system.

    Attributes:
        name: as it stands in tables, `kind` or `kind.venue`.
        value: where it is now; 1 for a common factor on several numbers.
        apply: returns the system with another value.
        smooth: no trigger depends on it, so differentiating the exact simulation is valid.
        law: only the probabilities of price moves depend on it, and these moves have a density.
        step: size of a bump, in the parameter's unit; `None` for a share of the value.
        lowest: smallest value that makes sense.
    """

    name: str
    value: float
    apply: Callable[[System, Float[Array, ""]], System]
    smooth: bool = False
    law: bool = False
    step: float | None = None
    lowest: float = 0.0


KINDS = (
    "liquidation_threshold",
    "liquidation_bonus",
    "volatility",
    "correlation",
    "depth",
    "insurance",
)


def parameters(system: System, kinds: Sequence[str] = KINDS) -> list[Parameter]:
    """Return the parameters of the given kinds that the system has.

    Thresholds, bonuses, volatilities, correlations and depths are common factors (value 1) on all
    numbers of their kind; the insurance of a venue is its capacity in the numeraire.

    Raises:
        ValueError: a kind is unknown.
    """
    unknown = [k for k in kinds if k not in KINDS]
    if unknown:
        raise ValueError(f"unknown parameter {unknown[0]!r}; known: {', '.join(KINDS)}")
    found: list[Parameter] = []
    for kind in kinds:
        if kind == "volatility" and _has_volatility(system.paths):
            diffuses = gaussian_part(system.paths) is not None
            found.append(Parameter(kind, 1.0, _with_volatility, law=diffuses))
        elif kind == "correlation" and gaussian_part(system.paths) is not None:
            found.append(Parameter(kind, 1.0, _with_correlation, law=True))
        elif kind == "depth":
            found.append(Parameter(kind, 1.0, _with_depth))
        elif kind in ("liquidation_threshold", "liquidation_bonus", "insurance"):
            # Pools of deposits and contracts have fees of their own: a bonus would be a meaningless
            # zero.
            found += [
                _of_venue(system, kind, i)
                for i, venue in enumerate(system.venues)
                if kind != "liquidation_bonus"
                or not isinstance(venue.execution, DepositPool | MarginAccounts)
            ]
    return found


def with_values(
    system: System, parameters: Sequence[Parameter], values: Float[Array, " parameter"]
) -> System:
    """Return the system with every parameter at its value."""
    for i, parameter in enumerate(parameters):
        system = parameter.apply(system, values[i])
    return system


def leaf_parameter(
    system: System,
    name: str,
    where: Callable[[Any], Any],
    index: tuple[int, ...] = (),
    *,
    smooth: bool = False,
    step: float | None = None,
) -> Parameter:
    """Return any single number of a system as a parameter.

    Args:
        system: with concrete numbers.
        name: as it shall stand in tables.
        where: from a system to one of its leaves, by attributes and positions alone, such as
            `lambda s: s.venues[0].accounts.debt`.
        index: of the number in the leaf.
        smooth: no trigger depends on it; False where in doubt.
        step: size of a bump; `None` for a share of the value.

    Raises:
        ValueError: that is no leaf, it holds no floating-point numbers, or the index is outside.
    """
    leaves, structure = jax.tree.flatten(system)
    found = where(structure.unflatten(range(len(leaves))))
    if not isinstance(found, int):
        raise ValueError(f"parameter {name!r}: expected one leaf of the system, got {found!r}")
    leaf = np.asarray(leaves[found])
    if not np.issubdtype(leaf.dtype, np.floating):
        raise ValueError(
            f"parameter {name!r}: a leaf of {leaf.dtype}; a derivative needs floating-point numbers"
        )
    if len(index) != leaf.ndim or any(
        not -size <= i < size for i, size in zip(index, leaf.shape, strict=True)
    ):
        raise ValueError(f"parameter {name!r}: index {index} into a leaf of shape {leaf.shape}")

    def apply(system: System, value: Float[Array, ""]) -> System:
        own = jax.tree.leaves(system)
        own[found] = jnp.asarray(own[found]).at[index].set(value)
        return structure.unflatten(own)

    value = float(leaf[index])
    if step is None and value == 0.0:
        raise ValueError(f"parameter {name!r} is 0: state the size of a bump, `step`")
    return Parameter(name, value, apply, smooth=smooth, step=step, lowest=-math.inf)


def _of_venue(system: System, kind: str, index: int) -> Parameter:
    venue = system.venues[index]
    name = f"{kind}.{venue.name}"

    def changed(system: System, **slots: Any) -> System:
        venues = list(system.venues)
        venues[index] = dataclasses.replace(venues[index], **slots)
        return dataclasses.replace(system, venues=tuple(venues))

    def threshold(system: System, factor: Float[Array, ""]) -> System:
        weights = system.venues[index].collateral
        scaled = weights.liquidation_threshold * factor
        return changed(
            system, collateral=dataclasses.replace(weights, liquidation_threshold=scaled)
        )

    def bonus(system: System, factor: Float[Array, ""]) -> System:
        return changed(system, incentive=system.venues[index].incentive.scaled(factor))

    def insurance(system: System, capacity: Float[Array, ""]) -> System:
        return changed(system, funds=system.venues[index].funds.at[-1].set(capacity))

    if kind == "liquidation_threshold":
        return Parameter(name, 1.0, threshold)
    if kind == "liquidation_bonus":
        return Parameter(name, 1.0, bonus)
    capacity = float(np.asarray(venue.funds)[-1])
    # A bump of an empty fund needs a size of its own: a thousandth of what the accounts owe.
    price = np.asarray(system.market.mid, np.float64)[list(venue.accounts.debt_assets)]
    debt = float(price @ np.asarray(venue.accounts.debt, np.float64).sum(axis=1))
    step = None if capacity > 0 else max(1e-3 * debt, 1.0)
    return Parameter(name, capacity, insurance, smooth=True, step=step)


def _with_depth(system: System, factor: Float[Array, ""]) -> System:
    liquidity: Liquidity = system.liquidity
    depth = dataclasses.replace(liquidity.depth, depth=liquidity.depth.depth * factor)
    return dataclasses.replace(system, liquidity=dataclasses.replace(liquidity, depth=depth))


def _with_volatility(system: System, factor: Float[Array, ""]) -> System:
    return dataclasses.replace(system, paths=_scaled_volatility(system.paths, factor))


def _scaled_volatility(paths: Any, factor: Float[Array, ""]) -> Any:
    """Return the model with its continuous moves scaled; jumps and pegs keep theirs."""
    if isinstance(paths, Gbm):
        return dataclasses.replace(paths, volatility=paths.volatility * factor)
    if isinstance(paths, (JumpDiffusion, ParametrisedShock)):
        return dataclasses.replace(paths, diffusion=_scaled_volatility(paths.diffusion, factor))
    if isinstance(paths, Pegged):
        return dataclasses.replace(paths, base=_scaled_volatility(paths.base, factor))
    return dataclasses.replace(paths, log_return=paths.log_return * factor)


def _has_volatility(paths: Any) -> bool:
    if isinstance(paths, Pegged):
        return _has_volatility(paths.base)
    return isinstance(paths, (Gbm, JumpDiffusion, ParametrisedShock, Bootstrap, Replay, GivenMoves))


def _with_correlation(system: System, factor: Float[Array, ""]) -> System:
    return dataclasses.replace(system, paths=_scaled_correlation(system.paths, factor))


def _scaled_correlation(paths: Any, factor: Float[Array, ""]) -> Any:
    """Return the model with every off-diagonal correlation scaled."""
    if isinstance(paths, Gbm):
        matrix = jnp.matmul(paths.factor, paths.factor.T, precision="highest")
        identity = jnp.eye(matrix.shape[0], dtype=matrix.dtype)
        scaled = matrix * (identity + factor * (1.0 - identity))
        return dataclasses.replace(paths, factor=correlation_factor(scaled))
    if isinstance(paths, Pegged):
        return dataclasses.replace(paths, base=_scaled_correlation(paths.base, factor))
    return dataclasses.replace(paths, diffusion=_scaled_correlation(paths.diffusion, factor))
