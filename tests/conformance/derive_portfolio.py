"""Derive v2: both versions of the portfolio margin, as recorded."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.market.chain import OptionChain
from jaxrisk.venue.contingency import ConfidenceCharge, PegCharge
from jaxrisk.venue.portfolio_margin import (
    BasisCharge,
    PortfolioHoldings,
    PortfolioMarket,
    PortfolioTerms,
    TimeDiscount,
    portfolio_margin,
    scenario_gains,
)
from jaxrisk.venue.requirement import MarginState
from jaxrisk.venue.scenario_grid import ScenarioGrid, Scenarios, SmileShock, VolatilityShock
from tests.conformance.comparison import Replay
from tests.conformance.derive_margin import ROUNDING, SECONDS_PER_YEAR, WAD, Chains, natural

DIRECTIONS = {"Up": 1.0, "None": 0.0, "Down": -1.0, "Linear": 0.0, "Abs": 0.0}


def _scenarios(header: dict) -> Scenarios:
    rows = header["scenarios"]
    kind = [r["volShock"] for r in rows]
    return Scenarios(
        move=jnp.asarray([(int(r["spotShock"]) - 10**18) / 10**18 for r in rows]),
        volatility=jnp.asarray([DIRECTIONS[k] for k in kind]),
        tilt=jnp.asarray([float(k == "Linear") for k in kind]),
        wings=jnp.asarray([float(k == "Abs") for k in kind]),
        weight=jnp.asarray([natural(r.get("dampening", 10**18)) for r in rows]),
    )


def _portfolio_terms(header: dict, cases: list[dict], *, second: bool) -> PortfolioTerms:
    """Return the terms of every case; the first version is the second with fewer parameters."""
    column = lambda table, name: jnp.asarray([natural(c["params"][table][name]) for c in cases])
    zero, one = jnp.zeros(len(cases)), jnp.ones(len(cases))
    rows = lambda initial, maintenance: jnp.stack([initial, maintenance], axis=1)
    vol = lambda name: column("vol", name)
    years = lambda seconds: jnp.asarray(seconds) / SECONDS_PER_YEAR
    shock = VolatilityShock(
        up=vol("volRangeUp"),
        down=vol("volRangeDown"),
        short_power=vol("shortTermPower"),
        long_power=vol("longTermPower"),
        pivot=years(30.0 * 86_400.0) * one,
        floor=years([float(c["params"]["vol"]["dteFloor"]) for c in cases]),
        minimum=vol("minVolUpShock") if second else zero,
    )
    skew = lambda name: column("skew", name)
    smile = None
    if second:
        smile = SmileShock(
            tilt=skew("linearBaseCap"),
            tilt_slope=skew("linearCBase"),
            wings=skew("absBaseCap"),
            wings_slope=skew("absCBase"),
            nearest=skew("minKStar"),
            width=skew("widthScale"),
            level=skew("volParamStatic"),
            level_slope=skew("volParamScale"),
        )
    scenarios = jax.tree.map(lambda x: jnp.tile(x, (len(cases), 1)), _scenarios(header))
    other = lambda name: column("other", name)
    if second:
        charges = {
            "perpetual": rows(
                other("MMPerpPercent") + other("IMPerpPercent"), other("MMPerpPercent")
            ),
            "naked": rows(
                other("MMOptionPercent") + other("IMOptionPercent"), other("MMOptionPercent")
            ),
            "loss_factor": rows(column("margin", "imFactor"), column("margin", "mmFactor")),
        }
    else:
        charges = {
            "perpetual": rows(other("perpPercent"), other("perpPercent")),
            "naked": rows(other("optionPercent"), other("optionPercent")),
            "loss_factor": rows(column("margin", "imFactor"), one),
        }
    return PortfolioTerms(
        grid=ScenarioGrid(scenarios=scenarios, volatility=shock, smile=smile),
        basis=BasisCharge(
            up=column("basis", "scenarioSpotUp") - 1.0,
            down=column("basis", "scenarioSpotDown") - 1.0,
            flat=column("basis", "basisContAddFactor"),
            per_year=column("basis", "basisContMultFactor"),
        ),
        discount=_time_discount(column, zero, one, second=second),
        peg=PegCharge(threshold=other("pegLossThreshold"), factor=other("pegLossFactor")),
        confidence=ConfidenceCharge(threshold=other("confThreshold"), factor=other("confMargin")),
        multiplied=jnp.full(len(cases), not second),
        **charges,
    )


def _time_discount(
    column: Callable[[str, str], jax.Array], zero: jax.Array, one: jax.Array, *, second: bool
) -> TimeDiscount:
    margin = lambda name: column("margin", name)
    if second:
        return TimeDiscount(
            long=margin("longBaseStaticDiscount"),
            long_rate=margin("longRateMultScale"),
            long_spread=margin("longRateAddScale"),
            short=margin("shortBaseStaticDiscount"),
            short_rate=margin("shortRateMultScale"),
            short_spread=margin("shortRateAddScale"),
        )
    return TimeDiscount(
        long=margin("baseStaticDiscount"),
        long_rate=margin("rateMultScale"),
        long_spread=margin("rateAddScale"),
        short=one,
        short_rate=zero,
        short_spread=zero,
    )


def _collaterals(cases: list[dict], *, second: bool) -> dict[str, np.ndarray]:
    """Return collateral by case; the first version holds the underlying alone."""
    if not second:
        position = np.array([[natural(c["basePosition"])] for c in cases])
        spot = np.array([[natural(c["spotPrice"])] for c in cases])
        haircut = np.array([[natural(c["params"]["other"]["basePercent"])] for c in cases])
        return {
            "value": position * spot / np.array([[natural(c["stablePrice"])] for c in cases]),
            # Charges are on the value of the underlying, not on what it is worth in the currency.
            "charged": position * spot,
            "haircut": np.stack([haircut, haircut], axis=1),
            "cancels": np.ones((len(cases), 1), bool),
            "confidence": np.array([[natural(c["minConfidence"])] for c in cases]),
        }
    most = max(1, *(len(c["collaterals"]) for c in cases))
    value, sure = np.zeros((len(cases), most)), np.ones((len(cases), most))
    haircut, cancels = np.zeros((len(cases), 2, most)), np.zeros((len(cases), most), bool)
    for i, c in enumerate(cases):
        for k, held in enumerate(c["collaterals"]):
            maintenance = natural(held["MMHaircut"])
            haircut[i, :, k] = maintenance + natural(held["IMHaircut"]), maintenance
            value[i, k], sure[i, k] = natural(held["value"]), natural(held["minConfidence"])
            cancels[i, k] = held["riskCancelling"]
    return {
        "value": value,
        "charged": value,
        "haircut": haircut,
        "cancels": cancels,
        "confidence": sure,
    }


def _portfolio(header: dict, cases: list[dict], *, second: bool) -> Replay:
    replay = Replay(len(cases))
    chains = Chains([c["expiries"] for c in cases])
    column = lambda name: jnp.asarray([natural(c[name]) for c in cases])
    chain = chains.chain(
        "forwardVariablePortion", "forwardFixedPortion", "discount" if second else None
    )
    backing = _collaterals(cases, second=second)
    market = PortfolioMarket(
        spot=column("spotPrice"),
        perpetual=column("perpPrice"),
        currency=column("stablePrice"),
        chain=chain,
        rate=chains.expiry("rate"),
        confidence=column("minConfidence"),
        expiry_confidence=chains.expiry("minConfidence", default=1.0),
        collateral_confidence=jnp.asarray(backing["confidence"]),
    )
    held = PortfolioHoldings(
        cash=column("cash")[:, None],
        perpetual=column("perpPosition")[:, None],
        earned=column("perpValue")[:, None],
        options=chains.option("amount")[..., None],
        collateral=jnp.asarray(backing["value"])[..., None],
        charged=jnp.asarray(backing["charged"])[..., None],
        haircut=jnp.asarray(backing["haircut"]),
        cancels=jnp.asarray(backing["cancels"]),
    )
    terms = _portfolio_terms(header, cases, second=second)
    state = jax.jit(jax.vmap(portfolio_margin))(terms, market, held)
    shown = jax.jit(jax.vmap(scenario_gains))(terms, market, held)
    gross = chains.notional() + np.abs(np.asarray(column("cash"))) + backing["value"].sum(1)
    gross += np.abs(np.asarray(column("perpPosition") * column("spotPrice")))
    # Scenarios move the spot up to sixfold.
    _compare_portfolio(replay, cases, state, shown, 2.0 + 6.0 * ROUNDING * gross * WAD)
    _compare_expiries(replay, cases, terms, chain, chains.expiry("rate"), second=second)
    return replay


def _compare_portfolio(
    replay: Replay, cases: list[dict], state: MarginState, shown: tuple, slack: np.ndarray
) -> None:
    every = np.arange(len(cases))
    gains, basis, _ = (np.asarray(x) for x in shown)
    recorded = lambda name: [float(int(c["out"][name])) for c in cases]
    for what, actual in (
        ("initialMargin", state.surplus[:, 0, 0]),
        ("maintenanceMargin", state.surplus[:, 1, 0]),
        ("markToMarket", state.value[:, 0]),
        ("basisContingency", basis[:, 0]),
    ):
        actual = np.asarray(actual) * WAD
        replay.compare(what, every, actual, recorded(what), raw_units=slack)
    for n in range(gains.shape[1]):
        expected = [float(int(c["out"]["scenarioPnL"][n])) for c in cases]
        replay.compare(f"scenarioPnL[{n}]", every, gains[:, n, 0] * WAD, expected, raw_units=slack)
    worst = np.array([c["out"]["worstScenario"] for c in cases])
    binding = np.asarray(state.binding)[:, 0, 0]
    # Where two scenarios are equal to rounding, either is the worst.
    outcomes = np.concatenate([gains[:, :, 0], basis], axis=1)
    apart = outcomes[every, worst] - outcomes[every, binding]
    shown_worst = np.where(apart * WAD <= slack, worst, binding)
    replay.compare_labels("worstScenario", every, shown_worst.tolist(), worst.tolist())


def _compare_expiries(
    replay: Replay, cases: list[dict], terms: PortfolioTerms, chain: OptionChain,
    rate: jax.Array, *, second: bool,
) -> None:  # fmt: skip
    """Compare the sizes of shocks and discounts of every expiry."""
    factors = jax.vmap(VolatilityShock.factors)(terms.grid.volatility, chain.years)
    discounts = jax.vmap(TimeDiscount.factors)(terms.discount, chain, rate)
    names = ("staticDiscountPos", "staticDiscountNeg") if second else ("staticDiscount",)
    rows = [(i, k, e["out"]) for i, c in enumerate(cases) for k, e in enumerate(c["expiries"])]
    if not rows:
        return
    where, at = np.array([r[0] for r in rows]), tuple(np.array([r[:2] for r in rows]).T)
    shown = {"volShockUp": factors[:, 0], "volShockDown": factors[:, 1]}
    shown |= {name: discounts[:, n] for n, name in enumerate(names)}
    for what, actual in shown.items():
        expected = [float(int(out[what])) for *_, out in rows]
        replay.compare(what, where, np.asarray(actual)[at] * WAD, expected, raw_units=1e3)


def portfolio_v1(header: dict, cases: list[dict]) -> Replay:
    """Replay the Portfolio Margin Risk Manager: gains in 23 scenarios, basis, margins."""
    return _portfolio(header, cases, second=False)


def portfolio_v2(header: dict, cases: list[dict]) -> Replay:
    """Replay its second version: 33 scenarios with damped tails and moves of the smile."""
    return _portfolio(header, cases, second=True)


ADAPTERS = {"derive_pmrm_v1": portfolio_v1, "derive_pmrm_v2": portfolio_v2}
