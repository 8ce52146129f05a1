"""The [book] section: where the positions come from, and how a missing part is made up."""

from typing import Literal, Self

from pydantic import Field, model_validator

from jaxrisk.run.fields import (
    Count,
    Fraction,
    FractionOrZero,
    InputPath,
    Location,
    NonNegative,
    Positive,
    Problem,
    Section,
    Seed,
    raise_problems,
)

Reference = tuple[Location, str]
"""Where, and the name that stands there."""

BOOK_SOURCES = ("positions", "synthetic", "user_totals")


class LoopSection(Section):
    """[book.synthetic.emode]: leveraged loops in one correlated pair."""

    collateral: str
    """Asset supplied, usually pegged to the debt."""
    debt: str
    """Asset borrowed."""
    category: str
    """E-mode category of the venue that admits the pair."""
    median_health: Positive = 1.05
    """Median health factor, above 1."""
    health_sigma: NonNegative = 0.5
    """Log standard deviation of health - 1."""
    size_multiple: Positive = 1.0
    """Size of a loop against other accounts."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        raise_problems(_median_health_problems(self.median_health))
        return self


class SyntheticSection(Section):
    """[book.synthetic]: a book drawn from stated marginals."""

    accounts: Count
    """Number of accounts."""
    venue: str
    """Venue that holds them."""
    seed: Seed = 0
    """Seed of the book, apart from the seed of the scenarios."""
    median_debt_usd: Positive = 20_000.0
    """Median debt of an account, USD."""
    size_sigma: NonNegative = 1.8
    """Log standard deviation of debt."""
    median_health: Positive = 1.5
    """Median health factor, above 1."""
    health_sigma: NonNegative = 0.6
    """Log standard deviation of health - 1."""
    mix_concentration: Positive = 1.5
    """Dirichlet concentration of a mix: small for one asset an account."""
    collateral: dict[str, Positive]
    """Share by value of each collateral asset."""
    debt: dict[str, Positive]
    """Share by value of each debt asset."""
    emode_share: FractionOrZero = 0.0
    """Share of accounts that are loops."""
    emode: LoopSection | None = None
    """The loops; needed for emode_share > 0."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = _median_health_problems(self.median_health)
        if self.emode_share > 0 and self.emode is None:
            problems.append(
                (("emode_share",), "needs [book.synthetic.emode] to describe the loops")
            )
        problems += [
            ((key,), "empty; give at least one asset and its share")
            for key in ("collateral", "debt")
            if not getattr(self, key)
        ]
        raise_problems(problems)
        return self

    def asset_references(self) -> list[Reference]:
        """Return each asset named, with its location inside the section."""
        references: list[Reference] = [(("collateral", name), name) for name in self.collateral]
        references += [(("debt", name), name) for name in self.debt]
        if self.emode is not None:
            references.append((("emode", "collateral"), self.emode.collateral))
            references.append((("emode", "debt"), self.emode.debt))
        return references


class FamilySection(Section):
    """[book.user_totals.families.NAME]: debts and collaterals that one e-mode category joins."""

    debts: tuple[str, ...] = Field(min_length=1)
    """Assets borrowed in these loops."""
    collaterals: tuple[str, ...] = Field(min_length=1)
    """Assets they may hold; where two fit alike the first is taken."""
    category: str
    """E-mode category of the venue."""
    loop_ratio: Fraction = 1.0
    """Debt to collateral from which an account with health >= 1 is a loop too."""


class UserTotalsSection(Section):
    """[book.user_totals]: totals of each user and a list of their largest debts."""

    users: InputPath
    """Table user_address, total_debt_usd, total_collateral_usd, health_factor."""
    debts: InputPath
    """Table user_address, symbol, amount, amount_usd, price_usd."""
    venue: str
    """Venue that holds the accounts."""
    base_collaterals: tuple[str, ...] = Field(min_length=1)
    """Assets that accounts outside e-mode may hold."""
    fallback_debt: str
    """Asset that stands for debt missing from the list."""
    substitutes: dict[str, str] = Field(default_factory=dict)
    """Asset that stands for a listed symbol, by value."""
    families: dict[str, FamilySection] = Field(default_factory=dict)
    """Families of assets that loop among themselves."""
    family_share: Fraction = 0.9
    """Share of an account's debt in one family that makes it a loop."""
    undercollateralised: Literal["exclude", "keep"] = "exclude"
    """What to do with accounts whose reported collateral is below their debt."""

    def asset_references(self) -> list[Reference]:
        """Return each asset named, with its location inside the section."""
        references: list[Reference] = [(("fallback_debt",), self.fallback_debt)]
        references += [(("base_collaterals", i), a) for i, a in enumerate(self.base_collaterals)]
        references += [(("substitutes", key), asset) for key, asset in self.substitutes.items()]
        for key, family in self.families.items():
            at = ("families", key)
            references += [((*at, "debts", i), a) for i, a in enumerate(family.debts)]
            references += [((*at, "collaterals", i), a) for i, a in enumerate(family.collaterals)]
        return references


class BookSection(Section):
    """[book]: exactly one source of positions."""

    positions: InputPath | None = None
    """Long table account_id, venue, asset, side, amount, category?, owner?."""
    synthetic: SyntheticSection | None = None
    """A generated book."""
    user_totals: UserTotalsSection | None = None
    """A real book known by totals; its collateral mix is imputed."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [key for key in BOOK_SOURCES if getattr(self, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise_problems(
                [((), f"expected exactly one of {', '.join(BOOK_SOURCES)}; found {found}")]
            )
        return self

    def asset_references(self) -> list[Reference]:
        """Return each asset named, with its location inside the section."""
        return [
            ((key, *location), asset)
            for key in ("synthetic", "user_totals")
            if (source := getattr(self, key)) is not None
            for location, asset in source.asset_references()
        ]

    def venue_references(self) -> list[Reference]:
        """Return each venue named, with its location inside the section."""
        return [
            ((key, "venue"), source.venue)
            for key in ("synthetic", "user_totals")
            if (source := getattr(self, key)) is not None
        ]


def _median_health_problems(median_health: float) -> list[Problem]:
    if median_health > 1:
        return []
    return [(("median_health",), "expected a health factor above 1 (1 is the liquidation point)")]
