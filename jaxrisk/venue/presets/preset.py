"""What a configuration needs to know of a preset, so that a new protocol is one file."""

import dataclasses
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Unpack, get_args, get_origin, get_type_hints

from jaxrisk.venue.venue import Venue


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


@dataclasses.dataclass(frozen=True)
class Preset:
    """A protocol's rules as a configuration sees them.

    Attributes:
        build: `(accounts, assets, **options) -> Venue`; besides its own options every preset takes
            `name`, `overrides` and those of `Common`.
        required: names of the options it cannot do without.
        terms: from overrides and options to the thresholds of a book.
        deployments: names of its shipped parameter tables; none where it has no `deployment`.
        optional: names of further options it takes.
        asset_options: names of parameters by asset beyond the common ones.
        coverage: whether it takes `coverage`, stakes that are slashed for its deficits.
        contracts: accounts hold contracts; `build` then takes `instruments`, `prices` and
            `symbols` too.
        tiers: whether it looks up `symbols` in tables of margin tiers, and takes `brackets`.
        debts: somebody on the venue owes something.
    """

    build: Callable[..., Venue]
    required: tuple[str, ...]
    terms: Callable[..., Terms]
    deployments: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    asset_options: tuple[str, ...] = ()
    coverage: bool = False
    contracts: bool = False
    debts: bool = True
    tiers: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Names of all options of its own."""
        return (*self.required, *(("deployment",) if self.deployments else ()), *self.optional)

    def accepts(self, option: str, value: float | str) -> bool:
        """Whether the value of one of its own options is of the right kind: a number, or text."""
        hints = get_type_hints(self.build)
        rest = [
            p.name for p in signature(self.build).parameters.values() if p.kind is p.VAR_KEYWORD
        ]
        if option not in hints and rest:
            (further,) = (hints[name] for name in rest)
            hints = dict.fromkeys([option], further)
            if get_origin(further) is Unpack:
                hints = get_type_hints(get_args(further)[0])
        kinds = {hints[option], *get_args(hints[option])}
        return bool(kinds & ({str} if isinstance(value, str) else {float, int}))
