import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.predictor import (
    ATTEMPTS_REMEMBERED,
    PROCESS_BYTES,
    TABLES_MIN,
    Belief,
    Observation,
    Predictor,
    Prior,
    data_bytes,
    learn,
    predict,
    prior,
)

GIB = 1 << 30
DATA = int(data_bytes(GIB))
ratios = st.lists(st.floats(-3, 3), min_size=1, max_size=40)


def wave(ys):
    return [Observation(round(GIB - DATA + DATA * math.exp(y)), GIB) for y in ys]


def test_a_cold_key_is_granted_what_is_usual():
    cold = predict(Belief(), Prior(), GIB)
    # ln 2 between tables, sd sqrt(.25 + .08 ** 2), 2.5 of them.
    assert cold.granted_bytes == pytest.approx(
        PROCESS_BYTES + DATA * 2 * math.exp(2.5 * math.sqrt(0.2564)), rel=1e-5
    )
    assert cold.predicted_bytes == pytest.approx(
        PROCESS_BYTES + DATA * 2 * math.exp(0.2564 / 2), rel=1e-6
    )


def test_the_process_is_not_multiplied():
    """Tables whose data is twice what was expected: small tasks are a process all the same."""
    predictor, mib = Predictor(), 1 << 20
    sizes = [PROCESS_BYTES + mib * data for data in (40, 80, 160, 320)] * 8
    seen = [Observation(PROCESS_BYTES + 2 * (size - PROCESS_BYTES), size) for size in sizes]
    predictor.learn(("t", "rewrite"), seen)
    for data in (30, 300):
        prediction = predictor.predict(("t", "rewrite"), PROCESS_BYTES + data * mib)
        assert prediction.predicted_bytes == pytest.approx(PROCESS_BYTES + 2 * data * mib, rel=0.03)
        assert prediction.granted_bytes < PROCESS_BYTES + 3.1 * data * mib


@pytest.mark.parametrize("beside", [-8, 8])
def test_what_is_held_beside_the_data_is_learned(beside):
    """A key whose worker has loaded more than others, or less."""
    predictor, mib = Predictor({"rewrite": Prior(0.0, 0.02)}), 1 << 20
    for data in (10, 20, 40, 80) * 10:
        base = PROCESS_BYTES + data * mib
        seen = Observation(base + beside * mib, base)
        granted = predictor.predict(("t", "rewrite"), base).granted_bytes
        predictor.observe(("t", "rewrite"), seen)
    assert predictor.rates(("t", "rewrite")).beside_bytes / mib == pytest.approx(beside, abs=2)
    assert seen.peak_bytes < granted < seen.peak_bytes + 40 * mib


def test_a_line_forgets():
    mib = 1 << 20
    wave = [
        Observation(PROCESS_BYTES + 2 * mib * size, PROCESS_BYTES + mib * size)
        for size in (20, 30, 40, 50, 60, 70, 80, 90)
    ]
    belief = Belief()
    for _ in range(100):
        belief = learn(belief, wave)
    assert belief.line.weight < 1.1 * ATTEMPTS_REMEMBERED / 16
    assert abs(belief.line.beside_bytes) < 4 * mib


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_a_larger_base_is_granted_more(one, other):
    rates = Predictor().rates(("t", "rewrite"))
    less, more = sorted((one, other))
    assert rates.grant_bytes(less) <= rates.grant_bytes(more)
    assert rates.mean_bytes(less) <= rates.mean_bytes(more)


def test_an_operation_starts_from_what_is_known_of_it():
    known = Predictor({"rewrite": Prior(0.0, 0.04)})
    for operation in ("rewrite", "rewrite@26"):
        cold = known.predict(("t", operation), GIB)
        assert cold.granted_bytes < Predictor().predict(("t", operation), GIB).granted_bytes
        assert cold.predicted_bytes == pytest.approx(GIB, rel=0.05)


def test_one_wave_is_nearly_enough():
    belief = learn(Belief(), wave([math.log(1.5)] * 16))
    prediction = predict(belief, Prior(), GIB)
    assert prediction.predicted_bytes == pytest.approx(GIB + 0.5 * DATA, rel=0.02)
    assert 1.5 * GIB < prediction.granted_bytes < 2.2 * GIB


def test_the_variance_of_a_key_shows_in_its_grant():
    steady = learn(Belief(), wave([0.0] * 32))
    noisy = learn(Belief(), wave([-0.3, 0.3] * 16))
    assert predict(noisy, Prior(), GIB).granted_bytes > predict(steady, Prior(), GIB).granted_bytes


def test_noise_that_does_not_grow_with_the_data_is_not_multiplied_by_it():
    """Small tasks that deviate by 3 MiB: large ones are not thought to deviate by a third."""
    random.seed(3)
    predictor, mib = Predictor({"rewrite": Prior(0.0, 0.02)}), 1 << 20
    key = ("t", "rewrite")
    for _ in range(12):
        sizes = [PROCESS_BYTES + mib * data for data in (8, 10, 12, 100)]
        seen = [Observation(size + round(random.gauss(0, 3 * mib)), size) for size in sizes]
        predictor.learn(key, seen)
    small, large = (PROCESS_BYTES + data * mib for data in (10, 200))
    assert predictor.predict(key, large).granted_bytes < 1.3 * large
    assert small + 6 * mib < predictor.predict(key, small).granted_bytes < small + 15 * mib


def test_an_outlier_is_clipped():
    calm = learn(Belief(), wave([0.0] * 15 + [0.16]))
    hot = learn(Belief(), wave([0.0] * 15 + [5.0]))
    assert hot.mean == pytest.approx(calm.mean, abs=1e-3)
    assert hot.variance == pytest.approx(calm.variance, abs=1e-3)
    assert abs(hot.line.beside_bytes) < 1 << 20


def test_a_change_is_believed_after_about_as_many_attempts_as_are_remembered():
    belief = learn(Belief(), wave([0.0] * 1000))
    for _ in range(ATTEMPTS_REMEMBERED // 8):
        belief = learn(belief, wave([1.0] * 8))
    assert belief.mean > 0.6


def test_tables_teach_each_other():
    predictor = Predictor()
    for table in range(TABLES_MIN):
        predictor.learn((f"t{table}", "rewrite"), wave([0.7 + 0.01 * table] * 8))
    usual = predictor.predict(("new", "rewrite"), GIB)
    assert usual.granted_bytes < predictor.predict(("new", "other"), GIB).granted_bytes
    assert usual.predicted_bytes == pytest.approx(math.exp(0.72) * GIB, rel=0.06)


def test_too_few_tables_do_not():
    assert prior([3.0] * (TABLES_MIN - 1)) == Prior()


@given(st.lists(ratios, max_size=5), st.integers(1, 1 << 40))
def test_grants_are_positive_and_cover_the_expectation(waves, base_bytes):
    belief = Belief()
    for some in waves:
        belief = learn(belief, wave(some))
        assert belief.variance >= 0
    prediction = predict(belief, Prior(), base_bytes)
    assert prediction.granted_bytes >= 0
    assert prediction.predicted_bytes <= prediction.granted_bytes


def test_first_attempts_seldom_fail_and_little_is_wasted():
    """The population of the design: log-normal ratios between tables, 6 % noise within one."""
    random.seed(7)
    predictor = Predictor()
    failed = attempts = 0
    granted = used = 0.0
    for table in range(30):
        key, ratio = (f"t{table}", "rewrite"), random.lognormvariate(math.log(2), 0.4)
        for _ in range(20):
            grant = predictor.predict(key, GIB).granted_bytes
            peaks = [GIB * ratio * random.lognormvariate(0, 0.06) for _ in range(16)]
            attempts += len(peaks)
            failed += sum(peak > grant for peak in peaks)
            granted += grant * len(peaks)
            used += sum(peaks)
            predictor.learn(key, [Observation(round(peak), GIB) for peak in peaks])
    assert failed / attempts <= 0.001
    assert used / granted > 0.75


observations = st.builds(Observation, st.integers(0, 1 << 45), st.integers(0, 1 << 45))


@given(st.lists(st.lists(observations, min_size=1, max_size=20), max_size=5))
def test_any_history_gives_finite_rates(waves):
    predictor = Predictor()
    for some in waves:
        predictor.learn(("t", "x"), some)
    mean, spread, grant, *_ = predictor.rates(("t", "x"))
    assert 0 < mean < math.inf
    assert 0 <= spread < math.inf
    assert 0 < grant < math.inf


@given(ratios, st.randoms())
def test_the_order_within_a_wave_does_not_matter(ys, random):
    shuffled = list(ys)
    random.shuffle(shuffled)
    assert learn(Belief(), wave(shuffled)).mean == pytest.approx(
        learn(Belief(), wave(ys)).mean, abs=1e-9
    )


def test_small_attempts_teach_little_about_large_ones():
    large = learn(Belief(), wave([0.7] * 32))
    tiny = [Observation(1 << 20, 10 << 20)] * 16
    assert learn(large, tiny).mean == pytest.approx(0.7, abs=0.03)
    assert learn(large, wave([-2.3] * 16)).mean < 0.3


def test_a_new_engine_starts_from_what_the_one_before_needed():
    predictor = Predictor()
    predictor.learn(("t", "rewrite@25"), wave([1.2] * 32))
    new = predictor.rates(("t", "rewrite@26"))
    assert new.mean == pytest.approx(math.exp(1.2), rel=0.1)
    assert new.grant < predictor.rates(("other", "rewrite@26")).grant
    predictor.learn(("t", "rewrite@26"), wave([0.0] * 32))
    assert predictor.rates(("t", "rewrite@26")).mean == pytest.approx(1.0, rel=0.1)
    assert predictor.rates(("t", "rewrite@25")).mean == pytest.approx(math.exp(1.2), rel=0.1)


def test_without_a_key_a_base_is_taken_at_its_word():
    assert Predictor().rates(None) == (1.0, 0.0, 1.0, 0, 0, 0)
