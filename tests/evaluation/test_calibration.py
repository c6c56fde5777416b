"""Temperatures and thresholds against closed forms, scikit-learn, brute force and simulation."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.metrics import log_loss

from cvtrain.evaluation.calibration import (
    coverage_and_risk,
    coverage_to_come,
    fit_temperature,
    risk_bounds,
    risk_coverage,
    threshold_for_coverage,
    threshold_for_risk,
    with_temperature,
)
from cvtrain.evaluation.metrics import calibration_error


def sampled(generator, num_images, num_classes=5, scale=2.0):
    """Logits and labels of a model that is calibrated: each label is drawn from its softmax."""
    logits = generator.normal(0, scale, (num_images, num_classes))
    shares = softmax(logits, axis=1).cumsum(axis=1)
    return logits, (generator.random((num_images, 1)) > shares).sum(axis=1)


@pytest.fixture
def uncertain():
    """Labels and probabilities of 300 images, where some confidences are equal."""
    generator = np.random.default_rng(0)
    logits, labels = sampled(generator, 300)
    rounded = np.round(softmax(1.7 * logits, axis=1), 1) + 0.01
    return labels, rounded / rounded.sum(axis=1, keepdims=True)


def test_the_temperature_of_two_classes_in_closed_form():
    # It says 0.9 and is right in 3 of 4: log 9 / T = log 3.
    probabilities = np.tile([0.9, 0.1], (400, 1))
    labels = np.array([0] * 300 + [1] * 100)
    assert fit_temperature(labels, probabilities) == pytest.approx(2)
    np.testing.assert_allclose(with_temperature(probabilities, 2)[0], [0.75, 0.25])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("num_classes", [2, 5])
def test_a_known_temperature_comes_back(temperature, num_classes):
    logits, labels = sampled(np.random.default_rng(1), 5000, num_classes)
    probabilities = softmax(temperature * logits, axis=1).astype(np.float32)
    assert fit_temperature(labels, probabilities) == pytest.approx(temperature, rel=0.06)
    repaired = with_temperature(probabilities, fit_temperature(labels, probabilities))
    assert calibration_error(labels, repaired) < 0.02


def test_no_temperature_has_a_lower_log_loss(uncertain):
    labels, probabilities = uncertain
    best = fit_temperature(labels, probabilities)
    losses = {
        temperature: log_loss(labels, with_temperature(probabilities, temperature))
        for temperature in (best, *np.geomspace(0.1, 10, 99))
    }
    assert min(losses, key=losses.get) == best
    assert 0.2 < best < 5


def test_a_temperature_is_a_power_of_the_probabilities():
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], 50)
    powers = probabilities ** (1 / 2.5)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(with_temperature(probabilities, 2.5), expected)
    np.testing.assert_allclose(with_temperature(probabilities, 1), probabilities)


@pytest.mark.parametrize("temperature", [0.1, 1, 10])
def test_probabilities_of_zero_stay_finite_and_in_order(temperature):
    probabilities = np.array([[1, 0, 0], [0.5, 0.5, 0], [1e-45, 1, 0]], np.float32)
    tempered = with_temperature(probabilities, temperature)
    assert np.isfinite(tempered).all()
    np.testing.assert_allclose(tempered.sum(axis=1), 1)
    np.testing.assert_array_equal(tempered.argmax(axis=1), probabilities.argmax(axis=1))


def test_nothing_wrong_leaves_confidences_alone():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6]])
    assert fit_temperature(np.array([0, 1]), probabilities) == 1
    assert fit_temperature(np.array([0]), probabilities[:1]) == 1


def test_everything_wrong_and_a_single_image_stay_within_bounds():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6]])
    assert fit_temperature(np.array([1, 0]), probabilities) == 10
    assert fit_temperature(np.array([1]), probabilities[:1]) == 10
    certain = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert 0.1 <= fit_temperature(np.array([0, 1, 1]), certain) <= 10


def test_a_single_doubtful_mistake_leaves_the_temperature_within_bounds():
    probabilities = np.array([[0.99, 0.01]] * 50 + [[0.501, 0.499]])
    assert 0.1 <= fit_temperature(np.array([0] * 50 + [1]), probabilities) < 1


def test_risk_and_coverage_by_brute_force(uncertain):
    labels, probabilities = uncertain
    curve = risk_coverage(labels, probabilities)
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != labels
    assert len(curve.thresholds) < len(labels)
    assert sorted(set(confidence), reverse=True) == curve.thresholds.tolist()
    for threshold, coverage, risk in zip(curve.thresholds, curve.coverage, curve.risk, strict=True):
        answered = confidence >= threshold
        assert coverage == pytest.approx(answered.mean())
        assert risk == pytest.approx(wrong[answered].mean())
    assert curve.area == pytest.approx(np.mean([wrong[confidence >= c].mean() for c in confidence]))


def test_the_area_of_a_perfect_order():
    # Four right, then one wrong: only the last image costs, a fifth of a fifth.
    probabilities = np.array([[p, 1 - p] for p in (0.9, 0.8, 0.7, 0.65, 0.6)])
    assert risk_coverage(np.array([0, 0, 0, 0, 1]), probabilities).area == pytest.approx(0.04)
    assert risk_coverage(np.array([0]), probabilities[:1]).area == 0
    assert risk_coverage(np.array([1]), probabilities[:1]).area == 1


@pytest.mark.parametrize("coverage", [0.001, 0.07, 0.5, 0.9, 0.99])
def test_the_highest_threshold_that_answers_enough(uncertain, coverage):
    confidence = uncertain[1].max(axis=1)
    threshold = threshold_for_coverage(uncertain[1], coverage)
    assert (confidence >= threshold).mean() >= coverage - 1e-12
    assert (confidence > threshold).mean() < coverage


def test_a_coverage_of_one_answers_also_what_is_less_sure(uncertain):
    assert threshold_for_coverage(uncertain[1], 1.0) == 0


@pytest.mark.parametrize(("num_images", "coverage"), [(9, 0.9), (20, 0.5), (300, 0.95)])
def test_the_coverage_of_other_images_lies_in_its_interval(num_images, coverage):
    generator = np.random.default_rng(3)
    inside, num_draws = 0, 2000
    for confidence in generator.uniform(0.5, 1, (num_draws, num_images)):
        probabilities = np.stack([confidence, 1 - confidence], axis=1)
        threshold = threshold_for_coverage(probabilities, coverage)
        low, high = coverage_to_come(int((confidence >= threshold).sum()), num_images)
        inside += low <= 2 * (1 - threshold) <= high
    assert inside / num_draws == pytest.approx(0.95, abs=0.015)


def test_the_coverage_to_come_where_all_were_answered_in_closed_form():
    assert coverage_to_come(9, 9) == pytest.approx((0.025 ** (1 / 9), 0.975 ** (1 / 9)))


def test_a_share_of_a_hundred_images_is_exact():
    probabilities = np.array([[p, 1 - p] for p in np.linspace(0.5, 1, 100)])
    for percent in range(1, 101):
        threshold = threshold_for_coverage(probabilities, percent / 100)
        assert (probabilities[:, 0] >= threshold).sum() == percent


def test_bounds_are_clopper_and_pearsons_at_a_tenth(uncertain):
    labels, probabilities = uncertain
    thresholds, bounds = risk_bounds(labels, probabilities)
    assert len(thresholds) == len(bounds) == 10
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != labels
    for threshold, bound in zip(thresholds, bounds, strict=True):
        answered = confidence >= threshold
        test = binomtest(int(wrong[answered].sum()), int(answered.sum()), alternative="less")
        expected = test.proportion_ci(1 - 0.05 / 10, method="exact").high
        assert bound == pytest.approx(expected)


def share_of_broken_promises(true_risk_above, errors, target, num_draws=400, num_images=600):
    """How often the risk is promised and not kept, and how often it is promised."""
    generator = np.random.default_rng(7)
    broken = promised = 0
    for _ in range(num_draws):
        confidence = generator.uniform(0.5, 1, num_images)
        probabilities = np.stack([confidence, 1 - confidence], axis=1)
        labels = (generator.random(num_images) < errors(confidence)).astype(int)
        threshold = threshold_for_risk(labels, probabilities, target)
        if threshold is not None:
            promised += 1
            broken += true_risk_above(threshold) > target
    return broken / num_draws, promised / num_draws


def test_a_promised_risk_is_kept_where_confidence_tells():
    # Calibrated: above t the errors are 1 - c, of c uniform in t..1.
    broken, promised = share_of_broken_promises(lambda t: (1 - t) / 2, lambda c: 1 - c, 0.2)
    assert broken <= 0.05
    assert promised > 0.9


@pytest.mark.parametrize("target", [0.05, 0.2])
def test_a_risk_that_no_threshold_lowers_is_hardly_ever_promised(target):
    # Confidence tells nothing, and every one of the ten risks is just above the target.
    actual = target + 1e-3
    broken, _ = share_of_broken_promises(
        lambda _: actual, lambda c: np.full_like(c, actual), target
    )
    assert broken <= 0.05


def test_no_threshold_where_nothing_is_right_or_too_little_is_known():
    probabilities = np.tile([0.9, 0.1], (30, 1))
    assert threshold_for_risk(np.ones(30, int), probabilities, 0.9) is None
    assert threshold_for_risk(np.zeros(30, int), probabilities, 0.05) is None
    assert threshold_for_risk(np.zeros(3000, int), np.tile([0.9, 0.1], (3000, 1)), 0.05) == 0


def test_coverage_and_risk_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]])
    result = coverage_and_risk(np.array([0, 1, 1, 0]), probabilities, 0.7)
    counts = {key: result[key] for key in ("num_images", "num_answered", "num_wrong")}
    assert counts == {"num_images": 4, "num_answered": 3, "num_wrong": 1}
    assert (result["coverage"], result["risk"]) == (0.75, pytest.approx(1 / 3))
    interval = binomtest(1, 3).proportion_ci(0.95, method="wilson")
    assert result["risk_interval"] == pytest.approx([interval.low, interval.high])
    nothing = coverage_and_risk(np.array([0]), probabilities[:1], 0.95)
    assert (nothing["coverage"], nothing["risk"], nothing["risk_interval"]) == (0, None, None)
