"""The [market], [assets.*] and [impact] sections: how prices move and what sales do to them."""

from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from jaxrisk.run.fields import (
    FallOrRise,
    FractionBelowOne,
    FractionInside,
    FractionOrZero,
    InputPath,
    NonNegative,
    Positive,
    Problem,
    Real,
    Section,
    SignedFraction,
    UtcTime,
    Volatility,
    raise_problems,
)

Model = Literal["gbm", "jump_diffusion", "bootstrap", "replay", "shock"]
SYMMETRY_TOLERANCE = 1e-9

_NEEDED: Mapping[str, Sequence[str]] = {
    "gbm": (),
    "jump_diffusion": ("jump_intensity", "jump_mean", "jump_volatility"),
    "bootstrap": ("history",),
    "replay": ("history", "start"),
    "shock": ("shock",),
}


class HistoryColumns(Section):
    """[market.history_columns]: the names a price table uses."""

    time: str = "time"
    """UTC time: ISO 8601, timestamp, or epoch s or ms."""
    asset: str = "asset"
    """Asset name; the table is wide where it is absent."""
    price: str = "price"
    """Price of a long table, USD."""
    rename: dict[str, str] = Field(default_factory=dict)
    """Name in the table = asset of this configuration."""


class ShockSection(Section):
    """[market.shock]: one stress path, stated by its size and speed."""

    name: str = "shock"
    """Title in the report."""
    falls: dict[str, FallOrRise]
    """Fall of each asset's price at the trough, fraction; negative for a rise."""
    hours: Positive
    """Hours from the start to the trough."""
    gap: FractionOrZero = 0.0
    """Share of every log fall that comes at once."""
    gap_hours: Positive | None = None
    """Hours from the start to that moment; default the trough."""
    recovery: FractionOrZero = 0.0
    """Share of the fall won back."""
    recovery_hours: Positive = 24.0
    """Hours from the trough to the recovery."""
    volatility_multiplier: NonNegative = 1.0
    """Factor on volatility around the path; 0 for the bare path."""
    basis: dict[str, FractionBelowOne] = Field(default_factory=dict)
    """Discount of a pegged asset at the trough, fraction."""


class MarketSection(Section):
    """[market]: how prices move together."""

    model: Model
    """Price process."""
    correlation: tuple[tuple[SignedFraction, ...], ...] | None = None
    """Matrix in the order of [assets.*]; rows of pegged assets are not read and may be left out."""
    correlation_default: SignedFraction = 0.0
    """Correlation of every pair where no matrix is given."""
    repair_correlation: bool = Field(default=False, strict=True)
    """Take the nearest valid matrix where this one is not."""
    jump_intensity: NonNegative | None = None
    """Common jumps per year."""
    jump_mean: SignedFraction | None = None
    """Mean log jump."""
    jump_volatility: Volatility | None = None
    """Standard deviation of log jump."""
    history: InputPath | None = None
    """Price table for bootstrap and replay."""
    history_columns: HistoryColumns = Field(default_factory=HistoryColumns)
    """Column names of the price table."""
    block_hours: Positive = 24.0
    """Mean block of the bootstrap, hours."""
    start: UtcTime | None = None
    """First moment of a replay, UTC."""
    shock: ShockSection | None = None
    """The stress path of model = shock."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems: list[Problem] = [
            ((key,), f'missing; needed by model = "{self.model}"')
            for key in _NEEDED[self.model]
            if getattr(self, key) is None
        ]
        if self.correlation is not None:
            problems += _correlation_problems(self.correlation)
        raise_problems(problems)
        return self


class AssetSection(Section):
    """[assets.NAME]: price, movement and depth of one asset."""

    price: Positive | None = None
    """Price, USD."""
    depth_usd: Positive
    """Sale, USD, that moves the price by the impact coefficient."""
    volatility: Volatility | None = None
    """Volatility per square-root year."""
    jump_loading: Real = 1.0
    """Part of the common log jump this asset takes."""
    peg: str | None = None
    """Asset whose price this one follows."""
    ratio: Positive | None = None
    """Units of the peg one unit is worth."""
    ratio_growth: SignedFraction = 0.0
    """Growth of the ratio per year."""
    basis_volatility: Volatility = 0.0
    """Volatility of the log basis."""
    basis_half_life_hours: Positive = 24.0
    """Half-life of the basis, hours."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems: list[Problem] = []
        if self.peg is None:
            if self.price is None:
                problems.append((("price",), "missing; give the price in USD, or peg and ratio"))
            problems += [
                ((key,), "only for a pegged asset; add peg or drop it")
                for key in ("ratio", "ratio_growth", "basis_volatility", "basis_half_life_hours")
                if getattr(self, key) != type(self).model_fields[key].default
            ]
        else:
            if (self.price is None) == (self.ratio is None):
                text = f"a pegged asset needs price (USD) or ratio (in {self.peg}), and not both"
                problems.append((("ratio",), text))
            if self.volatility is not None:
                text = f"it moves with its peg {self.peg}; drop volatility, or use basis_volatility"
                problems.append((("volatility",), text))
        raise_problems(problems)
        return self


class ImpactSection(Section):
    """[impact]: what a forced sale does to the price."""

    kind: Literal[
        "linear",
        "square_root",
        "exponential",
        "depth_curve",
        "constant_product",
        "concentrated",
    ] = "square_root"
    """Shape of price fall against quantity; the last two are liquidity pools."""
    coefficient: FractionBelowOne = 0.10
    """Price fall of a sale as large as depth_usd, fraction."""
    permanent_share: FractionOrZero = 0.3
    """Share of the fall that stays."""
    half_life_hours: Positive = 6.0
    """Half-life of the rest, hours."""
    depth_volatility_sensitivity: NonNegative = 0.5
    """How fast depth shrinks with realised volatility."""
    depth_flow_sensitivity: NonNegative = 0.5
    """How fast depth shrinks with recent forced sales."""
    bands: tuple[FractionInside, ...] = Field(default=(0.01, 0.02, 0.05, 0.10), min_length=1)
    """Price falls of a depth curve, rising."""
    band_depths: tuple[Positive, ...] = Field(default=(0.1, 0.2, 0.5, 1.0), min_length=1)
    """Bids down to each band, multiples of depth_usd, rising."""
    largest_fall: FractionInside = 0.5
    """Fall that no sale exceeds, of kind = exponential, fraction."""
    pool_fee: FractionBelowOne = 0.003
    """Fee of a pool, fraction of what is sold."""
    range_ends: tuple[FractionInside, ...] = ()
    """Price falls at which ranges of concentrated liquidity end, rising; the last has no end."""
    range_liquidity: tuple[Positive, ...] = (1.0,)
    """Liquidity of each range, multiples of depth_usd; one more than range_ends."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems: list[Problem] = [
            ((key,), "expected numbers that rise from one to the next")
            for key in ("bands", "band_depths", "range_ends")
            if list(getattr(self, key)) != sorted(set(getattr(self, key)))
        ]
        if len(self.bands) != len(self.band_depths):
            text = f"expected {len(self.bands)} numbers, one for each of bands"
            problems.append((("band_depths",), text))
        if len(self.range_liquidity) != len(self.range_ends) + 1:
            text = f"expected {len(self.range_ends) + 1} numbers, one for each range"
            problems.append((("range_liquidity",), text))
        if self.kind == "concentrated" and not self.range_ends:
            problems.append((("range_ends",), 'missing; needed by kind = "concentrated"'))
        raise_problems(problems)
        return self


def _correlation_problems(matrix: Sequence[Sequence[float]]) -> list[Problem]:
    size = len(matrix)
    for i, row in enumerate(matrix):
        if len(row) != size:
            text = f"expected a square matrix; row {i + 1} has {len(row)} of {size} entries"
            return [(("correlation",), text)]
    problems: list[Problem] = [
        (("correlation", i, i), "expected 1 on the diagonal")
        for i in range(size)
        if abs(matrix[i][i] - 1) > SYMMETRY_TOLERANCE
    ]
    problems += [
        (("correlation", i, j), f"expected {matrix[j][i]:g}, as in row {j + 1} (symmetric)")
        for i in range(size)
        for j in range(i)
        if abs(matrix[i][j] - matrix[j][i]) > SYMMETRY_TOLERANCE
    ]
    return problems
