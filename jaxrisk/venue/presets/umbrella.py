"""Umbrella: staked coverage of deficits of Aave v3 pools, with the contracts' constants.

Source: aave-dao/aave-umbrella, Umbrella, UmbrellaConfiguration, StakeToken.
"""

MINIMUM_STAKE = 1e6
"""What a slash leaves staked, in raw units of the staked asset: `MIN_ASSETS_REMAINING`."""

VIRTUAL_AMOUNT = 1.0
"""Virtual assets and shares behind the worth of a stake share, in raw units (ERC-4626)."""
