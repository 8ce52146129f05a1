"""Draws depend on (seed, scenario, step) and on nothing else."""

from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.numerics.keys import (
    random_words,
    root_key,
    scenario_key,
    standard_normal,
    step_key,
    uniform,
)
from tests.helpers import assert_close


def draw(scenario, step, seed=1):
    return random_words(step_key(scenario_key(root_key(seed), scenario), step), 4)


def test_root_key_is_a_typed_threefry_key_whatever_the_default():
    with jax.default_prng_impl("rbg"):
        key = root_key(7)
    assert jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
    assert "fry" in str(key.dtype)
    assert jax.random.key_data(key).tolist() == [0, 7]


def threefry(key, counter):
    """Return Threefry-2x32-20 of two words (Salmon et al. 2011, SC '11), in Python integers."""
    words = 2**32
    schedule = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    first, second = ((count + part) % words for count, part in zip(counter, key, strict=True))
    for block in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[block % 2]:
            first = (first + second) % words
            second = ((second << turn | second >> (32 - turn)) % words) ^ first
        first = (first + schedule[(block + 1) % 3]) % words
        second = (second + schedule[(block + 2) % 3] + block + 1) % words
    return first, second


def test_the_reference_generator_gives_the_published_answer():
    # Known answer of the Random123 distribution for zero key and counter.
    assert threefry((0, 0), (0, 0)) == (0x6B200159, 0x99BA4EFE)


@pytest.mark.parametrize(("seed", "scenario", "step"), [(1, 2, 3), (2**32 - 1, 10**6, 0)])
def test_keys_are_those_of_threefry(seed, scenario, step):
    key = step_key(scenario_key(root_key(seed), scenario), step)
    expected = threefry(threefry((0, seed), (0, scenario)), (0, step))
    assert tuple(jax.random.key_data(key).tolist()) == expected


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_does_not_fit_is_refused(seed):
    with pytest.raises(ValueError, match="expected an integer in"):
        root_key(seed)


def test_seeds_scenarios_and_steps_give_different_draws():
    draws = [
        tuple(draw(scenario, step, seed).tolist())
        for seed in (1, 2, 2**32 - 1)
        for scenario in (0, 1, 2)
        for step in (0, 1, 2)
    ]
    assert len(set(draws)) == len(draws)


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_draws_do_not_change_with_the_batch(batch):
    scenarios = jnp.arange(batch, dtype=jnp.int32)
    batched = jax.vmap(lambda scenario: draw(scenario, 5))(scenarios)
    for scenario in range(batch):
        assert batched[scenario].tolist() == draw(scenario, 5).tolist()


def test_normals_are_equal_in_both_precisions():
    words = random_words(root_key(1), 1000)
    single, double = standard_normal(words, jnp.float32), standard_normal(words, jnp.float64)
    assert single.dtype == jnp.float32
    assert double.dtype == jnp.float64
    np.testing.assert_array_equal(np.asarray(single, dtype=np.float64), double)


def test_normals_are_the_quantiles_of_their_words():
    words = np.array([0, 2**20, 2**31 - 1, 2**31, 3 * 2**30, 2**32 - 1], dtype=np.uint32)
    normal = NormalDist()
    expected = [normal.inv_cdf(((int(word) >> 8) + 0.5) / 2**24) for word in words]
    # float32 throughout: 1e-6 of the value, and of 1 near zero.
    actual = standard_normal(jnp.asarray(words), jnp.float64)
    assert_close(actual, expected, rtol=1e-6, atol=1e-7)
    assert_close(actual[0], -actual[-1], rtol=0.0, atol=0.0)


def test_normals_have_the_moments_of_the_normal_law():
    draws = np.asarray(standard_normal(random_words(root_key(3), 400_000), jnp.float64))
    # Four standard errors: sqrt(1, 2, 15, 96) / sqrt(n) for the first four moments.
    for power, expected, variance in ((1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)):
        assert_close((draws**power).mean(), expected, rtol=0.0, atol=4 * (variance / 4e5) ** 0.5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_uniforms_are_uniform(dtype):
    draws = np.asarray(uniform(random_words(root_key(1), 200_000), dtype), dtype=np.float64)
    shares = np.histogram(draws, bins=20, range=(0.0, 1.0))[0] / draws.size
    assert_close(shares, np.full(20, 0.05), rtol=0.0, atol=4 * (0.05 * 0.95 / 2e5) ** 0.5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_uniforms_are_positive_down_to_the_last_word(dtype):
    words = jnp.asarray([0, 1, 2**31, 2**32 - 1], jnp.uint32)
    expected = [2.0**-33, 3 * 2.0**-33, 0.5 + 2.0**-33, 1 - 2.0**-33]
    draws = np.asarray(uniform(words, dtype), dtype=np.float64)
    assert_close(draws, expected, rtol=float(jnp.finfo(dtype).eps), atol=0.0)
    assert draws.max() <= 1.0
