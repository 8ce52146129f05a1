"""Names of contracts as books write them: `WETH-PERP`, `WETH-30D-FUT`, `WETH-30D-3200-C`."""

import dataclasses
import re

from jaxrisk.market.contract import Contracts, european_option, future, perpetual

_OPTION = re.compile(r"(?P<days>\d+(?:\.\d+)?)D-(?P<strike>\d+(?:\.\d+)?)-(?P<kind>[CP])")
_NO_STRIKE = re.compile(r"(?P<days>\d+(?:\.\d+)?D)-(?P<kind>[CP])")
_NO_EXPIRY = re.compile(r"(?P<strike>\d+(?:\.\d+)?)-(?P<kind>[CP])")
_FUTURE = re.compile(r"(?P<days>\d+(?:\.\d+)?)D-FUT")
_LINEAR = re.compile(r"(?P<underlying>.+)-(?:PERP|\d+(?:\.\d+)?D-FUT)")
_DAYS_A_YEAR = 365.0


@dataclasses.dataclass(frozen=True)
class Instrument:
    """A contract of one unit of its underlying, quoted and settled in the venue's currency.

    Attributes:
        underlying: name of the asset.
        terms: a table of one row.
    """

    underlying: str
    terms: Contracts

    @property
    def is_option(self) -> bool:
        """Whether it is an option; else a perpetual or a future."""
        return bool(self.terms.option[0] != 0)


def underlying_of(name: str) -> str:
    """Return the part of an instrument's name that names the asset."""
    linear = _LINEAR.fullmatch(name)
    return linear["underlying"] if linear else name.rsplit("-", 3)[0]


def instrument(name: str) -> Instrument:
    """Return the instrument of a name.

    `ASSET-PERP` is a perpetual; `ASSET-DAYS D-FUT`, written without the blank, a future that ends
    that many days after the start, and `ASSET-DAYS D-STRIKE-C` or `-P` a European option.

    Raises:
        ValueError: the name is neither, it has no strike or no expiry, its strike is not positive,
            or it has expired.
    """
    underlying = underlying_of(name)
    rest = name[len(underlying) + 1 :]
    if underlying and rest == "PERP":
        return Instrument(underlying, perpetual(1.0))
    match = _OPTION.fullmatch(rest)
    if underlying and match:
        strike = float(match["strike"])
        terms = european_option(strike, _years(name, match["days"]), call=match["kind"] == "C")
        return Instrument(underlying, terms)
    if underlying and (match := _FUTURE.fullmatch(rest)):
        return Instrument(underlying, future(1.0, _years(name, match["days"])))
    if underlying and (part := _NO_STRIKE.fullmatch(rest)):
        example = f"{underlying}-{part['days']}-3200-{part['kind']}"
        raise ValueError(f"{name!r} has no strike; expected a name like {example}")
    if underlying and (part := _NO_EXPIRY.fullmatch(rest)):
        example = f"{underlying}-30D-{part['strike']}-{part['kind']}"
        raise ValueError(f"{name!r} has no expiry; expected a name like {example}")
    raise ValueError(
        f"{name!r} is no contract; expected a name like WETH-PERP, or WETH-30D-3200-C for a call "
        "of 30 days"
    )


def _years(name: str, days: str) -> float:
    """Return days in years.

    Raises:
        ValueError: there are none.
    """
    if not float(days) > 0:
        raise ValueError(f"{name!r} expires at the start; expected more than 0 days")
    return float(days) / _DAYS_A_YEAR
