"""Option margins written from their formulas, one option and one scenario at a time, in float64."""

import math

YEAR_DAYS = 365.0


def black(forward, strike, years, volatility, discount, is_call):
    """Black-76 with the normal distribution by `math.erfc`."""
    deviation = volatility * math.sqrt(years)
    if deviation <= 0.0 or strike <= 0.0:
        return discount * max(forward - strike if is_call else strike - forward, 0.0)
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    normal = lambda x: 0.5 * math.erfc(-x / math.sqrt(2.0))
    d2 = d1 - deviation
    if is_call:
        return discount * (forward * normal(d1) - strike * normal(d2))
    return discount * (strike * normal(-d2) - forward * normal(-d1))


def short_option(spot, strike, is_call, mark, *, highest, lowest, share, cover):
    """Initial and maintenance margin of one short option."""
    out = max(strike - spot if is_call else spot - strike, 0.0)
    initial = max(highest - out / spot, lowest) * spot + mark
    if is_call:
        return initial, share * spot + mark
    maintenance = max(share * spot, share * mark) + mark
    return max(initial, cover * maintenance), maintenance


def worst_payoff(options):
    """Loss at the worst settlement price; options are (strike, is_call, amount)."""
    grid = [0.0, *(strike for strike, _, _ in options)]
    payoff = lambda price: sum(
        amount * max(price - strike if is_call else strike - price, 0.0)
        for strike, is_call, amount in options
    )
    return max(0.0, -min(payoff(price) for price in grid))


def naked(options):
    """Options written beyond those held at the same strike; (strike, is_call, amount)."""
    net = {}
    for strike, _, amount in options:
        net[strike] = net.get(strike, 0.0) + amount
    return sum(max(-amount, 0.0) for amount in net.values())


def shocked_volatility(volatility, years, k, row, p):
    """Volatility of one option in one scenario, (move, volatility, tilt, wings, weight)."""
    _, direction, tilt, wings, _ = row
    power = p["short_power"] if years <= 30.0 / YEAR_DAYS else p["long_power"]
    tenor = ((30.0 / YEAR_DAYS) / max(years, 1.0 / YEAR_DAYS)) ** power
    if direction > 0:
        volatility = max(p["minimum"], volatility * (1.0 + p["up"] * tenor))
    if direction < 0:
        volatility *= max(0.0, 1.0 - p["down"] * tenor)
    cap = p["cap"] + p["cap_slope"] * math.sqrt(years)
    reach = max(0.01, math.sqrt(years) * p["width"] * p["level"])
    bend = lambda x: max(-cap, min(cap, x * cap / reach))
    return volatility * max(0.0, 1.0 + tilt * bend(k) + wings * bend(abs(k)))


def portfolio(expiries, linear, rows, p):
    """Worst gain and its scenario, for expiries of (years, forward, rate, discount, options).

    Options are (strike, is_call, amount, volatility); `linear` is what moves with the spot.
    Returns (gains, basis, value).
    """

    def value(expiry, move, row):
        years, forward, _, discount, options = expiry
        total = 0.0
        for strike, is_call, amount, volatility in options:
            k = math.log(strike / forward)
            sigma = shocked_volatility(volatility, years, k, row, p)
            price = black(forward * (1.0 + move), strike, years, sigma, discount, is_call)
            total += amount * price
        return total

    still = (0.0, 0.0, 0.0, 0.0, 1.0)
    gains = []
    for row in rows:
        move, _, tilt, wings, weight = row
        gain = linear * move * weight
        for expiry in expiries:
            years, _, _, discount, _ = expiry
            now, then = value(expiry, 0.0, still), value(expiry, move, row)
            long = p["long"] * math.exp(-years * p["spread"])
            short = min(p["short"] * math.exp(years * p["spread"]), 1.0 / discount)
            change = (then * (long if then >= 0 else short) - now) * weight
            gain += -abs(change) if tilt + wings > 0 else change
        gains.append(gain)
    basis, total = 0.0, 0.0
    for expiry in expiries:
        now = value(expiry, 0.0, still)
        moved = [value(expiry, move, still) - now for move in (p["basis"], -p["basis"])]
        basis += min(*moved, 0.0) * (p["flat"] + p["per_year"] * expiry[0])
        total += now
    return gains, basis, total


def delta(forward, strike, years, volatility, is_call):
    """Black-76 delta."""
    deviation = volatility * math.sqrt(years)
    d1 = math.log(forward / strike) / deviation + 0.5 * deviation
    below = 0.5 * math.erfc(-d1 / math.sqrt(2.0))
    return below if is_call else below - 1.0


def coin_portfolio(options, futures, spot, p):
    """Worst loss over nine prices and three volatilities and the charge on deltas, in coins.

    Options are (years, strike, is_call, amount, volatility), futures (years, coins).
    """
    worst, by_expiry = 0.0, {}
    for k in range(-4, 5):
        move = 0.04 * k
        ahead = spot * (1.0 + move)
        for direction in (1.0, 0.0, -1.0):
            gain = sum(coins for _, coins in futures) * (1.0 - 1.0 / (1.0 + move))
            for years, strike, is_call, amount, volatility in options:
                row = (move, direction, 0.0, 0.0, 1.0)
                sigma = shocked_volatility(volatility, years, 0.0, row, p)
                then = black(ahead, strike, years, sigma, 1.0, is_call) / ahead
                now = black(spot, strike, years, volatility, 1.0, is_call) / spot
                gain += amount * (then - now)
            worst = max(worst, -gain)
    for years, coins in futures:
        by_expiry[years] = by_expiry.get(years, 0.0) + coins
    for years, strike, is_call, amount, volatility in options:
        change = amount * delta(spot, strike, years, volatility, is_call)
        by_expiry[years] = by_expiry.get(years, 0.0) + change
    return worst + sum(abs(d) * max(0.075 * years, 0.01) for years, d in by_expiry.items())
