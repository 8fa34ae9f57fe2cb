"""The cumulative link head: thresholds in order, even classes at the start, the model of the data found again."""

import numpy as np
import pytest

import treadle as td
from treadle import nn, optim
from treadle.core import ConfigError
from treadle.nn import functional as F


@pytest.mark.parametrize("num_classes", [2, 3, 8])
def test_a_new_head_gives_classes_equal_probability_at_score_0(num_classes):
    head = nn.CumulativeLink(4, num_classes)
    p = td.exp(F.ordinal_log_probabilities(head(td.zeros((3, 4)))))
    np.testing.assert_allclose(p, np.full((3, num_classes), 1 / num_classes), rtol=1e-5)


def test_thresholds_stay_in_order_whatever_the_parameters():
    head = nn.CumulativeLink(2, 6)
    head.raw_thresholds.value = 10 * td.random.normal((5,))
    assert np.all(np.diff(head.thresholds) >= 0)  # equal where a step, such as softplus(-25), is below the rounding
    x = td.random.normal((2, 3, 2))
    assert head(x).shape == (2, 3, 5)
    assert np.all(np.diff(head(x), axis=-1) <= 0)


def test_all_thresholds_share_one_direction():
    head = nn.CumulativeLink(3, 4)
    x = td.random.normal((10, 3))
    score = np.asarray(x) @ np.asarray(head.weight.value)[0]
    np.testing.assert_allclose(head(x), score[:, None] - np.asarray(head.thresholds), rtol=1e-5, atol=1e-6)


def test_the_model_of_the_data_is_found_again():
    rng = np.random.default_rng(0)
    weight, cuts = np.array([1.5, -1.0, 0.0]), np.array([-2.0, -1.5, 0.5, 2.0])  # uneven steps
    x = rng.standard_normal((20000, 3)).astype(np.float32)
    y = (x @ weight + rng.logistic(size=len(x)) > cuts[:, None]).sum(axis=0)
    head = nn.CumulativeLink(3, 5)
    opt = optim.Adam(head.parameters(), lr=optim.cosine(0.1, 1e-3, 200))

    @td.compile
    def step(x, y):
        loss = F.nll_loss(F.ordinal_log_probabilities(head(x)), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss

    for _ in range(200):
        step(x, y)
    np.testing.assert_allclose(head.weight.value[0], weight, atol=0.06)
    np.testing.assert_allclose(head.thresholds, cuts, atol=0.06)


def test_sizes_are_shown_and_checked():
    assert repr(nn.CumulativeLink(3, 4)) == "CumulativeLink(in_features=3, num_classes=4)"
    assert list(nn.CumulativeLink(3, 4, dtype="float64").state_dict()) == ["weight", "raw_thresholds"]
    for sizes in ((0, 3), (4, 1)):
        with pytest.raises(ConfigError, match=f"CumulativeLink: in_features is {sizes[0]}, num_classes {sizes[1]}"):
            nn.CumulativeLink(*sizes)
