"""The oracle keys of [venues.NAME]: which price the venue sees of each asset."""

from typing import Literal, Self

from pydantic import Field, model_validator

from jaxrisk.run.fields import (
    FractionInside,
    NonNegative,
    Positive,
    Problem,
    Real,
    Section,
    SignedFraction,
    raise_problems,
)

_OWN_KEYS = {
    "oracle_delay_hours": "delayed",
    "oracle_deviation": "deviation",
    "oracle_window_hours": "average",
}


class DiscountSection(Section):
    """[venues.NAME.oracle_discounts.ASSET]: a price below its peg's that meets it at maturity."""

    rate: FractionInside
    """Discount per year to maturity, simple."""
    maturity_days: Positive
    """Days from the opening to maturity."""


class PrintSection(Section):
    """[venues.NAME.oracle_prints.ASSET]: a false price that only this venue sees, for a while."""

    change: Real = Field(gt=-1.0)
    """False price over the true one, less 1: 0.3 for 30 % too high."""
    hour: NonNegative = 0.0
    """Hours from the opening to the false price."""
    hours: Positive = 1.0
    """How long it is seen, hours."""


class OracleSection(Section):
    """Which price a venue sees; the part of [venues.NAME] that says so."""

    oracle: Literal["spot", "exchange_rate", "delayed", "deviation", "average", "fixed"] = "spot"
    """Price the venue sees; exchange_rate ignores the basis of a peg, fixed never moves."""
    oracle_delay_hours: Positive | None = None
    """Delay of oracle = delayed."""
    oracle_deviation: FractionInside | None = None
    """Relative move that makes oracle = deviation publish."""
    oracle_heartbeat_hours: Positive | None = None
    """Longest time oracle = deviation goes without publishing."""
    oracle_window_hours: Positive | None = None
    """Window of oracle = average, a time-weighted mean."""
    oracle_rate_delay_hours: Positive | None = None
    """Delay of the ratios of pegged assets alone, as behind a bridge."""
    oracle_growth_cap: SignedFraction | None = None
    """Most that the ratio of a pegged asset is seen to grow, per year."""
    oracle_discounts: dict[str, DiscountSection] = Field(default_factory=dict)
    """Pegged assets seen at a linear discount to maturity."""
    oracle_ceilings: dict[str, Positive] = Field(default_factory=dict)
    """Highest price seen of an asset, USD."""
    oracle_prices: dict[str, Positive] = Field(default_factory=dict)
    """Prices written into the oracle, USD, whatever the market does."""
    oracle_prints: dict[str, PrintSection] = Field(default_factory=dict)
    """False prices of an asset that this venue sees for a while."""

    @model_validator(mode="after")
    def _check_oracle(self) -> Self:
        problems: list[Problem] = [
            ((key,), f'goes with oracle = "{kind}", and only so')
            for key, kind in _OWN_KEYS.items()
            if (self.oracle == kind) != (getattr(self, key) is not None)
        ]
        if self.oracle_heartbeat_hours is not None and self.oracle != "deviation":
            text = 'goes with oracle = "deviation", and only so'
            problems.append((("oracle_heartbeat_hours",), text))
        problems += [
            (("oracle_prices", asset), f"{asset} has a discount too; keep one of the two")
            for asset in self.oracle_prices
            if asset in self.oracle_discounts
        ]
        raise_problems(problems)
        return self

    def oracle_assets(self) -> list[tuple[tuple[str, str], str]]:
        """Return each asset that the oracle keys name, with its place."""
        tables = ("oracle_discounts", "oracle_ceilings", "oracle_prices", "oracle_prints")
        return [((table, asset), asset) for table in tables for asset in getattr(self, table)]
