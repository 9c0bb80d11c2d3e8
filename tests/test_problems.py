"""Problems: exact, frozen, deterministic, offline."""

import dataclasses
import hashlib

from anneal_utils import problems

import keras
import numpy as np
import pytest

OFFLINE = [name for name in problems.names() if name not in ("fashion_mnist", "cifar10")]


@pytest.mark.parametrize("name", OFFLINE)
def test_every_problem_builds_and_is_frozen(name):
    problem = problems.load(name)
    assert problems.load(name) is problem and problem.name == name
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.batch_size = 1
    with pytest.raises(ValueError, match="read-only"):
        problem.x_train[0] = 0
    model = problem.build()
    assert model.built and model(problem.x_train[:3]).shape[0] == 3
    assert name in problems.describe(name)


def test_the_articles_data_and_model_are_as_the_article_has_them():
    article = problems.load("article")
    assert article.x_train.shape == (1000, 3) and article.x_val.shape == (100, 3)
    assert (article.y_train.argmax(1) == article.x_train.argmax(1)).all()
    assert (article.y_train.sum(1) == 1).all()
    widths = [layer.units for layer in article.build().layers]
    activations = [layer.activation.__name__ for layer in article.build().layers]
    assert widths == [9, 9, 9, 3] and activations == ["relu"] * 3 + ["softmax"]
    assert (article.batch_size, article.epochs, article.steps_per_epoch) == (50, 10, 20)
    assert article.loss == "categorical_crossentropy"


def test_label_noise_is_exactly_its_share_and_never_the_true_label():
    """Of the first edition; for the present one see test_problems_images."""
    clean = problems.load("digits", test=0)
    noisy = problems.load("digits_noisy", noise=0.4, test=0)
    np.testing.assert_array_equal(clean.x_train, noisy.x_train)
    np.testing.assert_array_equal(clean.y_val, noisy.y_val)
    assert (clean.y_train != noisy.y_train).sum() == round(0.4 * len(clean.y_train))


def test_digits_are_real_and_disjoint():
    digits = problems.load("digits")
    rows = {image.tobytes() for image in digits.x_train}
    assert sum(image.tobytes() in rows for image in digits.x_val) == 0
    assert digits.x_train.min() == 0 and digits.x_train.max() == 1


def test_quadratic_loss_is_its_formula():
    bowl = problems.load("quadratic", curvature=(1.0, 4.0), start=2.0, noise=0.0)
    model = bowl.build()
    loss = keras.ops.mean(bowl.loss(bowl.y_val, model(bowl.x_val)))
    assert float(loss) == pytest.approx(0.5 * (4 + 16)) == bowl.chance_loss


def test_quadratic_deep_matches_the_matrix_form():
    deep = problems.load("quadratic_deep")
    loss = float(keras.ops.mean(deep.loss(deep.y_val, deep.build()(deep.x_val))))
    # Expected over x: start' Q start / 2 + 0.18 trace(Q); the sample of 896 points is close.
    assert loss == pytest.approx(deep.chance_loss, rel=0.05)


def test_least_squares_condition_number():
    for rotated in (False, True):
        problem = problems.load("least_squares", rotated=rotated)
        values = np.linalg.eigvalsh(np.cov(problem.x_train.T))
        assert values[-1] / values[0] == pytest.approx(1000, rel=0.3)


def test_entropy_rate_of_chains_with_known_answers():
    uniform = np.full((4, 4, 4), 0.25)
    assert problems.entropy_rate(uniform) == pytest.approx(np.log(4))
    cycle = np.zeros((3, 3, 3))  # after 0 comes 1, after 1 comes 2: nothing is left to learn
    cycle[:, [0, 1, 2], [1, 2, 0]] = 1
    assert problems.entropy_rate(cycle) == 0
    # One fair and one deterministic symbol: after 0 a coin, after 1 always 0.
    coin = np.zeros((2, 2, 2))
    coin[:, 0], coin[:, 1] = 0.5, [1, 0]
    assert problems.entropy_rate(coin) == pytest.approx(2 / 3 * np.log(2))


def test_characters_follow_their_chain_and_its_entropy_is_the_floor():
    chain, text = problems.markov_chain(), problems.load("characters")
    np.testing.assert_allclose(chain.sum(-1), 1)
    # Inputs and targets overlap: the target of each place is the next input.
    np.testing.assert_array_equal(text.x_train[:, 2:], text.y_train[:, :-1])
    before, last, following = text.x_train[:, :-1], text.x_train[:, 1:], text.y_train
    own = -np.log(chain[before, last, following])  # the loss of who knows the chain
    error = own.std() / np.sqrt(len(text.x_train))
    assert own.mean() == pytest.approx(problems.entropy_rate(chain), abs=4 * error)
    counts = np.zeros_like(chain)
    np.add.at(counts, (before, last, following), 1)
    often = counts.sum(-1) > 1000
    assert often.any()
    shares = counts[often] / counts[often].sum(-1, keepdims=True)
    np.testing.assert_allclose(shares, chain[often], atol=0.06)


def test_the_transformer_never_sees_what_it_predicts():
    text = problems.load("characters")
    model = text.build()
    x = text.x_train[:4].copy()
    first = np.asarray(model(x))
    assert first.shape == (4, 4, 8)
    x[:, 3:] = (x[:, 3:] + 1) % 8  # places 3 and 4; the outputs are those of places 1 .. 4
    changed = np.abs(np.asarray(model(x)) - first).max(axis=(0, 2))
    assert (changed[:2] == 0).all() and (changed[2:] > 0).all()


def test_the_transformer_attends_as_keras_multi_head_attention_with_one_head():
    text = problems.load("characters")
    model = text.build()
    x = keras.Input((5, 16))
    theirs = keras.layers.MultiHeadAttention(1, 16)
    attend = keras.Model(x, theirs(x, x, use_causal_mask=True))
    query, key, value = (model.get_layer(f"{part}_0") for part in ("query", "key", "value"))
    out = next(layer for layer in model.layers if layer.name.startswith("dense"))
    rng = np.random.default_rng(0)
    for layer in (query, key, value, out):  # biases too, which start from zero
        layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    kernels = [query, key, value]
    weights = [w for layer in kernels for w in layer.get_weights()] + out.get_weights()
    attend.set_weights([w.reshape(t.shape) for w, t in zip(weights, attend.weights, strict=True)])
    ours = keras.Model(query.input, out.output)
    point = rng.normal(size=(3, 5, 16)).astype("float32")
    np.testing.assert_allclose(ours(point), attend(point), atol=1e-4)


@pytest.mark.parametrize(
    "call, argument",
    [
        (lambda: problems.load("mnist"), "name"),
        (lambda: problems.load("digits", noise=0.1), "knob"),
        (lambda: problems.load("digits_noisy", noise=2.0), "noise"),
        (lambda: problems.load("quadratic", curvature=0.0), "curvature"),
        (lambda: problems.load("quadratic", curvature=(1.0, 2.0), noise=(1.0, 1.0, 1.0)), "noise"),
        (lambda: problems.load("deep_mlp", depth=0), "depth"),
        (lambda: problems.load("least_squares", condition=0.5), "condition"),
        (lambda: problems.load("characters", length=2), "length"),
        (lambda: problems.load("characters", symbols=1), "symbols"),
        (lambda: problems.markov_chain(concentration=0.0), "concentration"),
        (lambda: dataclasses.replace(problems.load("digits"), batch_size=0), "batch_size"),
        (lambda: dataclasses.replace(problems.load("digits"), batch_size=9999), "batch_size"),
        (lambda: dataclasses.replace(problems.load("digits"), steps=3), "steps"),
        (lambda: problems.register("digits"), "name"),
    ],
)
def test_bad_input_is_named(call, argument):
    with pytest.raises(ValueError, match=rf"^{argument}.* = "):
        call()


def test_a_knob_of_several_numbers_comes_in_any_form():
    forms = [(1.0, 2.0), [1.0, 2.0], np.array([1.0, 2.0])]
    assert len({id(problems.load("quadratic", curvature=form)) for form in forms}) == 1
    with pytest.raises(ValueError, match=r"^curvature = \{1: 2\}: must be a number"):
        problems.load("quadratic", curvature={1: 2})


def test_a_download_is_opt_in_verified_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    monkeypatch.setattr(problems.downloads, "CACHE", tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match="download=True"):
        problems.load("fashion_mnist")
    source = tmp_path / "source"
    source.mkdir()
    (source / "file.bin").write_bytes(b"content")
    good, wrong = hashlib.sha256(b"content").hexdigest(), hashlib.sha256(b"other").hexdigest()
    origin = source.as_uri() + "/"
    with pytest.raises(OSError, match="expected hash"):
        problems.downloads._fetch(origin, "file.bin", wrong, download=True)
    assert not list((tmp_path / "cache").iterdir())
    with pytest.raises(OSError, match="check the network"):
        problems.downloads._fetch(
            (tmp_path / "nowhere").as_uri() + "/", "file.bin", good, download=True
        )
    path = problems.downloads._fetch(origin, "file.bin", good, download=True)
    assert path.read_bytes() == b"content"
    path.write_bytes(b"damaged")
    with pytest.raises(OSError, match="damaged"):
        problems.downloads._fetch(origin, "file.bin", good, download=False)


def test_zipf_has_classes_as_unequal_as_words():
    problem = problems.load("zipf", classes=50)
    counts = np.bincount(problem.y_train, minlength=50) / len(problem.y_train)
    share = 1 / np.arange(1, 51)
    np.testing.assert_allclose(counts, share / share.sum(), atol=0.01)
    assert problem.steps_per_epoch * problem.epochs * problem.batch_size <= len(problem.x_train)


def test_wilson_separates_the_two_solutions_as_its_paper_proves():
    problem = problems.load("wilson")
    x, y = problem.x_train.astype(float), problem.y_train[:, 0].astype(float)
    x_val, y_val = problem.x_val.astype(float), problem.y_val[:, 0]
    # What gradient descent finds: the solution of least norm. Every unseen label is right.
    least_norm = np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_array_equal(np.sign(x_val @ least_norm), y_val)
    # What adaptive methods find: proportional to sign(X'y). It fits, and answers +1 to all unseen.
    equalised = np.sign(x.T @ y)
    np.testing.assert_array_equal(np.sign(x @ equalised), y)
    assert (np.sign(x_val @ equalised) == 1).all() and (y_val == -1).mean() == 0.4
    # The unseen samples' own coordinates were never touched.
    assert not (np.abs(x[:, 3:]).sum(0) * np.abs(x_val[:, 3:]).sum(0)).any()
