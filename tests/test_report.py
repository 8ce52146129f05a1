"""The report renders a realistic run, says what is missing, and leaks nothing to the network."""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxrisk.run import charts
from jaxrisk.run import formatting as fmt
from jaxrisk.run.printing import console, plan_line, print_summary
from jaxrisk.run.report import render_report, write_report

ASSETS = ("WETH", "wstETH", "WBTC", "USDC")
VENUES = ("pool", "blue")
LEVELS = (0.95, 0.99)


def _tail(loss, scale=1.0):
    """A measure's summary as the run writes it, errors from simple large-sample formulas."""
    loss = loss * scale
    entry = {"mean": loss.mean(), "standard_error": loss.std() / math.sqrt(loss.size)}
    for level in LEVELS:
        quantile = np.quantile(loss, level)
        beyond = loss[loss >= quantile]
        entry[f"var_{level}"] = quantile
        entry[f"var_{level}_standard_error"] = 0.03 * quantile
        entry[f"es_{level}"] = beyond.mean()
        entry[f"es_{level}_standard_error"] = beyond.std() / math.sqrt(beyond.size)
    return {key: float(value) for key, value in entry.items()}


def _scenarios(rng, count):
    loss = np.where(rng.random(count) < 0.12, np.exp(rng.normal(11.3, 1.6, count)), 0.0)
    liquidated = loss * 6 + np.where(rng.random(count) < 0.6, np.exp(rng.normal(14, 1.2, count)), 0)
    return {
        "scenario": np.arange(count),
        "bad_debt_usd": loss,
        "liquidated_usd": liquidated,
        "borrower_loss_usd": liquidated * 0.06,
        "supplier_loss_usd": loss * 0.8,
        "keeper_profit_usd": liquidated * 0.021,
        "protocol_fee_usd": liquidated * 0.005,
        "conservation_error_frac": rng.random(count) * 1e-15,
        "rounds": rng.integers(0, 4, count),
        "converged": rng.random(count) > 0.002,
        **{f"final_price_{asset}_usd": rng.random(count) * 3000 for asset in ASSETS},
        "bad_debt_pool_usd": loss * 0.7,
        "bad_debt_blue_usd": loss * 0.3,
        "reserve_pool_usd": loss * 0.2,
        "suppliers_written_down_blue_usd": loss * 0.3,
    }


def _accounts(rng, count):
    debt = np.exp(rng.normal(10, 1.8, count))
    health = np.exp(rng.normal(0.4, 0.3, count))
    expected = debt * np.clip(1.25 - health, 0, None) ** 2 * 0.05
    value = 0.82 / health
    return {
        "account_id": np.array(
            [f"0x{int(a):040x}" for a in rng.integers(2**40, 2**60, count)], dtype=object
        ),
        "venue": np.where(rng.random(count) < 0.8, *VENUES),
        "category": np.where(rng.random(count) < 0.2, "eth correlated", "").astype(object),
        "owner": np.full(count, ""),
        "collateral_usd": debt / value,
        "debt_usd": debt,
        "loan_to_value_frac": value,
        "health_factor": health,
        "leverage": np.where(value < 1, 1 / (1 - value), np.inf),
        "debt_to_equity": np.where(value < 1, value / (1 - value), np.inf),
        "distance_to_liquidation_frac": 1 - 1 / health,
        "liquidation_price_WETH_usd": 3100 / health,
        "toxic": value > 1 / 1.05,
        "expected_bad_debt_usd": expected,
        "expected_bad_debt_standard_error_usd": expected * 0.08,
        "liquidation_probability_frac": np.clip(1.4 - health, 0, 1),
        "expected_loss_usd": expected * 2,
    }


def _liquidation_map():
    rows = []
    for venue, size in zip(VENUES, (2.4e7, 9e6), strict=True):
        for asset, share in (("WETH", 0.6), ("wstETH", 0.25), ("WBTC", 0.15), ("all", 1.1)):
            for move in np.round(np.arange(0.0, -0.61, -0.02), 2):
                debt = size * share / (1 + math.exp(18 * (move + 0.27)))
                bad = 0.3 * debt * max(0.0, -move - 0.3) if asset == "all" else 0.0
                rows.append((venue, asset, move, debt, 1.1 * debt, bad))
    names = ("venue", "asset", "price_change_frac", "liquidatable_debt_usd")
    names += ("liquidatable_collateral_usd", "bad_debt_usd")
    return {
        name: np.array(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }


def _path_quantiles(steps=48):
    levels = (-1.645, -0.674, 0.0, 0.674, 1.645)
    columns = {"quantity": [], "step": [], "time_hours": []}
    columns |= {name: [] for name in ("q05", "q25", "q50", "q75", "q95", "mean")}
    start = {"WETH": 3119.0, "wstETH": 3774.0, "WBTC": 91000.0, "USDC": 1.0}
    quantities = [f"price.{asset}" for asset in ASSETS] + ["bad_debt_usd", "liquidated_usd"]
    for quantity in quantities:
        for step in range(steps + 1):
            spread = 0.009 * math.sqrt(step) * (0.02 if quantity == "price.USDC" else 1)
            if quantity.startswith("price."):
                spot = start[quantity.removeprefix("price.")]
                values = [spot * math.exp(level * spread) for level in levels] + [spot]
            elif quantity == "bad_debt_usd":
                values = [0, 0, 0, 0, 3e4 * (step / steps) ** 2, 6e4 * step / steps]
            else:
                values = [x * 1e6 * step / steps for x in (0, 0.2, 0.8, 2.0, 6.0, 1.7)]
            columns["quantity"].append(quantity)
            columns["step"].append(step)
            columns["time_hours"].append(float(step))
            for name, value in zip(
                ("q05", "q25", "q50", "q75", "q95", "mean"), values, strict=True
            ):
                columns[name].append(value)
    return {name: np.array(values) for name, values in columns.items()}


def _critical():
    """The tables of critical points: one asset, two points, a corner without bad debt."""
    change = np.linspace(0.0, -0.8, 9)
    first, second = np.meshgrid(np.linspace(0.0, -0.6, 4), np.linspace(0.0, -0.3, 4), indexing="ij")
    fall = -(first + second).ravel()
    text = lambda name, count: np.full(count, name, dtype=object)
    return {
        "critical_points": {
            "asset": text("WETH", 2),
            "sold_asset": np.array(["WETH", "wstETH"], dtype=object),
            "price_usd": np.array([2500.0, 1800.0]),
            "price_change_frac": np.array([-0.2, -0.42]),
            "distance_deviations": np.array([3.1, 7.4]),
            "accounts": np.array([4, 11]),
            "sold_usd": np.array([1.23e6, 6.5e6]),
            "own_drop_frac": np.array([0.01, 0.04]),
        },
        "feedback": {
            "asset": text("WETH", 9),
            "sold_asset": text("WETH", 9),
            "price_change_frac": change,
            "forced_sales_usd": 2e7 * change**2,
            "depth_cover": 2e7 / np.maximum(2e7 * change**2, 1.0),
            "own_drop_frac": -0.3 * change,
            "feedback_gain": 3.0 * change**2,
            "amplification": np.where(3.0 * change**2 < 1.0, 2.0, np.inf),
        },
        "survival": {
            "first_asset": text("WETH", 16),
            "second_asset": text("wstETH", 16),
            "first_change_frac": first.ravel(),
            "second_change_frac": second.ravel(),
            "liquidatable_debt_usd": 1e7 * fall,
            "bad_debt_usd": 1e6 * np.maximum(fall - 0.5, 0.0),
            "standing_debt_frac": 1.0 - 0.8 * fall,
        },
    }


def _sensitivities():
    rows = [
        (
            "liquidation_threshold.WETH",
            0.83,
            -1.9e6,
            9e4,
            "smoothed gate 0.02",
            -1.8e6,
            1.2e5,
            True,
        ),
        ("liquidation_bonus.WETH", 0.05, 2.1e6, 2e5, "smoothed gate 0.02", 2.3e6, 3e5, True),
        ("volatility.WETH", 0.75, 4.1e5, 1.5e4, "pathwise", 4.0e5, 2.5e4, True),
        ("volatility.WBTC", 0.55, 8.0e4, 6e3, "pathwise", 8.2e4, 9e3, True),
        ("correlation", 0.6, 1.2e5, 9e4, "bump", 1.2e5, 9e4, False),
        ("depth.WETH", 4.0e7, -3.1e-3, 2e-4, "smoothed gate 0.02", -1.1e-3, 3e-4, False),
        ("insurance.pool", 0.0, -0.11, 0.004, "pathwise", -0.11, 0.005, True),
        ("depth.wstETH", 1.2e7, -2.0e-3, math.nan, "bump", math.nan, math.nan, None),
    ]
    keys = ("parameter", "value", "derivative", "standard_error", "estimator")
    keys += ("bump_derivative", "bump_standard_error", "agrees")
    return [{"measure": "bad_debt_usd", **dict(zip(keys, row, strict=True))} for row in rows]


def _solvency():
    delta = {"WETH": -1.31, "wstETH": -0.62, "WBTC": -0.28, "USDC": 0.94}
    pool = {"debt_usd": 1.9e7, "equity_usd": 1.6e7, "debt_to_equity": 1.19, "assets": ["WETH"]}
    blue = {"debt_usd": 6.1e6, "equity_usd": 3.0e6, "debt_to_equity": 2.03, "assets": ["wstETH"]}
    system = {"debt_usd": 2.51e7, "equity_usd": 1.9e7, "debt_to_equity": 1.32}
    return {
        "system": {**system, "debt_to_equity_delta": delta},
        "venues": {
            "pool": {**pool, "debt_to_equity_delta": delta},
            "blue": {**blue, "debt_to_equity_delta": {"wstETH": -4.1, "USDC": 4.2}},
        },
    }


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(5)
    return {
        "scenarios": _scenarios(rng, 20000),
        "accounts": _accounts(rng, 500),
        "liquidation_map": _liquidation_map(),
        "path_quantiles": _path_quantiles(),
        **_critical(),
    }


@pytest.fixture(scope="module")
def summary(tables):
    scenarios = tables["scenarios"]
    loss = scenarios["bad_debt_usd"]
    measures = {
        name: _tail(scenarios[name])
        for name in scenarios
        if name.endswith("_usd") and not any(part in name for part in (*VENUES, "minimum"))
    }
    chance = float((loss > 0).mean())
    return {
        "name": "Quickstart",
        "synthetic": True,
        "measures": measures,
        "probabilities": {
            "any_bad_debt": {"mean": chance, "standard_error": 0.0023},
            "bad_debt_above_threshold": {
                "threshold_usd": 1e6,
                "mean": float((loss > 1e6).mean()),
                "standard_error": 0.0006,
            },
            "unconverged": {"mean": 0.002, "standard_error": 0.0003},
        },
        "bearers": [
            _bearer("pool", "reserve", loss * 0.2),
            _bearer("pool", "insurance", loss * 0.1),
            _bearer("pool", "suppliers (deficit carried)", loss * 0.4),
            _bearer("blue", "suppliers (written down)", loss * 0.3),
        ],
        "solvency": _solvency(),
        "snapshot": {
            "accounts": 500,
            "debt_usd": 2.51e7,
            "collateral_usd": 4.41e7,
            "median_health_factor": 1.49,
            "debt_below_health_1_1_usd": 2.1e6,
            "insolvent_accounts": 2,
            "liquidatable_accounts": 31,
            "toxic_share_frac": 0.012,
        },
        "sensitivities": _sensitivities(),
        "critical": {"spectral_radius": 1.4},
        "data_quality": [
            "2 accounts (0.4 % of debt) are insolvent at the start: 0x9600…2745, 0x12ab…00ff.",
            "Collateral mix imputed for 0 % of debt.",
        ],
        "assumptions": [
            "Prices follow a correlated jump diffusion with the volatilities of the configuration.",
            "Forced sales move prices by a square-root law; 30 % of the move is permanent.",
            "Owners do not repay or add collateral within the horizon.",
        ],
        "run": {
            "versions": {"jaxrisk": "0.1.0", "jax": "0.10.1", "numpy": "2.4.6", "python": "3.11.9"},
            "device": "cpu, 2 devices",
            "precision": "float64",
            "seed": 1,
            "scenarios": 20000,
            "steps": 48,
            "step_hours": 1.0,
            "seconds": {"compile": 6.1, "run": 4.4, "total": 13.0},
            "config_hash": "sha256:3f1c9a0b7d",
            "command": "jaxrisk run configs/quickstart.toml --seed 1",
        },
    }


def _bearer(venue, bearer, loss):
    entry = _tail(loss)
    return {
        "venue": venue,
        "bearer": bearer,
        "mean_usd": entry["mean"],
        "standard_error_usd": entry["standard_error"],
        "es_usd": entry["es_0.99"],
    }


CONFIG = 'name = "Quickstart"\n\n[run]\nscenarios = 20000\nsteps = 48\nstep_hours = 1.0\nseed = 1\n'

SECTIONS = (
    "Key figures",
    "Loss distribution",
    "Prices and losses over time",
    "Liquidation map",
    "Critical points",
    "Who bears the loss",
    "Accounts behind the bad debt",
    "Sensitivities",
    "Solvency",
    "Assumptions and data quality",
    "Reproduction",
)


class _Outline(HTMLParser):
    """Collects headings, SVG descriptions and addresses, and checks that elements are closed."""

    VOID = frozenset({"meta", "br", "link", "img", "hr"})

    def __init__(self, text):
        super().__init__()
        self.headings, self.described, self.addresses, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "svg":
            assert attributes["role"] == "img"
            self.described.append(attributes["aria-label"])
        self.addresses += [attributes[key] for key in ("src", "href") if key in attributes]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "h2":
            self.headings.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings[-1] += data


@pytest.fixture(scope="module")
def report(summary, tables):
    return render_report(summary, tables, CONFIG)


def test_sections_come_in_order_and_elements_close(report):
    outline = _Outline(report)
    assert outline.headings == list(SECTIONS)
    assert outline.open == []
    assert len(outline.described) == 7
    assert all(len(text) > 40 for text in outline.described)


def test_report_is_one_small_file_that_fetches_nothing(tmp_path, summary, tables):
    path = write_report(tmp_path, summary, tables, CONFIG)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 2e6
    # Links inside the charts (clip paths, markers) are the only addresses.
    assert all(address.startswith("#") for address in _Outline(text).addresses)
    assert "<script" not in text
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_report_is_the_same_bytes_each_time(report, summary, tables):
    assert render_report(summary, tables, CONFIG) == report


def test_report_prints_the_figures_with_their_errors(report, summary):
    measure = summary["measures"]["bad_debt_usd"]
    for key in ("mean", "var_0.95", "es_0.95", "var_0.99", "es_0.99"):
        error = "standard_error" if key == "mean" else f"{key}_standard_error"
        assert f">{fmt.amount(measure[key], '')}<" in report
        assert f">± {fmt.amount(measure[error], '')}<" in report
    assert fmt.headline(summary) in report
    assert summary["run"]["command"] in report
    assert summary["run"]["config_hash"] in report
    assert "17,576 of 20,000 scenarios (87.9 %) leave no bad debt." in report


def test_synthetic_is_said_of_synthetic_books_only(report, summary, tables):
    real = {**summary, "synthetic": False}
    assert report.lower().count("synthetic book") >= 4
    assert "synthetic book" not in render_report(real, tables, CONFIG).lower()


def test_failed_bump_checks_are_marked_in_chart_and_table(report):
    assert "✕ 2 of 8" in report
    assert report.count("✕ fails bump check") == 2
    assert report.count('class="doubt"') == 2
    assert f"depth.WETH {fmt.MINUS}1.24 k USD (fails its bump check)" in report


def test_names_from_data_are_escaped(summary, tables):
    nasty = '<script>alert("x")</script>'
    accounts = {**tables["accounts"], "account_id": np.full(500, nasty, dtype=object)}
    bearers = [{**summary["bearers"][0], "venue": nasty, "bearer": nasty}]
    named = {**summary, "name": nasty, "data_quality": [nasty], "bearers": bearers}
    text = render_report(named, {**tables, "accounts": accounts}, nasty)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") > 5


def test_accounts_are_ranked_by_expected_bad_debt(report, tables):
    accounts = tables["accounts"]
    first = accounts["account_id"][np.argmax(accounts["expected_bad_debt_usd"])]
    assert re.findall(r'title="(0x[0-9a-f]{40})"', report)[0] == first
    assert len(re.findall(r'title="0x[0-9a-f]{40}"', report)) == 20


def test_critical_points_are_drawn_and_listed_nearest_first(report, summary, tables):
    assert "Forced sales against the fall of each asset: WETH up to 12.8 M USD." in report
    assert "down to 28.0 % at the worst corner, with 400 k USD of bad debt" in report
    assert "log fall of 0.1: 1.4; such falls feed each other." in report
    assert ">wstETH with WETH</th>" in report
    assert report.index("<td>2.50 k</td>") < report.index("<td>1.80 k</td>")
    calm = {**tables["survival"], "bad_debt_usd": np.zeros(16)}
    assert "no bad debt</text>" in render_report(summary, {**tables, "survival": calm}, CONFIG)


def test_losses_that_are_rounding_are_not_drawn(tables):
    paths = tables["path_quantiles"]
    lost = paths["quantity"] == "bad_debt_usd"
    noise = {
        name: np.where(lost, 1e-9 * np.arange(lost.size), values)
        for name, values in paths.items()
        if name.startswith("q0") or name in ("q25", "q50", "q75", "q95", "mean")
    }
    drawn = charts.fan({**paths, **noise})
    assert drawn is not None
    assert ">none</text>" in drawn
    assert ">none</text>" not in (charts.fan(paths) or "")


def test_missing_tables_and_figures_cost_a_sentence_each(summary):
    measures = {"bad_debt_usd": {"mean": 5.0, "standard_error": math.nan, "es_0.99": None}}
    bare = {"measures": measures, "run": summary["run"]}
    text = render_report(bare, {"accounts": {}, "liquidation_map": {}}, "")
    outline = _Outline(text)
    assert outline.headings == list(SECTIONS)
    assert outline.described == []
    assert text.count('class="missing"') == 9
    assert "5.00 USD (± n/a)" in text
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_panels_without_room_are_counted(summary, tables):
    table = tables["liquidation_map"]
    rows = table["venue"] == "pool"
    pool = {name: values[rows] for name, values in table.items()}
    many = {name: np.concatenate([values] * 6) for name, values in pool.items()}
    many["venue"] = np.repeat([f"venue {index}" for index in range(6)], int(rows.sum()))
    text = render_report(summary, {**tables, "liquidation_map": many}, CONFIG)
    assert "2 more in liquidation_map.parquet." in text
    assert "venue 3: debt liquidatable" in text
    assert "venue 4: debt liquidatable" not in text


def test_contracts_on_margin_show_their_notional_in_accounts_and_map(summary, tables):
    accounts, table = tables["accounts"], tables["liquidation_map"]
    on_margin = accounts["venue"] == "blue"
    mixed = {**accounts, "notional_usd": np.where(on_margin, 7.77e5, np.nan)}
    here = table["venue"] == "blue"
    debt = table["liquidatable_debt_usd"]
    called = {
        **table,
        "liquidatable_debt_usd": np.where(here, 0.0, debt),
        "liquidatable_notional_usd": np.where(here, debt, 0.0),
    }
    text = render_report(summary, {**tables, "accounts": mixed, "liquidation_map": called}, CONFIG)
    assert "Contracts on margin count by what they are about, on blue" in text
    assert "of the accounts on blue the collateral alone counts" in text
    assert "blue: contracts called" in text
    assert "pool: debt liquidatable" in text
    assert "Debt or<br>notional" in text
    worst = np.argsort(-accounts["expected_bad_debt_usd"])[:20]
    assert text.count("<td>777 k</td><td>n/a</td>") == int(on_margin[worst].sum()) > 0
    # What is called after a joint fall is the same sum, of debts and of contracts.
    falls = lambda text: text.split("Left as bad debt if closed in full")[1].split("</table>")[0]
    assert falls(text) == falls(render_report(summary, tables, CONFIG))


def test_a_report_of_contracts_alone_speaks_of_no_debt(summary, tables):
    alone = {**tables["accounts"], "notional_usd": np.full(500, 7.77e5)}
    book = {**summary["snapshot"], "debt_usd": 0.0}
    changed = {**summary, "snapshot": book}
    text = render_report(changed, {**tables, "accounts": alone}, CONFIG)
    assert "Liquidatable debt or notional" in text
    assert "Debt at health below 1.1" not in text
    assert "44.1 M USD" in text


def test_losses_where_nothing_is_lent_are_no_share_of_debt(summary):
    venues = summary["solvency"]["venues"]
    mixed = {**venues, "perps": {"debt_usd": 0.0, "equity_usd": 1e6}}
    changed = {**summary, "solvency": {**summary["solvency"], "venues": mixed}}
    assert "of all debt" in fmt.headline(summary)
    assert "of all debt" not in fmt.headline(changed)


def test_a_run_without_bad_debt_reads_sensibly(summary, tables):
    none = dict.fromkeys(summary["measures"]["bad_debt_usd"], 0.0)
    chances = {"any_bad_debt": {"mean": 0.0, "standard_error": 0.0}}
    quiet = {
        **summary,
        "measures": {"bad_debt_usd": none},
        "probabilities": chances,
        "bearers": [{**row, "mean_usd": 0.0} for row in summary["bearers"]],
        "sensitivities": [],
    }
    scenarios = {"bad_debt_usd": np.zeros(100)}
    accounts = {**tables["accounts"], "expected_bad_debt_usd": np.zeros(500)}
    text = render_report(quiet, {"scenarios": scenarios, "accounts": accounts}, CONFIG)
    assert (
        "left no bad debt in any scenario (95 % upper bound on its probability: 0.0150 %)" in text
    )
    assert "100 of 100 scenarios (100 %) leave no bad debt. There is no positive loss" in text
    assert "No account leaves bad debt in expectation" in text


@pytest.mark.parametrize(
    "loss", [np.full(10, 3.0), np.array([0.0, 1e-4, 5e9]), np.array([np.nan, 7.0])]
)
def test_loss_chart_stands_odd_distributions(loss):
    chart = charts.loss_distribution(loss, [("VaR 95 %", 0.0), ("ES 95 %", 4.0)])
    assert chart is not None
    assert "ES 95 %" in chart


def test_charts_leave_matplotlib_as_it_was(tables):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    charts.liquidation_map(tables["liquidation_map"])
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (1234567.0, 41234.0, "1.235 ± 0.041 M USD"),
        (999600.0, 1000.0, "0.9996 ± 0.0010 M USD"),
        (-0.001, 250.0, "0 ± 250 USD"),
        (0.0, 0.0, "0 ± 0 USD"),
        (12.0, math.nan, "12.0 USD (± n/a)"),
        (None, 1.0, "n/a"),
        (math.inf, 1.0, "∞"),
    ],
)
def test_amounts_carry_the_decimals_their_error_deserves(value, error, expected):
    assert fmt.amount_with_error(value, error) == expected


def test_summary_prints_on_stdout_with_errors_and_checks(capsys, summary, tmp_path):
    print_summary(summary, report=tmp_path / "report.html")
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith("SYNTHETIC BOOK")
    measure = summary["measures"]["bad_debt_usd"]
    shown = fmt.amount_with_error(measure["es_0.99"], measure["es_0.99_standard_error"], "")
    assert shown in captured.out
    assert captured.out.count("FAILS") == 2
    assert f"report: {tmp_path / 'report.html'}" in captured.out
    assert "\x1b[" not in captured.out


def test_plan_line_says_what_is_coming():
    line = plan_line(
        accounts=500,
        assets=4,
        venues=1,
        scenarios=20000,
        steps=48,
        step_hours=1.0,
        device="cpu, 2 devices",
        precision="float64",
        memory_bytes=4e8,
        synthetic=True,
    )
    assert line == (
        "plan: 500 synthetic accounts, 4 assets, 1 venue; 20,000 scenarios, 48 steps of 1 h; "
        "cpu, 2 devices, float64; about 0.4 GB"
    )


def test_console_reads_no_markup_in_names(capsys):
    console().print("account [bold]x[/bold] :smile:")
    assert capsys.readouterr().out == "account [bold]x[/bold] :smile:\n"
