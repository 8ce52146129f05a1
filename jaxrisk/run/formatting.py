"""Numbers and names as people read them, shared by the terminal and the report.

`None` and NaN both mean "not available" (JSON turns the one into the other) and print as n/a.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

NOT_AVAILABLE = "n/a"
MINUS = "\u2212"

_SCALES = ((1e12, "tn"), (1e9, "bn"), (1e6, "M"), (1e3, "k"), (1.0, ""))

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_LABELS = {
    "bad_debt_usd": "Bad debt",
    "liquidated_usd": "Collateral liquidated",
    "shortfall_usd": "Open shortfall",
    "converted_usd": "Collateral converted",
    "conversion_loss_usd": "Conversion loss",
    "borrower_loss_usd": "Borrower loss",
    "supplier_loss_usd": "Supplier loss",
    "keeper_profit_usd": "Keeper profit",
    "protocol_fee_usd": "Protocol fees",
    "any_bad_debt": "Any bad debt",
    "bad_debt_above_threshold": "Bad debt above threshold",
    "unconverged": "Cascade not settled",
}


def as_float(value: Any) -> float:
    """Return `value` as a float, NaN where it is None or no number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def label(name: str) -> str:
    """Return a name as a heading: without its unit, words apart.

    >>> label("bad_debt_usd"), label("gas_cost_usd"), label("bad_debt_usd.es_0.99")
    ('Bad debt', 'Gas cost', 'Bad debt, ES 99 %')
    """
    name, _, level = name.partition(".es_")
    if level:
        return f"{label(name)}, ES {100.0 * float(level):g} %"
    if name in _LABELS:
        return _LABELS[name]
    words = re.sub(r"_(usd|frac)$", "", name).replace("_", " ")
    return words[:1].upper() + words[1:]


def count(value: Any) -> str:
    """Return a whole number with separators: 20,000."""
    number = as_float(value)
    return NOT_AVAILABLE if not math.isfinite(number) else f"{number:,.0f}".replace("-", MINUS)


def ratio(value: Any, decimals: int = 2) -> str:
    """Return a plain number with fixed decimals, its size in words beyond 10,000."""
    number = as_float(value)
    if math.isnan(number):
        return NOT_AVAILABLE
    if math.isinf(number):
        return "∞" if number > 0 else f"{MINUS}∞"
    if abs(number) >= 1e4:
        return amount(number, unit="")
    return _signed(f"{number:.{decimals}f}")


def significant(value: Any, digits: int = 3) -> str:
    """Return a number of any size with `digits` significant digits.

    >>> significant(0.00123456), significant(250.0), significant(-12345678.0)
    ('0.00123', '250', '−12.3 M')
    """
    number = as_float(value)
    if not math.isfinite(number) or abs(number) >= 1e4:
        return ratio(number)
    return _signed(f"{number:.{digits}g}")


def amount(value: Any, unit: str = "USD") -> str:
    """Return a value with its scale in words: three significant digits.

    >>> amount(1234567.0), amount(0.0), amount(-840.0, "")
    ('1.23 M USD', '0 USD', '−840')
    """
    number = as_float(value)
    if not math.isfinite(number):
        return ratio(number)
    scale, suffix = _scale(number)
    scaled = number / scale
    text = "0" if number == 0 else f"{scaled:.{_decimals(scaled)}f}"
    if number and abs(number) < 0.01:
        text = f"{number:.2g}"
    return _joined(_signed(text), suffix, unit)


def round_amount(value: Any, unit: str = "USD") -> str:
    """Return a round value (a threshold, an axis tick) with its scale in words, no idle zeros.

    >>> round_amount(1e6), round_amount(2500.0, ""), round_amount(0.9985, "")
    ('1 M USD', '2.5 k', '0.9985')
    """
    number = as_float(value)
    if not math.isfinite(number):
        return ratio(number)
    scale, suffix = _scale(number)
    return _joined(_signed(f"{number / scale:.6g}"), suffix, unit)


def amount_with_error(value: Any, error: Any, unit: str = "USD") -> str:
    """Return value ± standard error on one scale, as many decimals as the error deserves.

    >>> amount_with_error(1234567.0, 41234.0)
    '1.235 ± 0.041 M USD'
    >>> amount_with_error(-3.14e-6, 2e-7, "")
    '(−3.14 ± 0.20)·10⁻⁶'
    """
    number, deviation = as_float(value), as_float(error)
    if not math.isfinite(number):
        return ratio(number)
    if not math.isfinite(deviation):
        return f"{amount(number, unit)} (± {NOT_AVAILABLE})"
    largest = max(abs(number), abs(deviation))
    if 0 < largest < 0.01:
        return _joined(_scientific(number, deviation, largest), unit)
    scale, suffix = _scale(largest)
    decimals = _error_decimals(deviation / scale, number / scale)
    body = f"{number / scale:.{decimals}f} ± {deviation / scale:.{decimals}f}"
    return _joined(_signed(body), suffix, unit)


def percent(value: Any, error: Any = None) -> str:
    """Return a fraction as a percentage, with its standard error where one is given.

    >>> percent(0.1234), percent(0.1234, 0.002), percent(0.1, float("nan"))
    ('12.3 %', '12.34 ± 0.20 %', '10.0 % (± n/a)')
    """
    number = as_float(value) * 100
    if not math.isfinite(number):
        return ratio(number)
    if error is None:
        return _signed(f"{number:.{_decimals(number)}f}") + " %"
    deviation = as_float(error) * 100
    if not math.isfinite(deviation):
        return f"{percent(value)} (± {NOT_AVAILABLE})"
    decimals = _error_decimals(deviation, number)
    return _signed(f"{number:.{decimals}f}") + f" ± {deviation:.{decimals}f} %"


def quantity(name: str, value: Any, error: Any = None) -> str:
    """Return a value in the unit its name ends in (`_usd`, `_frac`, or none), ± error if given."""
    if name.endswith("_frac"):
        return percent(value, error)
    unit = "USD" if name.endswith("_usd") else ""
    return amount(value, unit) if error is None else amount_with_error(value, error, unit)


def duration(seconds: Any) -> str:
    """Return seconds as a span that is read at a glance: 0.4 s, 75 s, 12 min, 3.2 h."""
    number = as_float(seconds)
    if math.isnan(number):
        return NOT_AVAILABLE
    if number < 120:
        return f"{number:.{1 if number < 20 else 0}f} s"
    return f"{number / 60:.0f} min" if number < 7200 else f"{number / 3600:.1f} h"


def horizon(hours: Any) -> str:
    """Return a time span in hours, or in days from five days on.

    >>> horizon(48.0), horizon(1.0), horizon(240.0)
    ('48 hours', '1 hour', '10 days')
    """
    number = as_float(hours)
    if math.isnan(number):
        return NOT_AVAILABLE
    value, unit = (number / 24, "day") if number >= 120 else (number, "hour")
    return f"{value:g} {unit}{'' if value == 1 else 's'}"


def confidences(measure: Mapping[str, Any]) -> list[str]:
    """Return the confidences a measure was taken at, as in its keys, lowest first."""
    found = {match[1] for key in measure if (match := re.fullmatch(r"var_(0?\.\d+)", key))}
    return sorted(found, key=float)


def all_confidences(measures: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the confidences of all measures together, lowest first."""
    return sorted({level for measure in measures.values() for level in confidences(measure)})


def tail_name(confidence: str) -> str:
    """Return the worst share of scenarios a confidence speaks of: '0.99' gives '1 %'."""
    return f"{(1 - float(confidence)) * 100:.4g} %"


def level_name(confidence: str) -> str:
    """Return a confidence as a percentage: '0.995' gives '99.5 %'."""
    return f"{float(confidence) * 100:.4g} %"


def effect(row: Mapping[str, Any], key: str = "derivative") -> float:
    """Return what +1 % of a parameter's size does to a measure, by `key` of a sensitivity row."""
    return as_float(row.get(key)) * abs(as_float(row.get("value"))) * 0.01


def headline(summary: Mapping[str, Any]) -> str:
    """Return the run's result in one or two sentences, with ± one standard error.

    A sample without any bad debt does not show that bad debt is impossible: the sentence then
    gives the 95 % upper bound 3/n on its probability ("rule of three").
    """
    run = summary["run"]
    measure = summary["measures"]["bad_debt_usd"]
    span = horizon(as_float(run.get("steps")) * as_float(run.get("step_hours")))
    scenarios = as_float(run.get("scenarios"))
    book = "a synthetic book" if summary.get("synthetic") else "this book"
    opening = f"Over {span} and {count(scenarios)} scenarios, {book}"
    likely = summary.get("probabilities", {}).get("any_bad_debt", {})
    if as_float(measure.get("mean")) == 0 and as_float(likely.get("mean")) == 0:
        bound = percent(min(3 / scenarios, 1.0)) if scenarios > 0 else NOT_AVAILABLE
        return (
            f"{opening} left no bad debt in any scenario "
            f"(95 % upper bound on its probability: {bound}).{_open_shortfall(summary)}"
        )
    mean = amount_with_error(measure.get("mean"), measure.get("standard_error"))
    sentence = f"{opening} leaves {mean} of bad debt on average"
    debt = as_float(summary.get("snapshot", {}).get("debt_usd"))
    venues = summary.get("solvency", {}).get("venues", {}).values()
    # Losses on a venue where nothing is lent are no share of debt.
    if debt > 0 and not any(as_float(venue.get("debt_usd")) == 0 for venue in venues):
        sentence += f" ({percent(as_float(measure.get('mean')) / debt)} of all debt)"
    if levels := confidences(measure):
        shortfall = amount_with_error(
            measure.get(f"es_{levels[-1]}"), measure.get(f"es_{levels[-1]}_standard_error")
        )
        sentence += f", and {shortfall} on average in its worst {tail_name(levels[-1])}"
    if likely:
        chance = percent(likely.get("mean"), likely.get("standard_error"))
        sentence += f". Some bad debt appears in {chance} of scenarios"
    return f"{sentence}.{_open_shortfall(summary)}"


def _open_shortfall(summary: Mapping[str, Any]) -> str:
    """Return a sentence on debt that is under water and that nobody has recognised, if any."""
    measure = summary["measures"].get("shortfall_usd", {})
    if not as_float(measure.get("mean")) > 0:
        return ""
    mean = amount_with_error(measure.get("mean"), measure.get("standard_error"))
    return f" At the end {mean} more is owed beyond its collateral on average, not yet recognised."


def join_names(names: Sequence[str], limit: int = 6) -> str:
    """Return names as a phrase, the ones beyond `limit` counted."""
    if len(names) > limit:
        return f"{', '.join(names[:limit])} and {len(names) - limit} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1] if names else "")))


def _scale(value: float) -> tuple[float, str]:
    """Return the divisor and its word; 999.6 k already counts as a million."""
    for scale, suffix in _SCALES:
        if abs(value) >= 0.9995 * scale:
            return scale, suffix
    return 1.0, ""


def _decimals(scaled: float) -> int:
    """Return the decimals that give three significant digits, at most four."""
    if scaled == 0 or abs(scaled) >= 99.95:
        return 0
    return min(4, max(0, 2 - math.floor(math.log10(abs(scaled)) + 1e-9)))


def _error_decimals(deviation: float, number: float) -> int:
    """Return the decimals that show two significant digits of the error, at most four."""
    if deviation <= 0:
        return min(2, _decimals(number))
    return min(4, max(0, 1 - math.floor(math.log10(deviation))))


def _scientific(number: float, deviation: float, largest: float) -> str:
    """Return a small value ± error with one power of ten behind both."""
    exponent = math.floor(math.log10(largest))
    scale = 10.0**exponent
    decimals = _error_decimals(deviation / scale, number / scale)
    body = _signed(f"{number / scale:.{decimals}f} ± {deviation / scale:.{decimals}f}")
    return f"({body})·10" + str(exponent).translate(_SUPERSCRIPT)


def _signed(text: str) -> str:
    """Return `text` with a true minus sign, and no minus before zero."""
    if text.startswith("-") and not re.search(r"[1-9∞]", text.split("±")[0]):
        text = text[1:]
    return re.sub(r"^-", MINUS, text)


def _joined(*parts: str) -> str:
    """Return the non-empty parts joined by spaces."""
    return " ".join(part for part in parts if part)


Cells = tuple[list[str], list[list[str]]]
"""Heads of the columns of a table, and its rows."""


def layer_cells(summary: Mapping[str, Any]) -> Cells:
    """Return the table of layers as text; no rows where no asset is a claim on a venue."""
    heads = ["layer", "venue", "leverage", "through claims", "D/E delta", "called at a fall of"]
    heads += ["at", "called", "mean loss"]
    rows = []
    for layer in summary.get("layers", ()):
        price = as_float(layer["called_at_price_usd"])
        at = "" if math.isnan(price) else f"{layer['exposed_to']} {price:,.2f}"
        first = " (first)" if layer["breaks_first"] else ""
        rows.append(
            [
                layer["layer"],
                layer["venue"],
                ratio(layer["leverage"]),
                ratio(layer["effective_leverage"]),
                significant(layer["debt_to_equity_delta"]),
                f"{percent(layer['called_at_fall_frac'])}{first}",
                at,
                percent(layer["called_probability_frac"]),
                amount(layer["expected_loss_usd"], ""),
            ]
        )
    return heads, rows


def less_cells(summary: Mapping[str, Any]) -> Cells:
    """Return mean losses as the book is and with one layer less, as text."""
    cases = list(summary.get("one_layer_less", ()))
    if not cases:
        return [], []
    names = [name for name in cases[0] if name.endswith("_usd")]
    cell = lambda case, name: amount(case[name], "")
    rows = [
        [
            "as it is" if case["without"] is None else f"{case['without']} plain",
            *(cell(case, name) for name in names),
        ]
        for case in cases
    ]
    return ["", *(label(name) for name in names)], rows
