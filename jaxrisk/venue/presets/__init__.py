"""Venues of the real world, each a composition of rule slots."""

from jaxrisk.venue.presets.aave_v3 import aave_v3 as aave_v3
from jaxrisk.venue.presets.morpho_blue import morpho_blue as morpho_blue

PRESETS = {"aave_v3": aave_v3, "morpho_blue": morpho_blue}
