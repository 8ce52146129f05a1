"""Venues of the real world, each a composition of rule slots in a file of its own."""

from jaxrisk.venue.presets.aave_v3 import PRESET as _AAVE_V3
from jaxrisk.venue.presets.aave_v3 import aave_v3 as aave_v3
from jaxrisk.venue.presets.aave_v3_legacy import PRESET as _AAVE_V3_LEGACY
from jaxrisk.venue.presets.aave_v3_legacy import aave_v3_legacy as aave_v3_legacy
from jaxrisk.venue.presets.aave_v4 import PRESET as _AAVE_V4
from jaxrisk.venue.presets.aave_v4 import aave_v4 as aave_v4
from jaxrisk.venue.presets.ajna import PRESET as _AJNA
from jaxrisk.venue.presets.ajna import ajna as ajna
from jaxrisk.venue.presets.binance_coinm import PRESET as _BINANCE_COINM
from jaxrisk.venue.presets.binance_usdm import PRESET as _BINANCE_USDM
from jaxrisk.venue.presets.bitmex import PRESET as _BITMEX
from jaxrisk.venue.presets.bybit import PRESET as _BYBIT
from jaxrisk.venue.presets.compound_v2 import PRESET as _COMPOUND_V2
from jaxrisk.venue.presets.compound_v2 import compound_v2 as compound_v2
from jaxrisk.venue.presets.compound_v3 import PRESET as _COMPOUND_V3
from jaxrisk.venue.presets.compound_v3 import compound_v3 as compound_v3
from jaxrisk.venue.presets.crvusd import PRESET as _CRVUSD
from jaxrisk.venue.presets.crvusd import crvusd as crvusd
from jaxrisk.venue.presets.deribit import PRESET as _DERIBIT
from jaxrisk.venue.presets.derive import PRESET as _DERIVE
from jaxrisk.venue.presets.drift_v2 import PRESET as _DRIFT_V2
from jaxrisk.venue.presets.dydx_v4 import PRESET as _DYDX_V4
from jaxrisk.venue.presets.euler_v2 import PRESET as _EULER_V2
from jaxrisk.venue.presets.euler_v2 import euler_v2 as euler_v2
from jaxrisk.venue.presets.fluid import PRESET as _FLUID
from jaxrisk.venue.presets.fluid import fluid as fluid
from jaxrisk.venue.presets.gearbox_v3 import PRESET as _GEARBOX_V3
from jaxrisk.venue.presets.gearbox_v3 import gearbox_v3 as gearbox_v3
from jaxrisk.venue.presets.holders import PRESET as _HOLDERS
from jaxrisk.venue.presets.holders import holders as holders
from jaxrisk.venue.presets.hyperliquid import PRESET as _HYPERLIQUID
from jaxrisk.venue.presets.liquity_v1 import PRESET as _LIQUITY_V1
from jaxrisk.venue.presets.liquity_v1 import liquity_v1 as liquity_v1
from jaxrisk.venue.presets.liquity_v2 import PRESET as _LIQUITY_V2
from jaxrisk.venue.presets.liquity_v2 import liquity_v2 as liquity_v2
from jaxrisk.venue.presets.morpho_blue import PRESET as _MORPHO_BLUE
from jaxrisk.venue.presets.morpho_blue import morpho_blue as morpho_blue
from jaxrisk.venue.presets.okx import PRESET as _OKX
from jaxrisk.venue.presets.options import PRESET as _OPTIONS
from jaxrisk.venue.presets.options import options as options
from jaxrisk.venue.presets.opyn import PRESET as _OPYN
from jaxrisk.venue.presets.perpetuals import PRESET as _PERPETUALS
from jaxrisk.venue.presets.perpetuals import perpetuals as perpetuals
from jaxrisk.venue.presets.preset import Preset as Preset
from jaxrisk.venue.presets.preset import Terms as Terms
from jaxrisk.venue.presets.silo_v2 import PRESET as _SILO_V2
from jaxrisk.venue.presets.silo_v2 import silo_v2 as silo_v2
from jaxrisk.venue.presets.sky import PRESET as _SKY
from jaxrisk.venue.presets.sky import sky as sky
from jaxrisk.venue.presets.span import PRESET as _SPAN

PRESETS: dict[str, Preset] = {
    "aave_v3": _AAVE_V3,
    "aave_v3_legacy": _AAVE_V3_LEGACY,
    "aave_v4": _AAVE_V4,
    "ajna": _AJNA,
    "compound_v2": _COMPOUND_V2,
    "compound_v3": _COMPOUND_V3,
    "deribit": _DERIBIT,
    "derive": _DERIVE,
    "euler_v2": _EULER_V2,
    "fluid": _FLUID,
    "gearbox_v3": _GEARBOX_V3,
    "holders": _HOLDERS,
    "liquity_v1": _LIQUITY_V1,
    "liquity_v2": _LIQUITY_V2,
    "morpho_blue": _MORPHO_BLUE,
    "options": _OPTIONS,
    "opyn": _OPYN,
    "perpetuals": _PERPETUALS,
    "silo_v2": _SILO_V2,
    "sky": _SKY,
    "span": _SPAN,
    "crvusd": _CRVUSD,
    "binance_coinm": _BINANCE_COINM,
    "binance_usdm": _BINANCE_USDM,
    "bitmex": _BITMEX,
    "bybit": _BYBIT,
    "drift_v2": _DRIFT_V2,
    "dydx_v4": _DYDX_V4,
    "hyperliquid": _HYPERLIQUID,
    "okx": _OKX,
}
