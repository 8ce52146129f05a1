"""Likely meanings: what a user probably meant by a misspelt name or an unreadable number."""

import difflib
import math
import re
from collections.abc import Iterable

_GROUPED = re.compile(r"[+-]?\d{1,3}(?:[,'_\s]\d{3})+(?:\.\d+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+),\d+")


def closest(name: str, options: Iterable[str]) -> str | None:
    """Return the option most like `name`, ignoring case, or None where none is near."""
    folded = {option.casefold(): option for option in options}
    # Swapped letters are the commonest slip, and difflib counts them as two errors.
    swapped = [option for option in folded if sorted(option) == sorted(name.casefold())]
    match = swapped or difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return folded[match[0]] if match else None


def expected_one_of(name: str, options: Iterable[str]) -> str:
    """Return `expected one of a, b; did you mean a?` for a `name` that is not an option."""
    options = tuple(options)
    shown = ", ".join(options[:12]) + (", …" if len(options) > 12 else "")
    text = f"expected one of {shown}" if options else "none is defined"
    near = closest(name, options)
    return f"{text}; did you mean {near}?" if near else text


def parse_number(text: str) -> float:
    """Return the finite number written in `text`.

    Raises:
        ValueError: with a message that quotes the text and, where the reason is a thousands
            separator or a decimal comma, the number to write instead.
    """
    text = text.strip()
    if not text:
        raise ValueError("empty; expected a number")
    try:
        # float() would read the underscores of a Python literal; here they are separators.
        value = float(text.replace("_", "?"))
    except ValueError:
        raise ValueError(_not_a_number(text)) from None
    if not math.isfinite(value):
        raise ValueError(f'"{text}" is not a finite number; give the value or drop the row')
    return value


def _not_a_number(text: str) -> str:
    if _GROUPED.fullmatch(text):
        plain = re.sub(r"[,'_\s]", "", text)
        return f'"{text}" is not a number (thousands separator?). Use {plain}.'
    if _DECIMAL_COMMA.fullmatch(text):
        plain = text.replace(".", "").replace(",", ".")
        return f'"{text}" is not a number (decimal comma?). Use {plain}.'
    return f'"{text}" is not a number'
