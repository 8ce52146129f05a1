"""Venues of the real world, each a composition of rule slots in a file of its own."""

from jaxrisk.venue.presets.aave_v3 import PRESET as _AAVE_V3
from jaxrisk.venue.presets.aave_v3 import aave_v3 as aave_v3
from jaxrisk.venue.presets.crvusd import PRESET as _CRVUSD
from jaxrisk.venue.presets.crvusd import crvusd as crvusd
from jaxrisk.venue.presets.morpho_blue import PRESET as _MORPHO_BLUE
from jaxrisk.venue.presets.morpho_blue import morpho_blue as morpho_blue
from jaxrisk.venue.presets.preset import Preset as Preset
from jaxrisk.venue.presets.preset import Terms as Terms

PRESETS: dict[str, Preset] = {
    "aave_v3": _AAVE_V3,
    "crvusd": _CRVUSD,
    "morpho_blue": _MORPHO_BLUE,
}
