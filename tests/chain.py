"""Recorded option chains: 22 snapshots of two underlyings, as the exchange marked them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

FILE = "data/vol/deribit_option_chain_snapshots_btc_eth_2025_12_2026_08.parquet"
QUOTES = 65
"""In the longest expiry; shorter ones are padded, so that few programs fit all."""
NUMBERS = (
    "strike", "time_to_maturity", "futures_price", "implied_volatility", "mark_price",
)  # fmt: skip


def rows(shared: Path) -> dict[str, np.ndarray]:
    """Return the columns of every option with a mark, a mark volatility and a forward."""
    path = shared / FILE
    if not path.is_file():
        pytest.skip(f"no recorded option chains at {path}")
    words = ("snapshot", "currency", "expiry_datetime", "option_type")
    table = pq.read_table(path, columns=[*NUMBERS, *words]).drop_null()
    return {name: np.asarray(table[name].to_pylist()) for name in table.column_names}


def surfaces(shared: Path) -> Iterator[tuple[str, *tuple[np.ndarray, ...]]]:
    """Yield (name, years, log-moneyness, volatility, weight) of every chain, strikes once.

    The weight of a quote is its vega over that at the money, and of padding nothing: marks of
    strikes ten deviations off are conventions.
    """
    column = rows(shared)
    for snapshot in np.unique(column["snapshot"]):
        for currency in np.unique(column["currency"]):
            here = (column["snapshot"] == snapshot) & (column["currency"] == currency)
            smiles = []
            for expiry in np.unique(column["expiry_datetime"][here]):
                of = here & (column["expiry_datetime"] == expiry)
                strike, first = np.unique(column["strike"][of], return_index=True)
                pick = lambda name, of=of, first=first: column[name][of][first]
                smiles.append((
                    float(np.median(column["time_to_maturity"][of])),
                    np.log(strike / pick("futures_price")),
                    pick("implied_volatility"),
                ))  # fmt: skip
            smiles.sort(key=lambda smile: smile[0])
            yield f"{snapshot[25:38]} {currency}", *_padded(smiles)


def _padded(smiles: list) -> tuple[np.ndarray, ...]:
    years = np.array([smile[0] for smile in smiles])
    k, volatility = np.zeros((len(smiles), QUOTES)), np.full((len(smiles), QUOTES), 0.5)
    weight = np.zeros((len(smiles), QUOTES))
    for row, (_, at, quoted) in enumerate(smiles):
        k[row, : at.size], volatility[row, : at.size] = at, quoted
        width = quoted * years[row] ** 0.5
        weight[row, : at.size] = np.exp(-0.5 * (-at / width + 0.5 * width) ** 2)
    return years, k, volatility, weight
