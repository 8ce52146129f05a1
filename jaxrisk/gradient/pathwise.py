"""Pathwise derivatives: the loss of each scenario, differentiated as it stands."""

from jaxtyping import Array, Key

from jaxrisk.gradient.estimate import Estimate, Loss, Parameters, differentiated, lost

ASSUMES = (
    "the loss of a scenario is continuous in the parameters (kinks do no harm, jumps do): no "
    "trigger depends on them; fixed points are differentiated at their solution"
)


def pathwise(
    loss: Loss,
    parameters: Parameters,
    key: Key[Array, ""],
    *,
    scenarios: int,
    second: bool = False,
) -> Estimate:
    """Return the mean of the scenarios' own derivatives.

    Across a jump this is wrong, and no number of scenarios shows it: `check_gradient` does. Use it
    for clearing, waterfalls, valuation and conditional expectations. Equilibria belong in
    `jaxrisk.numerics.fixed_point`, whose derivatives are those of the solution.

    Args:
        loss: `loss(parameters, key)`.
        parameters: where to differentiate.
        key: from `root_key`.
        scenarios: how many.
        second: also second derivatives, for losses whose first ones are continuous.

    Raises:
        ValueError: a parameter is no floating-point number, or a loss is not finite.
    """
    return differentiated(
        lambda p, own: lost(loss(p, own)),
        parameters,
        key,
        scenarios,
        estimator="pathwise",
        assumes=ASSUMES,
        second=second,
    )
