"""Problems with real data: what is in their parts, and what nobody may see beforehand."""

import re
from pathlib import Path

from anneal_utils import identity, problems, training
from anneal_utils.problems import english, health, photograph
from anneal_utils.problems.catalogue import SPLITS

import keras
import numpy as np
import pandas as pd
import pytest
from elsewhere import python
from sklearn.datasets import load_iris, load_sample_image
from sklearn.metrics import mean_poisson_deviance
from statsmodels.datasets import randhie

REAL = ("health", "photograph", "english")
DIGESTS = """
from anneal_utils import identity, problems
for name in {}:
    problem = problems.load(name)
    print(identity.digest([problem.arrays(), [problem.rows(seed) for seed in range(4)]]))
"""


@pytest.mark.parametrize("name", REAL)
def test_parts_are_the_same_rows_divided_anew_for_each_seed_and_a_test_part_of_its_own(name):
    problem = problems.load(name)
    total = problem.samples("train") + problem.samples("val")
    assert problem.samples("test") > 0.3 * (total + problem.samples("test"))
    tuned = [problem.rows(seed)[1] for seed in range(SPLITS)]
    for seed in range(SPLITS):
        assert sorted([*problem.rows(seed)[0], *tuned[seed]]) == list(range(total))
        np.testing.assert_array_equal(problem.rows(seed)[1], problem.rows(seed + SPLITS)[1])
    assert len({rows.tobytes() for rows in tuned}) == SPLITS
    np.testing.assert_array_equal(tuned[0], np.arange(problem.samples("train"), total))


def test_another_process_has_the_same_data_in_the_same_parts():
    told = python("-c", DIGESTS.format(REAL), PYTHONHASHSEED="7").split()
    for name, digest in zip(REAL, told, strict=True):
        problem = problems.load(name)
        rows = [problem.rows(seed) for seed in range(4)]
        assert identity.digest([problem.arrays(), rows]) == digest


@pytest.mark.parametrize("name", REAL)
def test_they_train_as_fit_does_in_every_split(name):
    run = training.grid("linear", 0.001, seeds=[6], optimizer="momentum", epochs=1)[0]
    frame = training.train(name, [run], mode="graph")
    plain = training.fit_one(problems.load(name), run)[1]
    shared = [column for column in plain if column != "run"]
    pd.testing.assert_frame_equal(frame[shared], plain[shared], check_exact=True)
    assert frame["test_loss"].notna().all()
    quick = training.train(name, [run])
    numbers = ["train_loss", "val_loss", "test_loss"]
    np.testing.assert_allclose(quick[numbers], frame[numbers], rtol=2e-3)


@pytest.mark.parametrize("name", REAL)
def test_a_few_epochs_end_below_chance_on_tune_and_test(name):
    runs = training.grid("linear", 0.01, seeds=range(4), optimizer="adam")
    last = training.train(name, runs).groupby("seed").tail(1)
    chance = problems.load(name).chance_loss
    assert (last["val_loss"] < 0.98 * chance).all() and (last["test_loss"] < 0.98 * chance).all()


# ------------------------------------------------------------------------------------- health


def test_the_deviance_is_scikit_learns():
    rng = np.random.default_rng(3)
    y, log_rate = rng.poisson(2, size=(200, 1)), rng.normal(size=(200, 1)).astype("float32")
    assert (y == 0).any()
    own = keras.ops.convert_to_numpy(health.poisson_deviance(y, keras.ops.array(log_rate)))
    assert own.shape == (200,) and (own > -1e-5).all()
    assert own.mean() == pytest.approx(mean_poisson_deviance(y, np.exp(log_rate)), rel=1e-5)
    best = np.log(np.arange(1, 9, dtype="float32"))[:, None]  # the rate that is the count
    perfect = health.poisson_deviance(np.arange(1, 9)[:, None], keras.ops.array(best))
    np.testing.assert_allclose(perfect, 0, atol=1e-5)


def test_the_chance_of_health_is_that_of_the_mean_and_alike_in_all_parts():
    problem = problems.load("health")
    parts = [problem.y_test, *(problem.data()["val"][1][problem.rows(s)[1]] for s in range(4))]
    chances = [mean_poisson_deviance(y, np.full(len(y), y.mean())) for y in parts]
    assert problem.chance_loss == pytest.approx(chances[1], rel=1e-6)
    np.testing.assert_allclose(chances, problem.chance_loss, rtol=0.01)
    for log_rate in np.log(problem.y_val.mean()) + np.linspace(-0.3, 0.3, 7):
        output = keras.ops.full(problem.y_val.shape, log_rate)
        worse = float(keras.ops.mean(health.poisson_deviance(problem.y_val, output)))
        assert worse >= problem.chance_loss * (1 - 1e-5)


def test_the_rows_of_a_person_are_in_one_part():
    source = Path(randhie.__file__).parent / "src" / "randhie.csv"
    if not source.exists():
        pytest.skip("this statsmodels has no source file with the persons' numbers")
    people = pd.read_csv(source, usecols=["zper", "mdvis", *health.BASELINE])
    table = randhie.load_pandas().data
    np.testing.assert_array_equal(people["mdvis"], table["mdvis"])
    together = pd.Series(health.neighbours(table)).groupby(people["zper"].to_numpy()).nunique()
    assert len(together) == 5912 and (together == 1).all()
    pool, test, splits = health._parts()
    for part in (test, *splits):
        rest = np.setdiff1d(np.arange(len(table)) if part is test else pool, part)
        assert not set(people["zper"].iloc[part]) & set(people["zper"].iloc[rest])


def test_facts_are_standardised_without_the_test_rows():
    problem = problems.load("health")
    known = np.concatenate([problem.x_train, problem.x_val]).astype(float)
    np.testing.assert_allclose(known.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(known.std(axis=0), 1, atol=1e-5)
    assert np.abs(problem.x_test.mean(axis=0)).max() > 0.01
    # A fact, a count and its row belong together: as least squares on the table itself has it.
    table = randhie.load_pandas().data.to_numpy(float)
    rows = np.r_[np.setdiff1d(health._parts()[0], health._parts()[2][0]), health._parts()[2][0]]
    facts = np.concatenate([problem.y_train, problem.y_val]), table[rows, 0]
    np.testing.assert_array_equal(facts[0][:, 0], facts[1])
    assert np.corrcoef(known[:, 5], table[rows, 6])[0, 1] == pytest.approx(1)


# --------------------------------------------------------------------------------- photograph


def test_pixels_are_means_of_the_photographs():
    small, image = photograph.pixels(), load_sample_image("china.jpg") / 255
    assert small.shape == (64, 96, 3) and 0 <= small.min() < small.max() <= 1
    np.testing.assert_allclose(small[0, 0], image[:7, :7].mean(axis=(0, 1)), rtol=1e-6)
    np.testing.assert_allclose(small[-1, 5], image[420:, 33:40].mean(axis=(0, 1)), rtol=1e-6)
    np.testing.assert_allclose(small.mean(), image.mean(), rtol=0.01)


def test_every_pixel_is_in_one_part_with_its_colour():
    problem = problems.load("photograph")
    x = np.concatenate([problem.x_train, problem.x_val, problem.x_test])
    y = np.concatenate([problem.y_train, problem.y_val, problem.y_test])
    down, right = (np.floor(x[:, i] * size).astype(int) for i, size in enumerate((64, 96)))
    assert len(set(zip(down, right, strict=True))) == 64 * 96 == len(x)
    np.testing.assert_array_equal(photograph.pixels()[down, right], y)
    assert problem.chance_loss == pytest.approx(problem.y_val.var(axis=0).mean(), rel=1e-5)


def test_the_picture_is_what_the_model_says_of_every_place():
    problem = problems.load("photograph")
    model = problem.build()
    picture = photograph.picture(model)
    assert picture.shape == (64, 96, 3) and 0 <= picture.min() <= picture.max() <= 1
    place = (10 * 96 + 70, (10 + 0.5) / 64, (70 + 0.5) / 96)
    colour = np.asarray(model(np.array([place[1:]], "float32")))[0]
    np.testing.assert_allclose(picture[10, 70], np.clip(colour, 0, 1), atol=1e-6)


def test_waves_are_fixed_and_known():
    first, second = problems.load("photograph").build(), problems.load("photograph").build()
    waves = first.layers[0]
    assert not waves.weights
    at = np.random.default_rng(1).uniform(size=(5, 2)).astype("float32")
    out = np.asarray(waves(at))
    np.testing.assert_array_equal(out, second.layers[0](at))
    np.testing.assert_allclose(out[:, :32] ** 2 + out[:, 32:] ** 2, 1, rtol=1e-5)
    # The angle grows with the place as B says, whose entries have the spread 3.
    angle = np.angle(out[:, :32] + 1j * out[:, 32:])
    step = np.asarray(waves(at + np.array([0.01, 0], "float32")))
    turned = np.angle((step[:, :32] + 1j * step[:, 32:]) * np.exp(-1j * angle)) / 0.02 / np.pi
    np.testing.assert_allclose(turned, np.broadcast_to(turned[0], turned.shape), atol=0.01)
    assert turned[0].std() == pytest.approx(3, rel=0.3)


# ------------------------------------------------------------------------------------ english


def test_cleaned_text_has_32_symbols_and_stays_as_it_is():
    assert len(set(english.SYMBOLS)) == 32
    assert english.clean("  It's 42 — No...\n=== `x`, a-b: ÄÖ --- y.") == "it's no x , a-b: y."
    for text in english.documents().values():
        assert set(text) <= set(english.SYMBOLS) and "  " not in text
        assert english.clean(text) == text
    assert english.clean(load_iris().DESCR).endswith(english.documents()["iris"][-200:])


def test_windows_are_stretches_of_documents_that_do_not_overlap():
    problem, texts = problems.load("english"), english.documents()
    learned, unread = english.parts()
    assert sorted(learned + unread) == sorted(texts) and unread
    assert sum(len(texts[name]) for name in unread) >= sum(map(len, texts.values())) / 3
    for names, parts in ((learned, ("train", "val")), (unread, ("test",))):
        found = []
        for part in parts:
            x, y = problem.part(part)
            np.testing.assert_array_equal(x[:, 6:], y[:, :-1])  # six before the first answer
            whole = np.concatenate([x, y[:, -1:]], axis=1)
            found += ["".join(english.SYMBOLS[i] for i in row) for row in whole]
        expected = [part for name in names for part in re.findall(".{33}", texts[name])]
        assert sorted(found) == sorted(expected)


def test_the_chance_of_english_is_that_of_the_symbols_frequencies():
    problem = problems.load("english")
    counts = pd.Series(problem.y_val.ravel()).value_counts(normalize=True)
    entropy = -(counts * np.log(counts)).sum()
    assert problem.chance_loss == pytest.approx(entropy, rel=1e-4)
    assert entropy < np.log(32)


def test_the_reader_sees_the_last_six_characters_and_no_more():
    problem = problems.load("english")
    model, x = problem.build(), problem.x_train[:3].copy()
    first = np.asarray(model(x))
    assert first.shape == (3, 27, 32)
    x[:, 10] = (x[:, 10] + 1) % 32
    changed = np.abs(np.asarray(model(x)) - first).max(axis=(0, 2)) > 0
    # The answer at i is about the symbol after place i + 5, and has seen places i to i + 5.
    np.testing.assert_array_equal(np.flatnonzero(changed), np.arange(5, 11))


@pytest.mark.parametrize(
    "call, argument",
    [
        (lambda: problems.load("health", width=0), "width"),
        (lambda: problems.load("health", batch_size=1.5), "batch_size"),
        (lambda: problems.load("photograph", scale=0.0), "scale"),
        (lambda: problems.load("photograph", features=0), "features"),
        (lambda: problems.load("english", context=33), "context"),
        (lambda: problems.load("english", length=0), "length"),
    ],
)
def test_bad_knobs_are_named(call, argument):
    with pytest.raises(ValueError, match=rf"^{argument} = "):
        call()
