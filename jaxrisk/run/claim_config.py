"""The [claims.*] sections: assets that are claims on venues or on an account of one."""

from typing import Literal, Self

from pydantic import Field, model_validator

from jaxrisk.run.fields import NonNegative, Positive, Problem, Section, raise_problems


class ClaimSection(Section):
    """[claims.NAME]: what is behind the asset NAME, whose rate follows it."""

    venue: str | None = None
    """Venue whose deposits, or one of whose accounts, are behind it."""
    asset: str | None = None
    """Asset deposited there; default the only one it lends."""
    account: str | None = None
    """Account of the venue whose equity is behind it; default all deposits."""
    deposits: dict[str, Positive] = Field(default_factory=dict)
    """Deposits of a vault in several venues, token units by venue."""
    idle: NonNegative = 0.0
    """Lies idle in such a vault, token units."""
    units: Positive | None = None
    """Units outstanding, which give the price; default as many as the asset's price makes."""
    exit: Literal["sold", "redeemed", "shut"] = "sold"
    """Sold at the asset's own depth, redeemed as far as its issuer can pay, or neither."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems: list[Problem] = []
        if (self.venue is None) == (not self.deposits):
            problems.append((("venue",), "expected either venue or deposits, and not both"))
        if self.account is not None and self.deposits:
            problems.append((("account",), "goes with venue, not with deposits"))
        if self.account is not None and self.asset is not None:
            problems.append((("asset",), "only for deposits; the equity of an account is no asset"))
        if self.idle > 0 and not self.deposits:
            problems.append((("idle",), "goes with deposits"))
        raise_problems(problems)
        return self
