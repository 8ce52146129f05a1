"""The simulations behind a table of sensitivities: losses, bumps, slopes and scores."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxrisk.gradient.law import (
    gaussian_draws,
    gaussian_part,
    log_density,
    moves_of,
    volatile_assets,
)
from jaxrisk.gradient.parameter import Parameter, with_values
from jaxrisk.system.book import Layout
from jaxrisk.system.simulate import (
    Outcome,
    Plan,
    cut_books,
    over_scenarios,
    playing,
    scenario_noise,
    simulator,
    step_rules,
)
from jaxrisk.system.system import StepRules, System

Measure = Callable[[Outcome], Float[Array, ""]]

_BY_VENUE: dict[str, Callable[[Outcome], Array]] = {
    "bad_debt_usd": lambda o: o.bad_debt,
    "liquidated_usd": lambda o: o.liquidated,
    "borrower_loss_usd": lambda o: o.borrower_loss,
    "keeper_profit_usd": lambda o: o.keeper_profit,
    "supplier_loss_usd": lambda o: o.supplier_loss,
    "repaid_usd": lambda o: o.repaid,
    "protocol_fee_usd": lambda o: o.protocol_fee,
    "shortfall_usd": lambda o: o.shortfall,
    "interest_usd": lambda o: o.interest,
}
MEASURES = tuple(_BY_VENUE)


def measure_of(system: System, name: str) -> Measure:
    """Return a measure by name: `bad_debt_usd` of all venues, `bad_debt_usd.<venue>` of one.

    Raises:
        ValueError: the measure or the venue is unknown.
    """
    base, _, venue = name.partition(".")
    if base not in _BY_VENUE:
        raise ValueError(f"unknown measure {name!r}; known: {', '.join(MEASURES)}")
    by_venue, names = _BY_VENUE[base], [v.name for v in system.venues]
    if not venue:
        return lambda o: jnp.sum(by_venue(o))
    if venue not in names:
        raise ValueError(f"measure {name!r}: no venue {venue!r}; there are {', '.join(names)}")
    at = names.index(venue)
    return lambda o: by_venue(o)[at]


@dataclasses.dataclass(frozen=True)
class Study:
    """What all estimators share: the system, the draws and the parameters."""

    system: System
    key: Key[Array, ""]
    parameters: list[Parameter]
    measures: tuple[Measure, ...]
    ids: np.ndarray
    step_years: float
    plan: Plan
    layout: tuple[Layout, ...]

    def losses(self, system: System) -> Float[np.ndarray, "scenario measure"]:
        """Return exact losses of a system of this shape; all calls share one simulation.

        Raises:
            ValueError: a loss is not finite.
        """
        rules = step_rules(system, self.plan, self.step_years)
        books = cut_books(system, self.layout)
        ended = simulator(self.plan)(system, books, rules, self.key, self.ids)
        columns = [jax.vmap(measure)(ended) for measure in self.measures]
        losses = np.stack([np.asarray(c, np.float64) for c in columns], axis=1)
        broken = ~np.isfinite(losses).all(axis=1)
        if broken.any():
            first = int(self.ids[broken.argmax()])
            raise ValueError(
                f"{int(broken.sum())} of {len(losses)} scenarios have losses that are not finite; "
                f"the first is {first}: replay it to see where"
            )
        return losses

    def bumped(
        self, parameter: Parameter, share: float, part: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Return losses below and above the parameter's value, and the distance between.

        Args:
            parameter: the one that is moved.
            share: of its value, where it does not state a step of its own.
            part: of that step.
        """
        whole = share * abs(parameter.value) if parameter.step is None else parameter.step
        size = part * whole
        dtype = self.system.market.price.dtype
        # A capacity of nothing has no other side: there the difference is one-sided.
        ends = (max(parameter.value - size, parameter.lowest), parameter.value + size)
        low, high = (
            self.losses(parameter.apply(self.system, jnp.asarray(end, dtype))) for end in ends
        )
        return low, high, ends[1] - ends[0]

    def slopes(
        self, widths: Sequence[float]
    ) -> list[Float[np.ndarray, "scenario measure parameter"]]:
        """Return every scenario's derivatives at each width of the gate, in one compiled program.

        Those by smooth parameters are of the exact rule at every width.
        """
        differentiate = self._differentiated()
        smooth = np.array([p.smooth for p in self.parameters])
        exact = differentiate(0.0) if smooth.any() else None
        if exact is not None and smooth.all():
            return [exact for _ in widths]
        results = [differentiate(width) for width in widths]
        if exact is not None:
            for result in results:
                result[:, :, smooth] = exact[:, :, smooth]
        return results

    def scores(self) -> Float[np.ndarray, "scenario parameter"]:
        """Return the score of every scenario's draws in each parameter; 0 for those of no law."""
        law = [i for i, p in enumerate(self.parameters) if p.law]
        assets = volatile_assets(self.system)
        result = np.zeros((len(self.ids), len(self.parameters)))
        if not law or not assets.size:
            return result
        plan, own = self.plan, [self.parameters[i] for i in law]
        dtype = self.system.market.price.dtype

        def bind(values: Array, system: System, years: Array, key: Array) -> Callable:
            held = gaussian_part(system.paths)
            assert held is not None

            def density(values: Array, moves: Array) -> Array:
                changed = gaussian_part(with_values(system, own, values).paths)
                assert changed is not None
                return log_density(changed, moves, years, assets)

            def score(scenario: Int[Array, ""]) -> Array:
                draws = gaussian_draws(system.paths, scenario_noise(plan, system, key, scenario))
                return jax.jacfwd(density)(values, moves_of(held, draws, years))

            return score

        values = jnp.asarray([p.value for p in own], dtype)
        years = jnp.asarray(self.step_years, dtype)
        run = over_scenarios(bind, plan.side_by_side)
        result[:, law] = np.asarray(run((values, self.system, years, self.key), self.ids))
        return result

    def _differentiated(self) -> Callable[[float], np.ndarray]:
        """Return the function from a gate's width to all derivatives; width 0 is the exact rule.

        Forwards: few parameters, no memory growth, and loops may end early.
        """

        def bind(
            values: Array, system: System, layout: tuple[Layout, ...], rules: StepRules, key: Array
        ) -> Callable[[Int[Array, ""]], Array]:
            def loss(values: Float[Array, " parameter"], scenario: Int[Array, ""]) -> Array:
                changed = with_values(system, self.parameters, values)
                books = cut_books(changed, layout)
                ended = playing(self.plan, changed, books, rules, key)(scenario)
                return jnp.stack([measure(ended) for measure in self.measures])

            return lambda scenario: jax.jacfwd(loss)(values, scenario)

        run = over_scenarios(bind, self.plan.side_by_side)
        opening = np.array([p.value for p in self.parameters])
        values = jnp.asarray(opening, self.system.market.price.dtype)

        def slopes(width: float) -> np.ndarray:
            rules = step_rules(self.system, self.plan, self.step_years, width)
            return np.array(
                run((values, self.system, self.layout, rules, self.key), self.ids), np.float64
            )

        return slopes
