"""Fit who bids to recorded auctions: `python docs/examples/calibrate_keepers.py FILE`.

FILE is the record of the auctions around 12 and 13 March 2020 (CSV or Parquet; columns in
`jaxrisk/run/auction_history.py`). The law of participation starts knowing nothing, is fitted to the
auctions whose id is no multiple of five, and is then asked about the others: how much ETH went for
nothing? The same fit with slopes by finite differences, and by SciPy (the extra `bench`), stand
beside it.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import jaxrisk as jr
from jaxrisk.gradient.calibrate import Fit
from jaxrisk.gradient.fit_space import fit_space
from jaxrisk.run.auction_history import (
    AuctionHistory,
    auction_totals,
    read_auctions,
    recorded_sale,
)
from jaxrisk.venue.bid_sale import expected_sale
from jaxrisk.venue.participation import KeeperParticipation, log_likelihood
from jaxrisk.venue.presets.maker_flip import BIDDING_SECONDS, LIQUIDATION_RATIO, PENALTY

BOUNDS = {"keenness": (0.0, None)}
TOLERANCE = 1e-4
BUMP = 1e-5
Loss = Callable[[KeeperParticipation], jax.Array]


def ignorant() -> KeeperParticipation:
    """Return the law by which one competitor comes to each auction and offers whatever."""
    zero, one = jnp.asarray(0.0), jnp.asarray(1.0)
    return KeeperParticipation(
        base=zero, gas=zero, backlog=zero, price=zero, experience=zero, size=zero,
        keenness=one, fading=zero,
    )  # fmt: skip


def surprise(history: AuctionHistory, where: np.ndarray) -> Loss:
    """Return the negative log-likelihood of the auctions in `where`, weighted by their lots.

    The weights add up to the number of equal lots that would tell as much, so that standard errors
    are neither those of a share nor those of every small lot counted whole.
    """
    lot = np.where(where, np.asarray(history.lots.lot), 0.0)
    weight = jnp.asarray(lot * lot.sum() / (lot**2).sum())
    unbid, share = jnp.asarray(history.unbid), jnp.asarray(history.share)
    return lambda law: (
        -log_likelihood(law, history.conditions, unbid=unbid, share=share, weight=weight)
    )


def by_bumps(loss: Loss) -> Loss:
    """Return the same loss, whose slopes are central differences: two losses a parameter."""
    plain = jax.custom_vjp(loss)

    def forward(law: KeeperParticipation) -> tuple:
        at, unravel = ravel_pytree(law)
        bump = BUMP * jnp.eye(at.size)
        slope = jax.lax.map(
            lambda step: (loss(unravel(at + step)) - loss(unravel(at - step))) / (2 * BUMP), bump
        )
        return loss(law), unravel(slope)

    plain.defvjp(forward, lambda slope, weight: (jax.tree.map(lambda s: weight * s, slope),))
    return plain


def fitted(loss: Loss, *, standard_errors: bool) -> Fit:
    """Return the law for which a loss is least."""
    return jr.calibrate(
        loss, ignorant(), bounds=BOUNDS, steps=5_000, learning_rate=0.1, tolerance=TOLERANCE,
        standard_errors=standard_errors,
    )  # fmt: skip


def by_scipy(loss: Loss) -> str:
    """Return how SciPy fares with the loss alone, in the same unbounded numbers."""
    try:
        from scipy.optimize import minimize
    except ImportError:
        return "SciPy                   is not installed"
    begun, space = time.perf_counter(), fit_space(ignorant(), BOUNDS)
    value = jax.jit(lambda raw: loss(space.tree(raw)))
    found = minimize(
        lambda raw: float(value(jnp.asarray(raw))), np.asarray(space.start), method="L-BFGS-B",
        options={"maxfun": 100_000, "maxiter": 5_000, "ftol": 1e-14, "gtol": TOLERANCE},
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    return f"{'SciPy':<24}{found.fun:>12.4f}{found.nit:>12,}{seconds:>10.2f}"


def fit_line(name: str, fit: Fit) -> str:
    """Return where a fit ended, after how many steps and seconds."""
    return f"{name:<24}{fit.losses[-1]:>12.4f}{len(fit.losses) - 1:>12,}{fit.seconds:>10.2f}"


def unbid_line(
    name: str, law: KeeperParticipation, history: AuctionHistory, where: np.ndarray
) -> str:
    """Return the ETH that went for nothing, expected and recorded, and how far they are apart."""
    sale = expected_sale(law, history.conditions, history.lots)
    told = auction_totals(history, sale, where).unbid_lot
    real = auction_totals(history, recorded_sale(history), where).unbid_lot
    return f"{name:<24}{told:>12,.0f}{real:>12,.0f}{told / real - 1.0:>10.1%}"


def main(path: Path) -> None:
    """Print the fit, its loss curve, what it says of both parts, and the other two fits."""
    jax.config.update("jax_enable_x64", True)
    history = read_auctions(
        path,
        liquidation_ratio=LIQUIDATION_RATIO,
        penalty=PENALTY,
        bidding_seconds=BIDDING_SECONDS,
    )
    event = history.between(datetime(2020, 3, 12, tzinfo=UTC), datetime(2020, 3, 14, tzinfo=UTC))
    kept = history.auction_id % 5 == 0
    loss = surprise(history, ~kept)
    fit = fitted(loss, standard_errors=True)
    print(fit)
    last = len(fit.losses) - 1
    for step in sorted({0, last, *(n for n in (10, 20, 50, 100, 200, 500, 1_000) if n < last)}):
        print(f"step {step:>5}: loss {fit.losses[step]:.4f}")
    print(f"{'ETH without a bid':<24}{'expected':>12}{'recorded':>12}")
    print(unbid_line("fitted auctions", fit.values, history, event & ~kept))
    print(unbid_line("every fifth, kept back", fit.values, history, event & kept))
    print(f"{'the fit alone':<24}{'loss':>12}{'steps':>12}{'seconds':>10}")
    print(fit_line("gradients", fitted(loss, standard_errors=False)))
    print(fit_line("finite differences", fitted(by_bumps(loss), standard_errors=False)))
    print(by_scipy(loss))


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).exists():
        sys.exit("usage: python docs/examples/calibrate_keepers.py FILE, named at the top")
    main(Path(sys.argv[1]))
