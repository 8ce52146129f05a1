"""The standard normal distribution: density, distribution, quantile and Mills ratio.

The tail is written as density times Mills ratio, `1 - Phi(x) = phi(x) M(x)` for x >= 0. `M` falls
smoothly from 1.25 like 1/x, so one quotient of polynomials serves the whole half-line: no branch
between two expansions, and what is common to two tails (`market/black.py`) is computed once. Every
coefficient is positive, so the polynomials lose nothing to cancellation.

The arguments' type, float32 or float64, chooses the coefficients. Derivatives of all orders follow
from three rules, `Phi' = phi`, `phi' = -x phi` and `quantile' = 1 / phi(quantile)`, and are finite
everywhere. Subnormal numbers are flushed to zero on most devices: tails end near -37.5 in float64
and -12.9 in float32.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

_ROOT_TWO_PI = 2.5066282746310002

# Minimax in relative error, by exchange in 60 digits: on [0, 39] to 5.1e-17, on [0, 15] to 6.3e-9.
_MILLS = {
    np.dtype(np.float64): (
        (
            360794.41378979753775, 559144.42809636159242, 428663.25368429128299,
            208783.70318125571465, 70500.84796795675268, 17046.33649495649474,
            2950.9471518366310821, 353.90119963527467015, 26.884203434540068135,
            0.999999999997032936,
        ),
        (
            287872.29238679989108, 675821.56401538775542, 737315.23749043429287,
            493529.90827115262463, 225132.30753036098808, 73398.0233404788784,
            17398.237817040974074, 2977.8313520512865872, 354.90119969262874404,
            26.884203433925694868, 1.0,
        ),
    ),
    np.dtype(np.float32): (
        (
            120.38961211400161173, 105.7702976051391354, 44.295928750650738296,
            9.8433206708109269675, 1.000010726326807151,
        ),
        (
            96.057012181586009749, 161.03493729025663574, 115.80133585028842933,
            45.28209279870657104, 9.8439082104588873238, 1.0,
        ),
    ),
}  # fmt: skip
# The quantile over p - 1/2 as a quotient in 0.425^2 - (p - 1/2)^2, minimax to 7.5e-17. In this
# variable (Wichura, algorithm AS 241) its coefficients are positive too.
_CENTRE = (
    (
        3.38713287279636661, 133.141696912281837, 1971.59186943357563, 13731.7039869875009,
        45922.0019713484384, 67265.8620262788386, 33430.6303224466731, 2509.08557125166512,
    ),
    (
        1.0, 42.3133392694659904, 687.187304599116045, 5394.199743055565,
        21213.8149001167825, 39307.9454538263156, 28729.1300580162893, 5226.50455184281938,
    ),
)  # fmt: skip
# The tail as a quotient in sqrt(-2 log p), interpolated: to 8.3e-7 between 1e-308 and 0.075.
_TAIL = (
    (-2.637602635, -1.016488694, 1.909433903, 0.6900340679, 0.03430586099),
    (1.0, 2.083317756, 0.6905765885, 0.03430352529),
)
_CENTRE_HALF_WIDTH = 0.425


@jax.custom_jvp
def normal_density(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return `phi(x) = exp(-x^2 / 2) / sqrt(2 pi)` to a few units in the last place.

    A rounded square would be off by x^2 / 2 units. The leading half of the digits of x has an
    exact square; the rest, `exp(-d)` with d below 0.1, is a short series.
    """
    x = jnp.asarray(x)
    size = jnp.abs(x)
    size = jnp.where(size > 64.0, jnp.full_like(size, 64.0), size)
    head = _leading_half(size)
    d = 0.5 * (size - head) * (size + head)
    rest = 1.0 - d * (1.0 - (0.5 * d) * (1.0 - (d / 3.0) * (1.0 - 0.25 * d)))
    return jnp.exp(-0.5 * head * head) * rest * (1.0 / _ROOT_TWO_PI)


@normal_density.defjvp
def _density_jvp(primals: tuple, tangents: tuple) -> tuple:
    (x,), (dx,) = primals, tangents
    density = normal_density(x)
    # At infinity the slope is 0, not infinity times 0.
    return density, -jnp.clip(x, -64.0, 64.0) * density * dx


@jax.custom_jvp
def normal_cdf(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return `Phi(x)`, in the lower tail to a few units in the last place of the tail itself."""
    x = jnp.asarray(x)
    size = jnp.abs(x)
    tail = normal_density(size) * mills_ratio(size)
    return jnp.where(x > 0, 1.0 - tail, tail)


@normal_cdf.defjvp
def _cdf_jvp(primals: tuple, tangents: tuple) -> tuple:
    (x,), (dx,) = primals, tangents
    return normal_cdf(x), normal_density(x) * dx


@jax.custom_jvp
def normal_quantile(p: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return `x` with `Phi(x) = p`: -inf at 0, inf at 1, NaN outside [0, 1].

    Relative error: a few units in the last place of x, given p. Its slope `1 / phi(x)` is infinite
    at 0 and 1; there the derivative is 0, so that a draw which hits the edge spoils no gradient.
    """
    p = jnp.asarray(p)
    off = p - 0.5
    near = (_CENTRE_HALF_WIDTH - jnp.abs(off)) * (_CENTRE_HALF_WIDTH + jnp.abs(off))
    centre = off * _quotient(_CENTRE, jnp.where(near > 0, near, jnp.zeros_like(near)))
    tail_mass = jnp.where(off < 0, p, 1.0 - p)
    inside = tail_mass > 0
    # Halley's method on log(1 - Phi(y)) = log(tail mass), whose slope is -1 / M(y).
    log_mass = jnp.log(jnp.where(inside, tail_mass, jnp.full_like(p, 0.5)))
    guess = _quotient(_TAIL, jnp.sqrt(-2.0 * log_mass))
    mills = mills_ratio(jnp.abs(guess))
    gap = jnp.log(mills / _ROOT_TWO_PI) - 0.5 * guess * guess - log_mass
    y = guess + gap * mills / (1.0 - 0.5 * gap * (guess * mills - 1.0))
    tail = jnp.where(off < 0, -y, y)
    edge = jnp.where(off < 0, -jnp.inf, jnp.inf)
    edge = jnp.where(tail_mass == 0, edge, jnp.nan).astype(p.dtype)
    return jnp.where(inside, jnp.where(near >= 0, centre, tail), edge)


@normal_quantile.defjvp
def _quantile_jvp(primals: tuple, tangents: tuple) -> tuple:
    (p,), (dp,) = primals, tangents
    x = normal_quantile(p)
    density = normal_density(x)
    inside = density > 0
    slope = jnp.where(inside, 1.0 / jnp.where(inside, density, jnp.ones_like(density)), 0.0)
    return x, slope.astype(x.dtype) * dp


def mills_ratio(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return `(1 - Phi(x)) / phi(x)` for x >= 0, to a few units in the last place."""
    coefficients = _MILLS[np.dtype(x.dtype)]
    # Beyond this the highest powers overflow, and the ratio is 0 next to anything it is added to.
    largest = 1e7 if x.dtype == jnp.float32 else 1e15
    return _quotient(coefficients, jnp.where(x > largest, jnp.full_like(x, largest), x))


def _quotient(
    coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Float[Array, "..."]
) -> Float[Array, "..."]:
    above, below = coefficients
    return _polynomial(above, x) / _polynomial(below, x)


def _polynomial(coefficients: tuple[float, ...], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the polynomial with these coefficients, lowest power first, by Horner's rule."""
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def _leading_half(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return `x` cut to so few binary digits that its square is exact."""
    if x.dtype == jnp.float32:
        bits = lax.bitcast_convert_type(x, jnp.uint32) & np.uint32(0xFFFFF000)
    else:
        bits = lax.bitcast_convert_type(x, jnp.uint64) & np.uint64(0xFFFFFFFFF8000000)
    return lax.bitcast_convert_type(bits, x.dtype)
