"""Position and price tables: round trips, and the text of every refusal."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxrisk.errors import DataError
from jaxrisk.run.prices import read_prices
from jaxrisk.run.tables import PositionTable, read_positions, write_positions
from tests.helpers import assert_close

VENUES, ASSETS = ("pool",), ("WETH", "USDC", "wstETH")

HEADER = "account_id,venue,asset,side,amount\n"
GOOD = (
    "# a book\n"
    "account_id,venue,asset,side,amount,category,owner\n"
    "a1,pool,WETH,collateral,10,,\n"
    "# between the rows\n"
    "a1,pool,USDC,debt,1.5e4,,\n"
    "\n"
    "a2,pool,wstETH,collateral,2.25,correlated,desk\n"
    "a2,pool,WETH,debt,2,,desk\n"
)


@pytest.fixture
def read(tmp_path):
    def read(text, name="positions.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_positions(path, venues=VENUES, assets=ASSETS, categories=("correlated",))

    return read


@pytest.fixture
def problems(read, tmp_path):
    def problems(text):
        with pytest.raises(DataError) as caught:
            read(text)
        assert caught.value.exit_code == 3
        return [p.replace(f"{tmp_path}/", "") for p in caught.value.problems]

    return problems


def test_csv_with_comments_and_blank_lines(read):
    table = read(GOOD)
    assert len(table) == 4
    assert table.side.tolist() == ["collateral", "debt", "collateral", "debt"]
    assert_close(table.amount, [10.0, 1.5e4, 2.25, 2.0], rtol=0, atol=0)
    # The category belongs to the account: its row that names none takes it too.
    assert table.category.tolist() == ["", "", "correlated", "correlated"]
    assert table.owner.tolist() == ["", "", "desk", "desk"]
    assert (table.source, table.synthetic) == ("positions.csv", False)


def test_byte_order_mark_and_windows_line_ends_are_read(read):
    assert len(read(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())) == 4


@pytest.mark.parametrize("name", ["copy.csv", "copy.parquet"])
def test_round_trip_keeps_rows_and_says_that_the_book_is_synthetic(tmp_path, read, name):
    table = read(GOOD)
    fields = {**vars(table), "source": "synthetic: by hand, seed 3", "synthetic": True}
    fields["file"] = name
    path = tmp_path / name
    write_positions(path, PositionTable(**fields), comment=["units: tokens"])
    again = read_positions(path, venues=VENUES, assets=ASSETS)
    for key, value in fields.items():
        assert np.array_equal(getattr(again, key), value), key
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "positions.csv"])


def test_write_to_absent_folder_leaves_nothing(tmp_path, read):
    with pytest.raises(DataError, match="cannot be written: No such file or directory"):
        write_positions(tmp_path / "absent" / "copy.csv", read(GOOD))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            'a1,pool,WETH,debt,"1,250.5"',
            'positions.csv:2: amount: "1,250.5" is not a number (thousands separator?). '
            "Use 1250.5.",
        ),
        (
            "a1,pool,WETH,debt,1'250",
            'positions.csv:2: amount: "1\'250" is not a number (thousands separator?). Use 1250.',
        ),
        (
            "a1,pool,WETH,debt,1_250",
            'positions.csv:2: amount: "1_250" is not a number (thousands separator?). Use 1250.',
        ),
        (
            'a1,pool,WETH,debt,"12,5"',
            'positions.csv:2: amount: "12,5" is not a number (decimal comma?). Use 12.5.',
        ),
        (
            'a1,pool,WETH,debt,"1.250,5"',
            'positions.csv:2: amount: "1.250,5" is not a number (decimal comma?). Use 1250.5.',
        ),
        (
            "a1,pool,WETH,debt,1,250.5",
            "positions.csv:2: expected 5 fields, found 6 "
            "(a thousands separator or decimal comma without quotes?)",
        ),
        ("a1,pool,WETH,debt,ten", 'positions.csv:2: amount: "ten" is not a number'),
        ("a1,pool,WETH,debt,", "positions.csv:2: amount: empty; expected a number"),
        (
            "a1,pool,WETH,debt,NaN",
            'positions.csv:2: amount: "NaN" is not a finite number; give the value or drop the row',
        ),
        (
            "a1,pool,WETH,debt,inf",
            'positions.csv:2: amount: "inf" is not a finite number; give the value or drop the row',
        ),
        (
            "a1,pool,WETH,debt,-5",
            "positions.csv:2: amount: -5 is negative; expected token units, 0 or more "
            "(a debt has side debt)",
        ),
        (
            "a1,pol,WETH,debt,5",
            'positions.csv:2: venue: "pol" is unknown; expected one of pool; did you mean pool?',
        ),
        (
            "a1,pool,WTEH,debt,5\na2,pool,WTEH,debt,5",
            'positions.csv:2: asset: "WTEH" has a position but no price; did you mean WETH? '
            "Else add [assets.WTEH] or drop the row (2 rows)",
        ),
        (
            "a1,pool,LINK,debt,5",
            'positions.csv:2: asset: "LINK" has a position but no price; '
            "add [assets.LINK] or drop the row",
        ),
        (
            "a1,pool,WETH,borrow,5",
            'positions.csv:2: side: "borrow" is unknown; expected one of collateral, debt, long, '
            "short; did you mean debt?",
        ),
        (
            "a1,pool,WETH,Debt,5",
            'positions.csv:2: side: "Debt" is unknown; expected one of collateral, debt, long, '
            "short; did you mean debt?",
        ),
        (
            "a1,pool,WETH,debt,5\n# x\na1,pool,WETH,debt,6",
            "positions.csv:4: account_id: same account, venue, asset and side as line 2; "
            "add them up",
        ),
        (" ,pool,WETH,debt,5", "positions.csv:2: account_id: empty; expected a name"),
        (
            "a1,pool,WETH,debt,0",
            "positions.csv: no position has an amount above 0; the book is empty",
        ),
        ("", "positions.csv: no rows; expected a header and at least one row"),
    ],
)
def test_problem_names_file_line_column_and_likely_meaning(problems, rows, expected):
    assert problems(HEADER + rows + "\n") == [expected]


def test_category_problems(problems):
    text = (
        "account_id,venue,asset,side,amount,category\n"
        "a1,pool,WETH,debt,5,correlatd\n"
        "a1,pool,wstETH,collateral,5,correlated\n"
    )
    assert problems(text) == [
        'positions.csv:2: category: "correlatd" is unknown; expected one of correlated; '
        "did you mean correlated?",
        'positions.csv:3: category: "correlated" but this account is also in "correlatd"; '
        "expected one",
    ]


def test_column_problems(problems):
    assert problems("account_id,venue,asset,amnt\na1,pool,WETH,1\n") == [
        "positions.csv: missing column side; the columns are account_id, venue, asset, amnt",
        "positions.csv: missing column amount; the columns are account_id, venue, asset, amnt; "
        "is it amnt?",
    ]
    assert problems(HEADER.replace("amount", "amount,categroy") + "a1,pool,WETH,debt,1,x\n") == [
        "positions.csv: unknown column categroy. Did you mean category?"
    ]


def test_problems_come_together_up_to_twenty(problems):
    found = problems(HEADER + "".join(f"a{i},pool,WETH,debt,-1\n" for i in range(30)))
    assert len(found) == 21
    assert found[0].startswith("positions.csv:2: amount: -1 is negative")
    assert found[-1] == "positions.csv: and 10 more problems"


def test_files_that_cannot_be_read(tmp_path, read):
    (tmp_path / "positions.csv").write_text(GOOD)
    for name, expected in [
        ("position.csv", "position.csv: no such file; did you mean "),
        ("positions.xlsx", "positions.xlsx: expected a .csv or .parquet file"),
    ]:
        with pytest.raises(DataError, match=expected):
            read_positions(tmp_path / name, venues=VENUES, assets=ASSETS)
    with pytest.raises(DataError, match=r"b.csv: not UTF-8 text; save the CSV as UTF-8"):
        read(b"account_id\n\xff\n", "b.csv")
    with pytest.raises(DataError, match=r"b.parquet: cannot be read: "):
        read(b"not parquet", "b.parquet")


def test_parquet_problems_name_the_row(tmp_path):
    path = tmp_path / "p.parquet"
    columns = {
        "account_id": [1, 2, 3],
        "venue": pa.array(["pool"] * 3).dictionary_encode(),
        "asset": ["WETH"] * 3,
        "side": ["debt"] * 3,
        "amount": [1.0, float("nan"), -2.0],
    }
    pq.write_table(pa.table(columns), path)
    with pytest.raises(DataError) as caught:
        read_positions(path, venues=VENUES, assets=ASSETS)
    assert [p.replace(f"{tmp_path}/", "") for p in caught.value.problems] == [
        "p.parquet:2: amount: nan is not a finite number; give the value or drop the row",
        "p.parquet:3: amount: -2 is negative; expected token units, 0 or more "
        "(a debt has side debt)",
    ]


LONG = (
    "time,asset,price\n"
    "2025-01-01T00:00:00Z,ETH,100\n"
    "2025-01-01T01:00:00Z,ETH,110\n"
    "2025-01-01T03:00:00Z,ETH,120\n"
    "2025-01-01T00:00:00Z,USDC,1\n"
    "2025-01-01T02:30:00+01:00,USDC,0.99\n"
    "2025-01-01T03:00:00Z,USDC,1.01\n"
    "2025-01-01T00:00:00Z,OTHER,-7\n"
)


@pytest.fixture
def prices(tmp_path):
    def prices(text, assets=("USDC", "WETH"), **options):
        path = tmp_path / "prices.csv"
        path.write_text(text)
        return read_prices(path, assets, **{"rename": {"ETH": "WETH"}, **options})

    return prices


@pytest.fixture
def price_problems(prices, tmp_path):
    def price_problems(*args, **options):
        with pytest.raises(DataError) as caught:
            prices(*args, **options)
        return [p.replace(f"{tmp_path}/", "") for p in caught.value.problems]

    return price_problems


def test_long_prices_are_carried_to_a_regular_grid(prices):
    table = prices(LONG, step_hours=1.0)
    assert table.assets == ("USDC", "WETH")
    hours = (table.times - np.datetime64("2025-01-01")) / np.timedelta64(1, "h")
    assert_close(hours, [0.0, 1.0, 2.0, 3.0], rtol=0, atol=0)
    # At 01:00 the last USDC price is that of 00:00; that of 01:30 counts from 02:00.
    expected = [[1.0, 100.0], [1.0, 110.0], [0.99, 110.0], [1.01, 120.0]]
    assert_close(table.prices, expected, rtol=0, atol=0)
    assert table.carried == {"USDC": 1, "WETH": 1}


def test_without_a_step_gaps_are_refused(price_problems):
    assert price_problems(LONG) == [
        'prices.csv: no price of asset "USDC" at 2025-01-01T01:00:00.000000 (gaps: 1); '
        "give a step to carry the last price forward",
        'prices.csv: no price of asset "WETH" at 2025-01-01T01:30:00.000000 (gaps: 1); '
        "give a step to carry the last price forward",
    ]


def test_wide_prices_and_epoch_times(prices):
    seconds = "time,ETH,USDC\n1735689600,100,1\n1735693200,101,1\n"
    milliseconds = seconds.replace("00,10", "00000,10")
    for text in (seconds, milliseconds):
        table = prices(text)
        assert table.times.tolist()[0].isoformat() == "2025-01-01T00:00:00"
        assert_close(table.prices, [[1.0, 100.0], [1.0, 101.0]], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "time,asset,price\n2025-01-01,ETH,100\n2025-01-02,ETH,0\n",
            "prices.csv:3: price: 0 is not a price; expected a number above 0",
        ),
        (
            "time,asset,price\n2025-01-01,ETH,100\n2025-01-02,ETH,NaN\n",
            'prices.csv:3: price: "NaN" is not a finite number; give the value or drop the row',
        ),
        (
            "time,asset,price\n2025-01-02,ETH,100\n2025-01-01,ETH,99\n",
            "prices.csv:3: time: 2025-01-01T00:00:00.000000 is earlier than the row before; "
            "expected times that rise",
        ),
        (
            "time,asset,price\n2025-01-01,ETH,100\n2025-01-01,ETH,99\n",
            "prices.csv:3: time: 2025-01-01T00:00:00.000000 is the same as the row before; "
            "expected times that rise",
        ),
        (
            "time,asset,price\n01/02/2025,ETH,100\n",
            'prices.csv:2: time: "01/02/2025" is not a time; '
            "expected 2025-10-10T00:00:00 (UTC) or epoch seconds",
        ),
        (
            "time,asset,price\n2025-01-01,ETHUSDT,100\n",
            'prices.csv: no history for asset "WETH"; the table has ETHUSDT. Map names with rename',
        ),
        (
            "time,WETHH\n2025-01-01,100\n",
            'prices.csv: no history for asset "WETH"; did you mean WETHH? Map names with rename',
        ),
        (
            "date,asset,price\n2025-01-01,ETH,100\n",
            "prices.csv: missing column time; the columns are date, asset, price",
        ),
    ],
)
def test_price_problem_names_file_line_column_and_likely_meaning(price_problems, text, expected):
    rename = {"ETH": "WETH"} if "ETH," in text else {}
    assert price_problems(text, ("WETH",), rename=rename) == [expected]


def test_long_gaps_and_short_histories_are_refused(price_problems):
    text = "time,ETH\n2025-01-01,100\n2025-01-03,100\n"
    assert price_problems(text, ("WETH",), step_hours=1.0) == [
        'prices.csv: asset "WETH" has no price for 47.0 h before 2025-01-02T23:00:00.000000; '
        "expected gaps of at most 24 h"
    ]
    assert price_problems(text, ("WETH",), step_hours=50.0) == [
        "prices.csv: the histories share 2025-01-01T00:00:00.000000 to "
        "2025-01-03T00:00:00.000000, less than a step of 50 h"
    ]


def test_recorded_candles_of_two_assets(shared):
    table = read_prices(
        shared / "data/prices/btc_eth_usdt_binance_usdm_perp_1h_2019_2024.parquet",
        ("WETH", "WBTC"),
        time_column="open_time",
        asset_column="symbol",
        price_column="close",
        rename={"ETHUSDT": "WETH", "BTCUSDT": "WBTC"},
        step_hours=1.0,
    )
    assert table.prices.shape == (len(table.times), 2)
    assert set(np.diff(table.times)) == {np.timedelta64(1, "h")}
    assert_close(table.prices[-1, 0], 2228.07, rtol=0, atol=0)


def test_recorded_candles_of_one_asset(shared):
    table = read_prices(
        shared / "data/prices/usdc_usd_15min_2023_03_depeg.parquet",
        ("USDC",),
        time_column="dt",
        rename={"c": "USDC"},
    )
    assert table.prices.shape == (808, 1)
    assert 0.85 < table.prices.min() < 0.93


CONTRACTS = (
    "account_id,venue,asset,side,amount,entry\n"
    "a1,pool,USDC,collateral,100,\n"
    "a1,pool,WETH-PERP,long,2,2950.5\n"
    "a1,pool,WETH-30D-3200-C,short,1,\n"
)


def test_contracts_have_a_side_and_maybe_an_entry_price(read, tmp_path):
    table = read(CONTRACTS)
    assert table.side.tolist() == ["collateral", "long", "short"]
    assert table.entry is not None
    assert_close(np.nan_to_num(table.entry, nan=-1.0), [-1.0, 2950.5, -1.0], rtol=0, atol=0)
    write_positions(tmp_path / "copy.csv", table)
    again = read_positions(tmp_path / "copy.csv", venues=VENUES, assets=ASSETS)
    assert again.entry is not None
    assert np.array_equal(again.entry, table.entry, equal_nan=True)


def test_contracts_on_unknown_assets_and_stray_entry_prices_are_refused(problems):
    assert problems(CONTRACTS.replace("WETH-PERP", "DOGE-PERP"))[0].startswith(
        'positions.csv:3: asset: "DOGE" has a position but no price'
    )
    stray = problems(CONTRACTS.replace("100,\n", "100,5\n"))
    assert stray == ["positions.csv:2: entry: goes with side long or short; leave it empty"]
    negative = problems(CONTRACTS.replace("2950.5", "-1"))
    assert negative == ["positions.csv:3: entry: -1 is negative; expected a price, 0 or more"]
