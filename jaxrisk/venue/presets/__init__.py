"""Venues of the real world, each a composition of rule slots."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxrisk.venue.presets import aave_v3 as _aave_v3
from jaxrisk.venue.presets import morpho_blue as _morpho_blue
from jaxrisk.venue.presets.aave_v3 import aave_v3 as aave_v3
from jaxrisk.venue.presets.morpho_blue import morpho_blue as morpho_blue
from jaxrisk.venue.venue import Venue


@dataclasses.dataclass(frozen=True)
class Preset:
    """What a configuration needs to know of a preset.

    Attributes:
        build: `(accounts, assets, **options) -> Venue`.
        options: names of the options the preset takes, besides those every preset takes (`name`,
            `overrides`, `oracle`, `reserve`, `insurance`).
        terms: from options and overrides to the risk categories and thresholds a book may use.
    """

    build: Callable[..., Venue]
    options: tuple[str, ...]
    terms: Callable[..., "Terms"]


@dataclasses.dataclass(frozen=True)
class Terms:
    """Liquidation thresholds a book on the venue stands under.

    Attributes:
        thresholds: by collateral asset, outside of any category.
        category_thresholds: by category, for the collateral the category applies to.
    """

    thresholds: Mapping[str, float]
    category_thresholds: Mapping[str, float]

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories, the base category "" first."""
        return ("", *self.category_thresholds)


def _pool_terms(overrides: Mapping[str, Mapping[str, float]], **options: Any) -> Terms:
    reserves, modes = _aave_v3.DEPLOYMENTS[options.get("deployment", _aave_v3.DEFAULT_DEPLOYMENT)]
    thresholds = {a: r.liquidation_threshold for a, r in reserves.items()}
    thresholds |= {
        a: o["liquidation_threshold"]
        for a, o in overrides.items()
        if "liquidation_threshold" in o
    }
    return Terms(thresholds, {name: mode.liquidation_threshold for name, mode in modes.items()})


def _market_terms(overrides: Mapping[str, Mapping[str, float]], **options: Any) -> Terms:
    del overrides
    return Terms({options["collateral"]: options["liquidation_loan_to_value"]}, {})


PRESETS: dict[str, Preset] = {
    "aave_v3": Preset(aave_v3, ("deployment",), _pool_terms),
    "morpho_blue": Preset(
        morpho_blue, ("collateral", "loan", "liquidation_loan_to_value"), _market_terms
    ),
}

DEPLOYMENTS: dict[str, tuple[str, ...]] = {
    "aave_v3": tuple(_aave_v3.DEPLOYMENTS),
    "morpho_blue": (),
}
