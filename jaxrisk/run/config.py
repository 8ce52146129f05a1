"""The configuration: one model per TOML table, every key typed, ranged and described.

Read a file with `jaxrisk.run.load.load_config`. Unknown keys are refused. Problems are raised
with their location inside the section; `load` turns them into lines that name file and key.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from jaxrisk.run.behaviour_config import HaltsSection, OwnersSection, PolicySection
from jaxrisk.run.book_config import BookSection
from jaxrisk.run.claim_config import ClaimSection
from jaxrisk.run.fields import (
    Bonus,
    Confidence,
    Count,
    CountOrZero,
    Fraction,
    FractionInside,
    FractionOrZero,
    InputPath,
    NonNegative,
    NumberOrText,
    Positive,
    Problem,
    Rate,
    Real,
    Section,
    Seed,
    raise_problems,
)
from jaxrisk.run.hints import expected_one_of
from jaxrisk.run.market_config import AssetSection, ImpactSection, MarketSection
from jaxrisk.run.oracle_config import OracleSection
from jaxrisk.run.stress_config import StressSection, stress_problems

Measure = Literal[
    "bad_debt_usd", "liquidated_usd", "borrower_loss_usd", "keeper_profit_usd", "supplier_loss_usd",
    "repaid_usd", "protocol_fee_usd", "shortfall_usd", "interest_usd",
]  # fmt: skip
Parameter = Literal[
    "liquidation_threshold", "liquidation_bonus", "volatility", "correlation", "depth", "insurance"
]


def _known_preset(value: str, info: ValidationInfo) -> str:
    presets = (info.context or {}).get("presets")
    if presets is not None and value not in presets:
        text = expected_one_of(value, sorted(presets))
        raise PydanticCustomError("preset", "{text}", {"text": text})
    return value


class RunSection(Section):
    """[run]: how many scenarios, how long, and on what."""

    scenarios: Count = 20_000
    """Number of scenarios."""
    steps: Count = 48
    """Steps of a scenario."""
    step_hours: Positive = 1.0
    """Length of a step, hours."""
    seed: Seed = 1
    """Seed of the scenarios."""
    precision: Literal["float64", "float32"] = "float64"
    """Number format."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to compute."""
    confidences: tuple[Confidence, ...] = Field(default=(0.95, 0.99), min_length=1)
    """Levels of value at risk, expected shortfall."""
    rounds: Count = 8
    """Most liquidation rounds within a step."""
    stresses: tuple[str, ...] = ()
    """Named stresses that the book is run through as well, see `jaxrisk stresses`."""
    engine: Literal["auto", "dense", "ladder"] = "auto"
    """How venues are played: every account, or sorted sums where that is the same."""
    output: Path | None = None
    """Run directory, relative to the working folder; default runs/<config>."""


class KeeperSection(Section):
    """[keeper]: who liquidates and when it pays."""

    cost_usd: NonNegative = 30.0
    """Cost of one liquidation, USD."""
    minimum_return: Real = 0.0
    """Profit wanted, fraction of the debt repaid."""
    policy: Literal["best_pair", "pro_rata"] = "best_pair"
    """Which collateral and debt the keeper takes."""
    capital_usd: NonNegative | None = None
    """What keepers can pay with in all, USD; default as much as it takes."""
    capital_half_life_hours: Positive | None = None
    """Half-life in which spent capital comes back as they sell, hours; goes with capital_usd."""
    latency_steps: CountOrZero = 0
    """Steps in which an account was callable before the one in which it is called."""
    congestion: NonNegative = 0.0
    """Rise of the cost of a call with every other call in the step, fraction of cost_usd."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems: list[Problem] = []
        if (self.capital_usd is None) != (self.capital_half_life_hours is None):
            problems.append(
                (("capital_half_life_hours",), "goes with capital_usd, and only so: give both")
            )
        if self.congestion > 0 and self.cost_usd == 0:
            problems.append((("congestion",), "raises a cost of 0; give cost_usd"))
        raise_problems(problems)
        return self


class VenueAssetSection(Section):
    """[venues.NAME.assets.ASSET]: parameters that replace the preset's."""

    loan_to_value: FractionOrZero | None = None
    """Most debt per collateral."""
    liquidation_threshold: Fraction | None = None
    """Weight of the collateral in the health factor."""
    liquidation_bonus: Bonus | None = None
    """Collateral the liquidator gets beyond the debt repaid: 0.05 for 5 %."""
    reserve_factor: FractionOrZero | None = None
    """Share of interest kept."""
    protocol_fee: FractionOrZero | None = None
    """Share of the bonus kept."""
    optimal_utilisation: FractionInside | None = None
    """Kink of the rate curve."""
    base_rate: Rate | None = None
    """Borrow rate at zero utilisation."""
    slope1: Rate | None = None
    """Rate added up to the kink."""
    slope2: Rate | None = None
    """Rate added from the kink to full utilisation."""
    available_liquidity: NonNegative | None = None
    """Amount not lent out, token units."""
    symbol: str | None = None
    """Name of the contract in margin tables, for venues of contracts; default that of the asset."""
    options: dict[str, Real] = Field(default_factory=dict)
    """Parameters that only this preset has, see its page."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        threshold, ratio = self.liquidation_threshold, self.loan_to_value
        if threshold is not None and ratio is not None and threshold < ratio:
            text = f"expected at least loan_to_value ({ratio:g}); are the two swapped?"
            raise_problems([(("liquidation_threshold",), text)])
        return self


class CoverageSection(Section):
    """[venues.NAME.coverage.ASSET]: a stake that is slashed for the deficit in an asset."""

    stake: NonNegative
    """Amount staked, token units."""
    asset: str | None = None
    """Staked asset, paid in when slashed; default deposits of ASSET in the venue's own pool."""
    offset: NonNegative = 0.0
    """Deficit the stake does not cover, token units of ASSET."""
    fee: FractionOrZero = 0.0
    """Slashed on top for the protocol, fraction of what is covered."""
    slashable: FractionOrZero = 1.0
    """Largest share of the stake that may be slashed."""


class VenueSection(OracleSection):
    """[venues.NAME]: a preset and what this configuration changes in it."""

    preset: Annotated[str, AfterValidator(_known_preset)]
    """Rules to use."""
    deployment: str | None = None
    """Parameter set of the preset."""
    insurance_usd: NonNegative = 0.0
    """Insurance capacity, USD."""
    reserve_usd: NonNegative = 0.0
    """Reserve that pays before insurance, USD."""
    collateral: str | None = None
    """Collateral of an isolated market."""
    loan: str | None = None
    """Asset lent by an isolated market, or by a vault of several collaterals."""
    liquidation_loan_to_value: FractionInside | None = None
    """Loan to value at which an isolated market liquidates."""
    margin_tiers: InputPath | None = None
    """Table of margin tiers of a venue of contracts, CSV or Parquet, see `read_margin_tiers`."""
    options: dict[str, NumberOrText] = Field(default_factory=dict)
    """Options that only this preset has, see its page."""
    assets: dict[str, VenueAssetSection] = Field(default_factory=dict)
    """Parameters that replace the preset's, by asset."""
    coverage: dict[str, CoverageSection] = Field(default_factory=dict)
    """Stakes that are slashed for deficits after the reserve and before the insurance, by asset."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems: list[Problem] = []
        if self.collateral is not None and self.loan is None:
            problems.append((("loan",), "missing; an isolated market names collateral and loan"))
        elif self.collateral is not None and self.collateral == self.loan:
            problems.append((("loan",), "expected an asset other than the collateral"))
        raise_problems(problems)
        return self


class VaultSection(Section):
    """[vaults.NAME]: a vault that supplies several venues."""

    markets: dict[str, FractionOrZero] = Field(min_length=1)
    """Part of the vault's assets supplied to each venue; the rest is idle."""
    loss: Literal["recognised", "held"] = "recognised"
    """Whether a loss lowers the share price at once, or is held and falls on the last to leave."""
    fee: FractionOrZero = 0.0
    """Manager's share of interest."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(self.markets.values()) > 1.0 + 1e-9:
            raise_problems([(("markets",), "expected parts that add up to at most 1")])
        return self


class SensitivitySection(Section):
    """[sensitivities]: which derivatives to estimate."""

    measures: tuple[Measure, ...] = ("bad_debt_usd",)
    """Quantities to differentiate."""
    parameters: tuple[Parameter, ...] = (
        "liquidation_threshold",
        "liquidation_bonus",
        "volatility",
        "correlation",
        "depth",
        "insurance",
    )
    """With respect to what."""
    scenarios: Count = 4096
    """Scenarios of an estimate."""
    gate_width: FractionInside = 0.02
    """Width of the smoothed trigger, in health factor."""
    extrapolate: bool = True
    """Also half the width, to take away the bias of the width where it is seen."""
    bump: FractionInside = 0.02
    """Relative size of the referee's bump."""


class ReportSection(Section):
    """[report]: what the report shows."""

    top_accounts: Count = 20
    """Accounts listed."""
    fan_scenarios: Count = 1024
    """Scenarios behind the fan of paths."""
    bad_debt_threshold_usd: Positive = 1e6
    """Bad debt whose probability of being exceeded is reported, USD."""
    survival_assets: tuple[str, str] | None = None
    """The two assets that fall in the survival map; default those whose falls sell most."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.survival_assets is not None and len(set(self.survival_assets)) < 2:
            raise_problems([(("survival_assets",), "expected two different assets")])
        return self


class Config(Section):
    """The whole configuration."""

    name: str | None = None
    """Title; default the name of the file."""
    run: RunSection = Field(default_factory=RunSection)
    book: BookSection
    market: MarketSection
    assets: dict[str, AssetSection] = Field(min_length=1)
    impact: ImpactSection = Field(default_factory=ImpactSection)
    keeper: KeeperSection = Field(default_factory=KeeperSection)
    venues: dict[str, VenueSection] = Field(min_length=1)
    vaults: dict[str, VaultSection] = Field(default_factory=dict)
    stresses: dict[str, StressSection] = Field(default_factory=dict)
    owners: OwnersSection = Field(default_factory=OwnersSection)
    policies: dict[str, PolicySection] = Field(default_factory=dict)
    halts: HaltsSection = Field(default_factory=HaltsSection)
    claims: dict[str, ClaimSection] = Field(default_factory=dict)
    sensitivities: SensitivitySection = Field(default_factory=SensitivitySection)
    report: ReportSection = Field(default_factory=ReportSection)

    @model_validator(mode="after")
    def _check(self) -> Self:
        raise_problems(
            [
                *_asset_problems(self.assets, self.market),
                *_reference_problems(self),
                *_claim_problems(self),
                *_shape_problems(self.market.correlation, self.assets),
                *stress_problems(self.run.stresses, self.stresses),
            ]
        )
        return self


def config_schema() -> dict[str, Any]:
    """Return the JSON schema of the configuration."""
    return Config.model_json_schema()


def _shape_problems(
    matrix: Sequence[Sequence[float]] | None, assets: Mapping[str, AssetSection]
) -> list[Problem]:
    """A matrix has one row an asset, or one row an asset that is not pegged."""
    free = [name for name, asset in assets.items() if asset.peg is None]
    if matrix is None or len(matrix) in (len(assets), len(free)):
        return []
    text = f"expected {len(assets)} rows, in order {', '.join(assets)}"
    if len(free) < len(assets):
        text += f"; or {len(free)} without the pegged assets, {', '.join(free)}"
    return [(("market", "correlation"), f"{text}; found {len(matrix)}")]


def _asset_problems(assets: Mapping[str, AssetSection], market: MarketSection) -> list[Problem]:
    problems: list[Problem] = []
    for name, asset in assets.items():
        if asset.peg is None:
            if asset.volatility is None and market.model in ("gbm", "jump_diffusion"):
                text = f'missing; needed by model = "{market.model}" (0.75 for 75 % a year)'
                problems.append((("assets", name, "volatility"), text))
        elif asset.peg == name:
            problems.append((("assets", name, "peg"), "an asset cannot be pegged to itself"))
        elif asset.peg not in assets:
            problems.append((("assets", name, "peg"), expected_one_of(asset.peg, assets)))
        elif assets[asset.peg].peg is not None:
            root = assets[asset.peg].peg
            text = f"{asset.peg} is itself pegged; peg to {root} and give the ratio in {root}"
            problems.append((("assets", name, "peg"), text))
    return problems


def _claim_problems(config: Config) -> list[Problem]:
    """What an asset must not have whose rate is that of what is behind it."""
    problems: list[Problem] = []
    for name in config.claims:
        asset = config.assets.get(name)
        if asset is not None and asset.peg is None:
            text = "missing; a claim is pegged to the asset its rate is quoted in"
            problems.append((("assets", name, "peg"), text))
        elif asset is not None and asset.ratio_growth != 0:
            text = "its rate is that of what is behind it; drop ratio_growth"
            problems.append((("assets", name, "ratio_growth"), text))
    return problems


def _reference_problems(config: Config) -> list[Problem]:
    """Names that point at an asset or a venue of the same file."""
    assets = [(("book", *location), name) for location, name in config.book.asset_references()]
    if (shock := config.market.shock) is not None:
        assets += [(("market", "shock", "falls", name), name) for name in shock.falls]
        assets += [(("market", "shock", "basis", name), name) for name in shock.basis]
    for name in config.report.survival_assets or ():
        assets.append((("report", "survival_assets"), name))
    for venue, section in config.venues.items():
        assets += [(("venues", venue, "assets", name), name) for name in section.assets]
        assets += [(("venues", venue, "coverage", name), name) for name in section.coverage]
        assets += [(("venues", venue, *place), name) for place, name in section.oracle_assets()]
        assets += [
            (("venues", venue, "coverage", name, "asset"), own.asset)
            for name, own in section.coverage.items()
            if own.asset is not None
        ]
        for key, name in (("collateral", section.collateral), ("loan", section.loan)):
            if name is not None:
                assets.append((("venues", venue, key), name))
    venues = [(("book", *location), name) for location, name in config.book.venue_references()]
    for claim, behind in config.claims.items():
        assets += [(("claims", claim), claim)]
        assets += [(("claims", claim, "asset"), behind.asset)] if behind.asset else []
        venues += [(("claims", claim, "venue"), behind.venue)] if behind.venue else []
        venues += [(("claims", claim, "deposits", name), name) for name in behind.deposits]
    for vault, own in config.vaults.items():
        venues += [(("vaults", vault, "markets", name), name) for name in own.markets]
    venues += [(("policies", label, "venue"), own.venue) for label, own in config.policies.items()]
    venues += [(("halts", "venues", name), name) for name in config.halts.venues]
    return [
        (location, f"no such {kind}: {expected_one_of(name, known)}")
        for kind, references, known in (
            ("asset", assets, config.assets),
            ("venue", venues, config.venues),
        )
        for location, name in references
        if name not in known
    ]
