"""Generated problems: data that stay as they are, and test parts that are more of the same."""

import hashlib

from anneal_utils import benchmark, identity, problems, schedules, theory, training
from anneal_utils.benchmark import first

import numpy as np
import pytest
from scipy import stats

# SHA-256, first 16 digits, of x and y of train and of val, as in version 0.1.0.
DIGESTS = {
    "article": "a0522c037cb4308c fd98818f263a3527 73ad202318123f2d 0073c6d9abdcb3b6",
    "deep_mlp": "a0522c037cb4308c fd98818f263a3527 50566df9944f5a99 3d0fdb05798b4b06",
    "zipf": "1152055dd6294aaf 8a3d91c05c3cf39b a84eaa716c20ebb0 88e1d72821a82af6",
    "characters": "857cea7861a24ec6 61775e8b1e311968 9622e2761647d1e2 9bf5ac84f06247c2",
    "wilson": "09758720a5a765ed 7bd6eb7bb4d46aa3 6db8aec8d61d7623 3cfa94f5d0aab728",
    "quadratic": "cc0dfa62c4b83668 4fe7b59af6de3b66 df3f619804a92fdb df3f619804a92fdb",
    "quadratic_deep:rotation=haar": (
        "6d399b2fbc925b0a fc19b19971194257 5a904cfcd94e7334 6cf1b57d59e7111b"
    ),
    "least_squares:fresh=0": "2630bd94f142b609 d3ad287a58055865 d887d9d8cf9941ec 9bab1a29530ca6b4",
}
SIZES = {
    "article": 4000,
    "deep_mlp": 4000,
    "zipf": 4096,
    "characters": 2048,
    "quadratic_deep": 896,
    "least_squares": 50,
}
WITHOUT = ["wilson", "quadratic", "noisy_quadratic"]
WITHOUT += ["quadratic_deep:rotation=haar", "least_squares:fresh=0"]  # as they were
PROCESSOR = first.load(first.COMMITTED).provenance["machine"]["processor"]


def load(text: str) -> problems.Problem:
    """A problem as the benchmark reads its name."""
    return benchmark.entrants.problem_of(text)


def digest(array) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("name", DIGESTS)
def test_train_and_val_are_those_of_the_first_edition(name):
    if identity.processor() != PROCESSOR and name not in ("article", "deep_mlp", "wilson"):
        pytest.skip("normal draws and matrix products may differ in their last bits")
    problem = load(name)
    arrays = (problem.x_train, problem.y_train, problem.x_val, problem.y_val)
    assert " ".join(map(digest, arrays)) == DIGESTS[name]


def test_the_first_editions_rotation_and_sampling_stay_reachable():
    haar, stored = load("quadratic_deep:rotation=haar"), load("least_squares:fresh=0")
    assert haar.chance_loss == pytest.approx(421.1951763789894, rel=1e-12)
    (matrix,) = (cell.cell_contents for cell in haar.loss.__closure__)
    if identity.processor() == PROCESSOR:
        assert digest(matrix) == "d4c05b94df8f4c5b"
    assert stored.sampling == "replacement" and haar.sampling == "shuffle"
    ours = load("quadratic_deep")
    (rotated,) = (cell.cell_contents for cell in ours.loss.__closure__)
    spectra = [np.linalg.eigvalsh(m.astype(float)) for m in (matrix, rotated)]
    np.testing.assert_allclose(*spectra, atol=1e-4)
    assert np.abs(matrix - rotated).max() > 1
    assert digest(ours.x_test) == digest(haar.x_val) != digest(ours.x_val)


@pytest.mark.parametrize("name", SIZES)
def test_a_test_part_holds_other_samples_of_the_same_kind(name):
    problem = load(name)
    assert problem.samples("test") == SIZES[name]
    x, y = problem.x_test, problem.y_test
    if name in ("article", "deep_mlp"):
        assert (y.argmax(1) == x.argmax(1)).all() and (y.sum(1) == 1).all()
        assert stats.kstest(x.ravel(), "uniform").pvalue > 0.001
    elif name == "zipf":
        assert stats.ks_2samp(y, problem.y_train).pvalue > 0.001
        means = [problem.x_train[problem.y_train == 0].mean(0), x[y == 0].mean(0)]
        np.testing.assert_allclose(*means, atol=5 * 0.4 * (y == 0).sum() ** -0.5)
    elif name == "characters":
        chain = problems.markov_chain()
        np.testing.assert_array_equal(x[:, 2:], y[:, :-1])
        own = -np.log(chain[x[:, :-1], x[:, 1:], y])
        error = own.mean(1).std() / np.sqrt(len(x))
        assert own.mean() == pytest.approx(problems.entropy_rate(chain), abs=4 * error)
    if name != "characters":  # of its few symbols, windows are often alike
        known = {row.tobytes() for part in (problem.x_train, problem.x_val) for row in part}
        assert not any(row.tobytes() in known for row in x)


@pytest.mark.parametrize("name", WITHOUT)
def test_the_others_have_no_test_part(name):
    assert load(name).samples("test") == 0


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_the_unseen_samples_of_wilson_look_alike_to_the_model(optimizer):
    """So that any other held-out samples of the kind would give the same loss."""
    problem = problems.load("wilson")
    model, frame = training.fit_one(
        problem, training.grid([0.01], optimizer=optimizer, epochs=5)[0]
    )
    answers = model.predict(problem.x_val, verbose=0)[:, 0]
    (kernel,) = model.get_weights()
    assert (kernel[3 + 5 * 200 :] == 0).all() and (kernel[:3] != 0).all()
    label = problem.y_val[:, 0]
    assert len(np.unique(answers[label > 0])) == len(np.unique(answers[label < 0])) == 1
    plus, minus = answers[label > 0][0], answers[label < 0][0]
    exact = 0.6 * (plus - 1) ** 2 + 0.4 * (minus + 1) ** 2
    assert frame["val_loss"].iloc[-1] == pytest.approx(exact, rel=1e-5)


def test_the_noisy_quadratic_model_has_the_losses_of_its_theory():
    problem = load("noisy_quadratic")
    h = 1 / np.arange(1, 21)
    assert problem.steps_per_epoch * problem.epochs == 300 and problem.batch_size == 1
    assert problem.chance_loss == pytest.approx(0.5 * h.sum())
    model = problem.build()
    loss = problem.loss(problem.y_val, model(problem.x_val))
    assert float(loss[0]) == pytest.approx(0.5 * h.sum())
    # Each shape at its own best peak, exactly; and the least that any rates give.
    peaks = np.geomspace(0.01, 1.9, 300)[:, None]
    known = {"exponential": 0.0454, "linear": 0.0498, "cosine": 0.0526, "constant": 0.0858}
    for name, least in known.items():
        shape = schedules.values(schedules.build(name, 1.0, 300), 300).astype(float)
        ends = theory.noisy_quadratic(peaks * shape, h, np.sqrt(h))[:, -1]
        assert ends.min() == pytest.approx(least, abs=1e-4)
    best = theory.best_rates(300, h, np.sqrt(h))
    assert theory.noisy_quadratic(best, h, np.sqrt(h))[-1] == pytest.approx(0.0427, abs=1e-4)


@pytest.mark.parametrize("text", ["noisy_quadratic", "noisy_quadratic:directions=100:batch_size=4"])
def test_sgd_on_the_noisy_quadratic_model_follows_its_theory(text):
    problem = load(text)
    h = 1 / np.arange(1, problem.x_train.shape[1] + 1)
    rates = schedules.values(schedules.build("linear", 0.2, 300), 300).astype(float)
    expected = theory.noisy_quadratic(rates, h, np.sqrt(h / problem.batch_size))
    frame = training.train(problem, training.grid(["linear"], [0.2], range(200)), store=False)
    for epoch in (0, 29):
        ends = frame.loc[frame["epoch"] == epoch, "val_loss"].to_numpy(float)
        error = ends.std() / np.sqrt(len(ends))
        assert ends.mean() == pytest.approx(expected[10 * (epoch + 1)], abs=4 * error)


@pytest.mark.parametrize(
    ("text", "argument"),
    [
        ("quadratic_deep:rotation=other", "rotation"),
        ("quadratic_deep:sampling=once", "sampling"),
        ("least_squares:fresh=2", "fresh"),
        ("noisy_quadratic:directions=0", "directions"),
    ],
)
def test_a_bad_knob_is_named(text, argument):
    with pytest.raises(ValueError, match=f"^{argument} = "):
        load(text)
