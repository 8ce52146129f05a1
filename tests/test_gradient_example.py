"""The example behind the picture: what it draws is so, and its check rejects what is wrong."""

import importlib.util
import sys

import numpy as np
import pytest

from tests import reference_one_loan
from tests.test_examples import ROOT


@pytest.fixture(scope="module")
def example():
    path = ROOT / "docs/examples/gradients.py"
    spec = importlib.util.spec_from_file_location("gradients_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_curves_are_those_of_the_quadrature(example, tmp_path):
    thresholds = np.array([0.80, 0.86])
    found = example.curves(thresholds, 2**15)
    truth = [
        reference_one_loan.derivatives(
            {**example.LOAN, "threshold": x}, example.STEPS, example.STEP_YEARS
        )["threshold"]
        for x in thresholds
    ]
    assert np.allclose(found.exact, truth, rtol=0.02)
    assert (found.plain == 0.0).all()
    estimate, error = found.regime
    assert (np.abs(estimate - truth) <= 3.0 * error).all()
    widest, narrowest = found.smooth[example.WIDTHS[0]], found.smooth[example.WIDTHS[-1]]
    assert abs(widest[1] / truth[1] - 1.0) > 0.3 > 0.1 > abs(narrowest[1] / truth[1] - 1.0)
    example.draw(found, str(tmp_path / "picture.png"))
    assert (tmp_path / "picture.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_check_disagrees_with_plain_differentiation(example):
    _, plain = example.referee(2**18)
    assert [str(v) for v in plain.verdicts] == ["disagrees"]
