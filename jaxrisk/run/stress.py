"""A configuration's book under named stresses: who falls how far by which rule, and what it does.

An asset that a stress names, by its own name or its family's, moves as stated. A dollar (a free
asset with a volatility below a tenth, or none and a price of about 1) that is not named stands. Any
other free asset falls by the figure for others. A pegged asset follows its underlying, at the
discount stated for it or for others; a claim is worth what the engine finds behind it. Depth is
scaled likewise. Everything else of the configuration stays, and where the volatility multiplier is
0 nothing is random.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxrisk.run import formatting as fmt
from jaxrisk.run import printing
from jaxrisk.run.build import Built, build
from jaxrisk.run.build_market import read_history, volatilities
from jaxrisk.run.config import Config
from jaxrisk.run.market_config import AssetSection, ShockSection
from jaxrisk.run.oracle_config import PrintSection
from jaxrisk.run.stress_config import StressSection, chosen_stresses, family_of
from jaxrisk.run.stress_text import MEASURES
from jaxrisk.run.summary import scenario_table
from jaxrisk.system.simulate import Outcome

BY_VENUE = ("bad_debt", "liquidated")
NOISY_SCENARIOS = 256
"""Scenarios of a stress with noise around its path; a bare path is played once."""
_CALM_VOLATILITY = 0.10

Player = Callable[[Config, Built, int], Callable[[np.ndarray], Outcome]]
"""From a configuration, its system and a number of scenarios to the simulation of their ids."""


class AssetMove(NamedTuple):
    """What a stress does to one asset.

    Attributes:
        asset: name.
        fall: of its price at the trough against its underlying, or of itself where free; fraction.
        rule: why: what names it, or which rule it follows.
    """

    asset: str
    fall: float
    rule: str


def stress_rows(config: Config, *, player: Player, quiet: bool) -> list[dict[str, Any]]:
    """Return what each stress of `run.stresses` does to the book, in their order.

    All are played for as many steps as the longest takes.

    Raises:
        ConfigError: a name is unknown.
    """
    chosen = chosen_stresses(config.run.stresses, config.stresses)
    if not chosen:
        return []
    hours = max(stress.length_hours for stress in chosen.values())
    steps = math.ceil(hours / config.run.step_hours - 1e-9)
    volatility = dict(
        zip(config.assets, volatilities(config, read_history(config, [])), strict=True)
    )
    rows = []
    for name, stress in chosen.items():
        printing.print_notice(f"stress {name} ...", quiet=quiet)
        noisy = stress.volatility_multiplier > 0
        count = min(config.run.scenarios, NOISY_SCENARIOS) if noisy else 1
        under = stressed(config, stress, steps=steps, volatility=volatility)
        built = build(under)
        outcome = player(under, built, count)(np.arange(count))
        table = scenario_table(built.system, outcome, 0)
        rows.append(stress_row(name, stress, config, table, steps, volatility))
    return rows


def asset_moves(
    config: Config, stress: StressSection, volatility: Mapping[str, float]
) -> list[AssetMove]:
    """Return what a stress does to each asset of a configuration, and by which rule."""
    moves = []
    for asset, section in config.assets.items():
        if section.peg is None:
            moves.append(_free_move(asset, section, stress, volatility[asset]))
            continue
        if asset in config.claims:
            moves.append(AssetMove(asset, 0.0, "a claim, worth what is behind it"))
            continue
        known = _named(asset, stress.basis)
        discount = stress.basis_others if known is None else stress.basis[known]
        rule = f"follows {section.peg}"
        if discount:
            rule += f", discount as {'stated' if known else 'others'}"
        moves.append(AssetMove(asset, discount, rule))
    return moves


def _free_move(
    asset: str, section: AssetSection, stress: StressSection, volatility: float
) -> AssetMove:
    if (known := _named(asset, stress.falls)) is not None:
        return AssetMove(asset, stress.falls[known], "as stated")
    around_one = section.price is not None and 0.9 <= section.price <= 1.1
    if volatility < _CALM_VOLATILITY and (volatility > 0 or around_one):
        return AssetMove(asset, 0.0, "a dollar, which stands")
    return AssetMove(asset, stress.others, "as others")


def _named(asset: str, table: Mapping[str, Any]) -> str | None:
    """Return the key of a table that means this asset: its own name, or its family's."""
    return next((name for name in (asset, family_of(asset)) if name in table), None)


def stressed(
    config: Config, stress: StressSection, *, steps: int, volatility: Mapping[str, float]
) -> Config:
    """Return the configuration with the market of a stress.

    Args:
        config: the configuration.
        stress: what happens.
        steps: of the run, long enough for the path.
        volatility: per year, of each asset under the configuration's own model.
    """
    moves = {move.asset: move.fall for move in asset_moves(config, stress, volatility)}
    noise = stress.volatility_multiplier
    assets = {}
    for asset, section in config.assets.items():
        known = _named(asset, stress.depth)
        left = stress.depth_others if known is None else stress.depth[known]
        change: dict[str, Any] = {"depth_usd": section.depth_usd * left}
        change["basis_volatility"] = section.basis_volatility * noise
        if section.peg is None:
            change["volatility"] = float(volatility[asset])
        assets[asset] = section.model_copy(update=change)
    shock = ShockSection(
        name=stress.title or "stress",
        falls={a: fall for a, fall in moves.items() if config.assets[a].peg is None},
        basis={a: fall for a, fall in moves.items() if config.assets[a].peg is not None},
        hours=stress.hours,
        gap=stress.gap,
        gap_hours=stress.gap_hours,
        recovery=stress.recovery,
        recovery_hours=stress.recovery_hours,
        volatility_multiplier=noise,
    )
    prints = _prints(config, stress)
    venues = {
        name: section.model_copy(update={"oracle_prints": section.oracle_prints | prints})
        for name, section in config.venues.items()
    }
    run = config.run.model_copy(update={"steps": steps, "stresses": ()})
    market = config.market.model_copy(update={"model": "shock", "shock": shock})
    return config.model_copy(
        update={"assets": assets, "venues": venues, "run": run, "market": market}
    )


def _prints(config: Config, stress: StressSection) -> dict[str, PrintSection]:
    """Return the false prices of a stress by asset of the configuration."""
    named = {asset: _named(asset, stress.prints) for asset in config.assets}
    return {asset: stress.prints[known] for asset, known in named.items() if known is not None}


def stress_row(
    name: str,
    stress: StressSection,
    config: Config,
    table: Mapping[str, np.ndarray],
    steps: int,
    volatility: Mapping[str, float],
) -> dict[str, Any]:
    """Return one stress's line of the summary: means over its scenarios, and the worst bad debt."""
    mean = lambda column: float(np.mean(table[column]))
    moves = asset_moves(config, stress, volatility)
    shown = [
        f"{move.asset} {fmt.percent(-move.fall)} ({move.rule})"
        if move.fall
        else f"{move.asset} ({move.rule})"
        for move in moves
    ]
    false_prices = [
        f"every venue sees {asset} at {fmt.percent(1.0 + own.change)} of its price for "
        f"{own.hours:g} h from hour {own.hour:g}"
        for asset, own in _prints(config, stress).items()
    ]
    shown += false_prices
    if not false_prices and not any(move.fall for move in moves):
        shown = ["moves nothing of this configuration", *shown]
    return {
        "stress": name,
        "title": stress.title,
        "hours": stress.hours,
        "played_hours": steps * config.run.step_hours,
        "scenarios": len(table["scenario"]),
        **{measure: mean(measure) for measure in MEASURES},
        "worst_bad_debt_usd": float(np.max(table["bad_debt_usd"])),
        "venues": {
            venue: {f"{what}_usd": mean(f"{what}_{venue}_usd") for what in BY_VENUE}
            for venue in config.venues
        },
        "moves": shown,
    }


def stress_table(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return the rows as columns, one a venue for what is told by venue."""
    plain = [key for key in rows[0] if key not in ("venues", "moves")]
    table = {key: np.array([row[key] for row in rows]) for key in plain}
    for venue in rows[0]["venues"]:
        for what in BY_VENUE:
            values = [row["venues"][venue][f"{what}_usd"] for row in rows]
            table[f"{what}_{venue}_usd"] = np.array(values)
    table["moves"] = np.array(["; ".join(row["moves"]) for row in rows])
    return table
