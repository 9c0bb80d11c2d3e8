"""Digits in parts and splits, a network that shifts, one that was trained before, and MNIST-1D."""

import dataclasses
import json

from anneal_utils import identity, problems, training
from anneal_utils.benchmark import entrants
from anneal_utils.problems import _pretraining, images, models, sequences
from anneal_utils.problems.catalogue import SPLITS
from anneal_utils.training import _keras

import elsewhere
import keras
import numpy as np
import pytest
import tensorflow as tf
from test_data import same

DIGITS = ("digits", "digits_noisy", "digits_cnn", "digits_residual")
NEW = ("digits_residual", "digits_finetune", "mnist1d")
SIZES = dict.fromkeys(DIGITS, (958, 240, 599))
SIZES |= {"digits_finetune": (336, 112, 448), "mnist1d": (3200, 800, 2000)}
STEPS = {"digits": 1305, "digits_noisy": 1305, "digits_cnn": 435}  # the first edition: 1320, 440


@pytest.mark.parametrize("name", SIZES)
def test_three_parts_have_no_row_in_common_and_every_class_in_proportion(name):
    mine = problems.load(name)
    assert tuple(map(mine.samples, ("train", "val", "test"))) == SIZES[name]
    pool = np.concatenate([mine.x_train, mine.x_val])
    assert not {row.tobytes() for row in pool} & {row.tobytes() for row in mine.x_test}
    labels = np.concatenate([mine.y_train, mine.y_val])
    true = np.concatenate([problems.load("digits").y_train, problems.load("digits").y_val])
    true = true if name == "digits_noisy" else labels
    whole = np.bincount(np.concatenate([true, mine.y_test]))
    for part in (true, mine.y_test):
        shares = np.bincount(part) / len(part)
        np.testing.assert_allclose(shares, whole / whole.sum(), atol=1.01 / len(part))
    tuned = [mine.rows(seed)[1] for seed in range(SPLITS)]
    assert len({rows.tobytes() for rows in tuned}) == SPLITS
    assert mine.rows(SPLITS)[1] is tuned[0]
    for rows in tuned:
        shares = np.bincount(true[rows]) / len(rows)
        np.testing.assert_allclose(shares, whole / whole.sum(), atol=1.5 / len(rows))
    if name in STEPS:
        assert mine.epochs * mine.steps_per_epoch == STEPS[name]


FIRST = {
    "digits": ({}, 30, "10bcd557098fa6f8c1c47a77b875de42"),
    "digits_cnn": ({}, 10, "10bcd557098fa6f8c1c47a77b875de42"),
    "digits_noisy": ({}, 30, "851cb5257937d08ceb9d6740bbe1cebe"),
    "digits_noisy, more": ({"noise": 0.4}, 30, "7e388b4ba9ac8c1be4943bfe0209b278"),
}


@pytest.mark.parametrize("case", FIRST)
def test_without_a_test_part_it_is_the_first_editions_problem(case):
    """The digests are those of the arrays of 0.1.0."""
    knobs, epochs, expected = FIRST[case]
    name = case.partition(",")[0]
    mine = problems.load(name, test=0, **knobs)
    assert identity.digest(mine.arrays()) == expected
    assert mine.rows(0) is None and not mine.samples("test") and mine.name == name
    assert (mine.epochs, mine.steps_per_epoch, mine.batch_size) == (epochs, 44, 32)
    assert entrants.problem_of(f"{name}:test=0").epochs == epochs
    with pytest.raises(ValueError, match=r"^test = 2: must be one of 0, 1"):
        problems.load(name, test=2)


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_labels_are_wrong_in_train_and_tune_and_clean_in_the_test_part(share):
    clean, noisy = problems.load("digits"), problems.load("digits_noisy", noise=share)
    for part in ("x_train", "x_val", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(clean, part), getattr(noisy, part))
    wrong = np.concatenate([clean.y_train != noisy.y_train, clean.y_val != noisy.y_val])
    assert wrong.sum() == round(share * 1198)
    for seed in range(4):
        np.testing.assert_array_equal(clean.rows(seed)[1], noisy.rows(seed)[1])
        assert wrong[noisy.rows(seed)[1]].mean() == pytest.approx(share, abs=0.1)


@pytest.mark.parametrize("name", NEW)
def test_it_trains_as_fit_does(name):
    """With its batch moments, random shifts and given weights, in a split that was drawn."""
    mine = dataclasses.replace(problems.load(name), epochs=1)
    run = training.grid("linear", 0.05, seeds=[5], optimizer="momentum")[0]
    frame = training.train(mine, [run], mode="graph")
    same(frame, training.fit_one(mine, run)[1])
    assert np.isfinite(frame[["train_loss", "val_loss", "test_loss"]]).all(axis=None)


def told() -> dict:
    """Digests of what the new problems are made of."""
    return {
        name: identity.digest(
            problems.load(name).arrays(),
            _keras.build(problems.load(name), 3)[0].get_weights(),
        )
        for name in NEW
    }


def test_another_process_with_other_threads_makes_the_same_problems():
    code = "import json, test_problems_images as t; print(json.dumps(t.told()))"
    said = elsewhere.python("-c", code, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    assert json.loads(said.splitlines()[-1]) == told()


# ---------------------------------------------------------------------------------------- layers


def test_a_shift_moves_each_image_by_a_pixel_at_most_and_only_in_training():
    x = np.random.default_rng(0).uniform(1, 2, size=(4000, 8, 8, 2)).astype("float32")
    layer = models.RandomShift(seed=1)
    np.testing.assert_array_equal(layer(x), x)
    moved, again = (np.asarray(layer(x, training=True)) for _ in range(2))
    assert not np.array_equal(moved, again)
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    copies = [padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    which = np.array([(moved == copy).all(axis=(1, 2, 3)) for copy in copies])
    assert (which.sum(axis=0) == 1).all()
    assert which.sum(axis=1).min() > 350  # 444 expected, with a deviation of 20
    twin = models.RandomShift.from_config(layer.get_config())
    np.testing.assert_array_equal(twin(x, training=True), moved)


@pytest.mark.parametrize("length, size, stride", [(40, 5, 2), (20, 3, 2), (7, 3, 2), (9, 4, 1)])
def test_the_matrix_product_is_keras_convolution(length, size, stride):
    x = np.random.default_rng(0).normal(size=(3, length, 2)).astype("float32")
    for bias in (True, False):
        given = dict(strides=stride, padding="same", activation="relu", use_bias=bias)
        ours = problems.MatmulConv1D(4, size, bias_initializer="ones", **given)
        theirs = keras.layers.Conv1D(4, size, **given)
        expected = ours(x)
        theirs.build(x.shape)
        theirs.set_weights(ours.get_weights())
        np.testing.assert_allclose(theirs(x), expected, atol=1e-5)


def test_a_convolution_of_images_may_have_no_bias():
    x = np.random.default_rng(0).normal(size=(3, 5, 6, 2)).astype("float32")
    ours = problems.MatmulConv2D(4, 3, padding="same", use_bias=False)
    expected = ours(x)
    theirs = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(theirs(x), expected, atol=1e-5)


# ------------------------------------------------------------------------------------ fine-tuning


def known_digits():
    x, y = images._images()
    return x[y < 5], y[y < 5]


def test_the_earlier_training_follows_the_gradient_of_the_cross_entropy():
    rng = np.random.default_rng(0)
    layers = [[rng.normal(size=s), rng.normal(size=s[1])] for s in ((4, 6), (6, 5), (5, 3))]
    x, y = rng.normal(size=(7, 4)), rng.integers(3, size=7)
    variables = [[tf.Variable(part) for part in layer] for layer in layers]
    with tf.GradientTape() as tape:
        output = tf.constant(x)
        for kernel, bias in variables[:-1]:
            output = tf.nn.relu(output @ kernel + bias)
        output = output @ variables[-1][0] + variables[-1][1]
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, output))
    expected = tape.gradient(loss, variables)
    found = _pretraining._gradient(layers, x, np.eye(3)[y])
    for mine, theirs in zip(found, expected, strict=True):
        for i in range(2):
            np.testing.assert_allclose(mine[i], theirs[i], rtol=1e-10, atol=1e-12)


def test_the_earlier_network_knows_its_digits_and_its_weights_round_alike_everywhere():
    x, y = known_digits()
    layers = _pretraining.trained(x, y, (64, 32))
    output = x
    for kernel, bias in layers[:-1]:
        output = np.maximum(output @ kernel + bias, 0)
    output = output @ layers[-1][0] + layers[-1][1]
    assert (output.argmax(axis=1) == y).mean() > 0.98
    # No weight is so near to the edge of its decimal that other sums would round it otherwise.
    units = np.concatenate([part.ravel() for layer in layers[:-1] for part in layer])
    units = np.abs(units) * 10**_pretraining.DECIMALS
    assert np.abs(units % 1 - 0.5).min() > 1e-8


def test_every_run_starts_from_the_earlier_network_with_an_output_layer_of_its_own():
    mine = problems.load("digits_finetune")
    first, second = (_keras.build(mine, seed)[0].get_weights() for seed in (1, 2))
    hidden = _pretraining.hidden_layers(*known_digits(), (64, 32))
    for start in (first, second):
        for given, expected in zip(start[:4], [p for pair in hidden for p in pair], strict=True):
            np.testing.assert_array_equal(given, expected)
    assert not np.array_equal(first[4], second[4])
    assert set(mine.y_train) == set(range(5))


def test_the_earlier_network_is_a_start_worth_having():
    mine = dataclasses.replace(problems.load("digits_finetune"), epochs=3)
    fresh = dataclasses.replace(mine, build=lambda: models.mlp(64, (64, 32), 5))
    runs = training.grid("constant", 0.03, seeds=range(4))
    losses = [training.train(p, runs, mode="graph")["val_loss"] for p in (mine, fresh)]
    assert losses[0].iloc[-1] < 0.7 * losses[1].iloc[-1]


# --------------------------------------------------------------------------------------- MNIST-1D

# By github.com/greydanus/mnist1d, its first two curves after numpy.random.seed(42), those of a 0
# and of a 7: points 0, 10, 20, 30 and 39.
PUBLISHED = {
    0: [-0.042093, -0.022458, 0.03015, 0.320298, 0.077998],
    7: [-0.267789, -0.063518, 0.000432, 0.066852, 0.373817],
}


def test_curves_are_those_of_the_published_generator():
    rng = np.random.RandomState(42)
    for digit, expected in PUBLISHED.items():
        found = sequences.curve(sequences.templates()[digit], rng)
        np.testing.assert_allclose(found[[0, 10, 20, 30, 39]], expected, atol=2e-6)


def test_mnist_1d_is_centred_and_scaled_by_train_and_tune():
    mine = problems.load("mnist1d")
    pool = np.concatenate([mine.x_train, mine.x_val])
    assert pool.mean() == pytest.approx(0, abs=1e-5) and pool.std() == pytest.approx(1, abs=1e-5)
    assert mine.x_test.std() == pytest.approx(1, abs=0.03)
