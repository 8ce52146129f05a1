"""The normal distribution to forty digits, from its power series in decimal arithmetic."""

import decimal
import functools
import math
from decimal import Decimal

DIGITS = 420
"""The series cancels down from exp(x^2 / 2), 10^297 at x = 37, to tails of 10^-300."""

Number = float | Decimal


def density(x: Number) -> Decimal:
    """Return `exp(-x^2 / 2) / sqrt(2 pi)`."""
    with decimal.localcontext(prec=DIGITS):
        return (-(Decimal(x) ** 2) / 2).exp() / (2 * pi()).sqrt()


def cdf(x: Number) -> Decimal:
    """Return `Phi(x) = 1/2 + phi(x) (x + x^3 / 3 + x^5 / 15 + ...)`."""
    with decimal.localcontext(prec=DIGITS):
        term = Decimal(x)
        square, total, n = term * term, Decimal(0), 1
        while abs(term) > Decimal(10) ** (20 - DIGITS) * abs(total):
            total += term
            n += 2
            term = term * square / n
        return Decimal(1) / 2 + density(x) * total


def quantile(p: float) -> float:
    """Return `x` with `Phi(x) = p`: bisection in float64, then two of Newton's steps."""
    low, high = -38.5, 8.5
    for _ in range(60):
        middle = 0.5 * (low + high)
        if 0.5 * math.erfc(-middle / math.sqrt(2.0)) < p:
            low = middle
        else:
            high = middle
    x = Decimal(low)
    for _ in range(2):
        with decimal.localcontext(prec=DIGITS):
            step = (cdf(x) - Decimal(p)) / density(x)
        # Forty digits are enough, and keep the powers of x short.
        with decimal.localcontext(prec=40):
            x = x - step
    return float(x)


@functools.cache
def pi() -> Decimal:
    """Return pi by Machin's formula, 16 arctan(1/5) - 4 arctan(1/239)."""
    with decimal.localcontext(prec=DIGITS):
        return 16 * _arctan_of_one_over(5) - 4 * _arctan_of_one_over(239)


def _arctan_of_one_over(n: int) -> Decimal:
    total, power, odd = Decimal(0), Decimal(1) / n, 1
    while abs(power) > Decimal(10) ** -DIGITS:
        total += power / odd
        power, odd = -power / (n * n), odd + 2
    return total
