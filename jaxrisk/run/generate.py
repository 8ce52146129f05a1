"""Synthetic books: accounts drawn from stated marginals, for examples and benchmarks."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from jaxrisk.errors import ConfigError
from jaxrisk.run.book_config import LoopSection, SyntheticSection
from jaxrisk.run.hints import expected_one_of
from jaxrisk.run.tables import SYNTHETIC, PositionTable

# A Dirichlet draw gives every asset some dust; holdings below this share are dropped.
_SMALLEST_SHARE = 0.05


def generate_positions(
    spec: SyntheticSection,
    *,
    prices: Mapping[str, float],
    thresholds: Mapping[str, float],
    category_thresholds: Mapping[str, float] | None = None,
) -> PositionTable:
    """Return a book drawn from the marginals of `spec`; equal inputs give equal books.

    Debt is lognormal. Health minus 1 is lognormal, so every account starts solvent. The mixes of
    collateral and of debt are Dirichlet around the stated shares, small holdings dropped. The
    collateral then follows from health: `sum(share * threshold) * collateral = health * debt`.
    Loops hold one pair under the threshold of their e-mode category.

    Args:
        spec: the marginals.
        prices: USD by asset.
        thresholds: liquidation threshold by asset, outside e-mode.
        category_thresholds: liquidation threshold by e-mode category.

    Raises:
        ConfigError: a collateral has no threshold above 0, or the category of the loops is
            unknown.
    """
    loops = spec.emode if spec.emode_share > 0 else None
    _check_thresholds(spec, loops, thresholds, category_thresholds or {})
    pair = {loops.collateral: 1.0, loops.debt: 1.0} if loops else {}
    assets = tuple({**spec.collateral, **spec.debt, **pair})
    rng = np.random.default_rng(spec.seed)
    count = spec.accounts
    loop = rng.random(count) < spec.emode_share
    debt_usd = spec.median_debt_usd * np.exp(spec.size_sigma * rng.standard_normal(count))
    deviation = rng.standard_normal(count)
    health = _health(spec, deviation)
    collateral_mix = _mix(rng, spec.collateral, assets, spec)
    debt_mix = _mix(rng, spec.debt, assets, spec)
    threshold = collateral_mix @ np.array([thresholds.get(asset, 0.0) for asset in assets])
    category = np.full(count, "")
    if loops and category_thresholds:
        one_hot = np.eye(len(assets))
        debt_usd = np.where(loop, debt_usd * loops.size_multiple, debt_usd)
        health = np.where(loop, _health(loops, deviation), health)
        threshold = np.where(loop, category_thresholds[loops.category], threshold)
        collateral_mix[loop] = one_hot[assets.index(loops.collateral)]
        debt_mix[loop] = one_hot[assets.index(loops.debt)]
        category = np.where(loop, loops.category, "")
    collateral_usd = health * debt_usd / threshold
    price = np.array([prices[asset] for asset in assets])
    width = len(str(count))
    return PositionTable.from_holdings(
        account_id=np.array([f"a{number:0{width}d}" for number in range(1, count + 1)]),
        venue=spec.venue,
        assets=assets,
        collateral=collateral_mix * collateral_usd[:, None] / price,
        debt=debt_mix * debt_usd[:, None] / price,
        category=category,
        source=f"{SYNTHETIC} generated from stated marginals, seed {spec.seed}",
        synthetic=True,
    )


def _check_thresholds(
    spec: SyntheticSection,
    loops: LoopSection | None,
    thresholds: Mapping[str, float],
    category_thresholds: Mapping[str, float],
) -> None:
    problems = [
        f"book.synthetic.collateral.{asset}: {spec.venue} gives it no liquidation threshold above 0"
        for asset in spec.collateral
        if not thresholds.get(asset, 0.0) > 0
    ]
    if loops and not category_thresholds.get(loops.category, 0.0) > 0:
        hint = expected_one_of(loops.category, category_thresholds)
        problems.append(f'book.synthetic.emode.category = "{loops.category}": {hint}')
    if problems:
        raise ConfigError(problems)


def _health(
    spec: SyntheticSection | LoopSection, deviation: Float[np.ndarray, " account"]
) -> Float[np.ndarray, " account"]:
    return 1.0 + (spec.median_health - 1.0) * np.exp(spec.health_sigma * deviation)


def _mix(
    rng: np.random.Generator,
    weights: Mapping[str, float],
    assets: Sequence[str],
    spec: SyntheticSection,
) -> Float[np.ndarray, "account asset"]:
    """Return shares by value that sum to 1 in each row and average near the weights."""
    weight = np.array(list(weights.values()))
    drawn = rng.dirichlet(spec.mix_concentration * weight / weight.sum(), size=spec.accounts)
    # The largest share is at least one part in n, so that some share always stays.
    drawn[drawn < min(_SMALLEST_SHARE, 1.0 / len(weight))] = 0.0
    mix = np.zeros((spec.accounts, len(assets)))
    mix[:, [assets.index(asset) for asset in weights]] = drawn / drawn.sum(axis=1, keepdims=True)
    return mix
