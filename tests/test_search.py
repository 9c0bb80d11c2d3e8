"""The search: what it finds where the best is known, and what its runs share."""

import ast
import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path

from anneal_utils import problems, schedules, search, theory, training
from anneal_utils.search import ends, knots, searching
from tests.small import sequential, tiny

import keras
import numpy as np
import pandas as pd
import pytest

# Equal directions: their best rates are those of one, known in closed form, and the loss of a run
# is a mean over all of them.
STEPS = 20
BOWL = dict(curvature=(1.0,) * 300, noise=1.0, start=1.0, epochs=1, steps=STEPS)
FEW = dict(knots=4, generations=3, population=4, seeds=2, start=("constant", 0.1))


@pytest.fixture(scope="module")
def bowl():
    return problems.load("quadratic", **BOWL)


@pytest.fixture(scope="module")
def found(bowl):
    return search.search(bowl, "sgd", **FEW, store=False)


def excess(rates):
    """The exact expected loss of rates [..., steps] at the end, whatever the seeds."""
    return theory.noisy_quadratic(rates)[..., -1]


def excess_of(found):
    return excess(schedules.values(found.recipe, found.steps).astype(float))


def test_from_two_starts_it_meets_the_best_that_theory_allows(bowl):
    optimum = excess(theory.best_rates_of_one_direction(STEPS))
    assert (excess(np.full((2, STEPS), [[0.4], [0.03]])) > 4 * optimum).all()
    given = dict(knots=4, generations=24, population=8, seeds=4, store=False)
    high = search.search(bowl, "sgd", start=("constant", 0.4), **given)
    low = search.search(bowl, "sgd", start=[0.03] * 4, seed=1, **given)
    assert optimum < excess_of(high) < 1.02 * optimum
    assert optimum < excess_of(low) < 1.02 * optimum
    effect = search.report(high, {"other": low.recipe}, store=False).against("other")
    assert effect.low - 1 < 0 < effect.high + 1 and effect.n == 40


def test_candidates_share_their_seeds_and_every_generation_has_new_ones(bowl, monkeypatch):
    asked = []

    def noted(problem, runs, *, store=None):
        asked.append(runs)
        return ends.trained(problem, runs, store=store)

    monkeypatch.setattr(searching, "trained", noted)
    result = search.search(bowl, "sgd", **FEW, store=False)
    assert len(asked) == FEW["generations"]
    used = set()
    for runs in asked:
        by_candidate = {}
        for run in runs:
            by_candidate.setdefault(run.schedule, []).append(run.seed)
        assert len(by_candidate) == FEW["population"]
        (shared,) = {tuple(seeds) for seeds in by_candidate.values()}
        assert len(set(shared)) == FEW["seeds"] and not used & set(shared)
        used |= set(shared)
    assert all(result.seeds[0] <= seed < result.seeds[1] for seed in used)
    other = search.search(bowl, "sgd", **{**FEW, "generations": 1}, seed=1, store=False)
    assert other.seeds[0] >= result.seeds[1]
    with pytest.raises(ValueError, match=r"seeds = \[1000002\]: must be none of the search's"):
        search.report(result, {"a": 0.1}, seeds=[0, 1_000_002])
    for usual, message in (
        ({}, "usual = {}: must hold at least one"),
        ({"found": 0.1}, "usual = 'found': is the label of the found schedule"),
        ({"a": ("cosine", {}, 0.1, 2)}, "must be (name, peak) or"),
        ({"a": "cosine"}, "needs at least one peak"),
    ):
        with pytest.raises(ValueError) as refused:
            search.report(result, usual)
        assert message in str(refused.value)
    told = search.report(result, {"a": 0.1}, store=False)
    assert not used & set(told.losses.index)


def test_the_same_arguments_find_the_same_and_an_interrupted_search_goes_on(
    bowl, tmp_path, monkeypatch
):
    before, generations = np.random.get_state()[1].copy(), []
    monkeypatch.chdir(tmp_path)

    def interrupted(problem, runs, *, store=None):
        generations.append(runs)
        if len(generations) == 3:
            raise KeyboardInterrupt
        return ends.trained(problem, runs, store=store)

    with monkeypatch.context() as patched:
        patched.setattr(searching, "trained", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search.search(bowl, "sgd", **FEW, store=tmp_path / "store")
    per_generation = FEW["population"] * FEW["seeds"]
    first = search.search(bowl, "sgd", **FEW, store=tmp_path / "store")
    assert first.history.attrs == {"computed": per_generation, "read": 2 * per_generation}
    again = search.search(bowl, "sgd", **FEW, store=tmp_path / "store")
    assert again.history.attrs == {"computed": 0, "read": 3 * per_generation}
    alone = search.search(bowl, "sgd", **FEW, store=False)
    for other in (again, alone):
        np.testing.assert_array_equal(first.rates, other.rates)
        np.testing.assert_array_equal(first.covariance, other.covariance)
        pd.testing.assert_frame_equal(first.history, other.history, check_exact=True)
    # nothing of NumPy's is touched, no file of cma's is written
    assert (np.random.get_state()[1] == before).all()
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_knots_are_dense_at_both_ends_and_the_schedule_goes_through_them():
    places = search.places_of(9)
    assert places[0] == 0 and places[-1] == 1
    np.testing.assert_allclose(places + places[::-1], 1)
    assert (np.diff(places, 2)[:3] > 0.02).all() and places[1] < 0.04
    rates = np.array([0.1, 0.4, 1.0, 1.0, 0.8, 0.5, 0.2, 0.05, 0.001])
    schedule = knots.schedule_through(places, rates, 500)
    at = knots.steps_at(places, 500)
    np.testing.assert_allclose([float(schedule(step)) for step in at], rates, rtol=1e-5)
    np.testing.assert_allclose(float(schedule(at[4] + 48)), np.sqrt(0.8 * 0.5), rtol=2e-2)
    np.testing.assert_allclose(knots.rates_along(schedule, places, 500)[:-1], rates[:-1], rtol=1e-5)
    with pytest.raises(ValueError, match="knots = 9: must be fewer, each at a step of 10"):
        knots.steps_at(places, 10)


def test_no_rate_is_below_the_floor_of_the_largest():
    logs = np.log([[1.0, 0.5, 1e-9], [1e-6, 1e-8, 1e-12]])
    np.testing.assert_allclose(knots.floored(logs, 1e-3), [[1, 0.5, 1e-3], [1e-6, 1e-8, 1e-9]])
    assert np.isfinite(knots.floored([1e9, -1e9], 1e-3)).all()


def test_a_run_that_fails_counts_as_one_that_learned_nothing():
    steep = problems.load("quadratic", curvature=(1.0, 4.0), noise=0.1, epochs=2, steps=20)
    runs = training.grid({"good": 0.1, "beyond the edge": 0.7, "far beyond": 1e9}, seeds=[0])
    outcomes, _ = ends.trained(steep, runs, store=False)
    losses = ends.losses_of(steep, outcomes)
    assert losses[0] == outcomes[0].end("val_loss") < 0.1 * steep.chance
    assert outcomes[1].end("val_loss") > steep.chance and not np.isfinite(outcomes[2].history).all()
    np.testing.assert_array_equal(losses[1:], steep.chance)


def test_what_was_found_goes_through_json_and_trains_as_the_same_runs(bowl, found):
    text = json.dumps(found.to_dict(), allow_nan=False)
    back = search.Found.from_dict(json.loads(text), problem=bowl)
    np.testing.assert_array_equal(back.rates, found.rates)
    np.testing.assert_array_equal(back.spread, found.spread)
    pd.testing.assert_frame_equal(back.history, found.history, check_exact=True)
    assert json.dumps(back.to_dict()) == text
    names = [
        training.identities(bowl, training.grid({"found": one.recipe}, seeds=[0]))
        for one in (found, back)
    ]
    assert names[0] == names[1]
    assert found.schedule(400).steps == [0, 100, 300, 400] and found.recipe.steps[-1] == STEPS
    with pytest.raises(ValueError, match="problem = 'digits': must be 'quadratic'"):
        search.Found.from_dict(found.to_dict(), problem="digits")
    with pytest.raises(ValueError, match=r"is not what Found.to_dict gives \('rates'\)"):
        search.Found.from_dict({k: v for k, v in found.to_dict().items() if k != "rates"})


def test_an_effect_is_the_percent_of_geometric_means_over_paired_seeds():
    base = pd.Series(np.geomspace(0.1, 10, 20))
    effect = search.reporting.percent(base, 0.9 * base)
    np.testing.assert_allclose([effect.estimate, effect.low, effect.high], -10)
    noisy = base * np.exp(np.random.default_rng(0).normal(0.1, 0.05, 20))
    effect = search.reporting.percent(base, noisy)
    np.testing.assert_allclose(
        effect.estimate, 100 * (np.exp(np.log(noisy).mean() - np.log(base).mean()) - 1)
    )
    assert 0 < effect.low < effect.estimate < effect.high < 20


def test_a_report_reads_the_test_part_where_there_is_one():
    layers = (lambda: keras.layers.Dense(3),)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=(40, 64)).astype("float32"), rng.integers(0, 3, 40).astype("int32")
    apart = tiny(sequential((64,), *layers), x_test=x, y_test=y, epochs=4, chance_loss=9.0)
    decayed = {"adamw": functools.partial(keras.optimizers.AdamW, weight_decay=0.1)}
    few = {**FEW, "generations": 1, "knots": 3}
    result = search.search(apart, decayed, epochs=2, **few, store=False)
    assert (result.optimizer, result.epochs, result.steps) == ("adamw", 2, 10)
    usual = {"cosine": ("cosine", 0.1), "late": ("wsd", {"cooldown": 0.5}, 0.2), "small": 1e-3}
    told = search.report(result, usual, seeds=range(3), store=False)
    assert told.part == "test" and told.peaks == {"cosine": 0.1, "late": 0.2, "small": None}
    runs = training.grid(("wsd", {"cooldown": 0.5}), 0.2, range(3), decayed, epochs=2)
    frame = training.train(apart, runs, store=False)
    lasts = frame[frame.epoch == 1].test_loss.to_numpy()
    assert (lasts < apart.chance).all()
    np.testing.assert_array_equal(told.losses["late"].to_numpy(), lasts)
    chosen_on = frame[frame.epoch == 1].val_loss.to_numpy()
    np.testing.assert_array_equal(told.tune["late"].to_numpy(), chosen_on)
    assert (chosen_on != lasts).all()
    tuned = search.reporting.percent(told.tune["late"], told.tune["found"])
    assert told.against("late", tune=True) == tuned != told.against("late")
    assert list(told.losses) == ["found", *usual] and list(told.losses.index) == [0, 1, 2]
    back = search.Report.from_dict(json.loads(json.dumps(told.to_dict())))
    pd.testing.assert_frame_equal(back.losses, told.losses, check_exact=True)
    pd.testing.assert_frame_equal(back.tune, told.tune, check_exact=True)
    pd.testing.assert_frame_equal(back.table(), told.table())
    assert back.best() == told.table().schedule[0]


def test_flatness_grows_with_the_distance_from_what_was_found(found):
    table = search.flatness(found, draws=6, widths=(1e-6, 3.0), seeds=range(8), store=False)
    near, far = table[table.width == 1e-6], table[table.width == 3.0]
    assert len(near) == len(far) == 6
    np.testing.assert_allclose(near.percent, 0, atol=0.1)
    assert near.inside.all() and far.percent.abs().max() > 5
    rates = far.filter(like="rate_").to_numpy()
    assert (rates >= found.floor * rates.max(axis=1, keepdims=True) * (1 - 1e-9)).all()


def test_usual_schedules_get_equally_many_trials_and_an_interior_peak(bowl, monkeypatch):
    asked = []

    def noted(problem, runs, *, store=None):
        asked.extend(runs)
        return ends.trained(problem, runs, store=store)

    monkeypatch.setattr(search.usual, "trained", noted)
    best = search.tuned(bowl, "sgd", ["constant", "linear"], seeds=range(4), store=False)
    tried = {name: {run.peak for run in asked if run.schedule == name} for name in best}
    assert len(tried["constant"]) == len(tried["linear"]) >= 13
    for name, (same, peak) in best.items():
        assert same == name and min(tried[name]) < peak < max(tried[name])
    rates = np.geomspace(0.01, 1, 400)
    losses = excess(rates[:, None] * np.ones(STEPS))
    assert rates[losses.argmin()] / 2.5 < best["constant"][1] < 2.5 * rates[losses.argmin()]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(start="wave"), "start = 'wave': must be one of 'flat'"),
        (dict(start=[0.1, 0.2]), 'must be "flat", a schedule\'s name'),
        (dict(start=3), 'must be "flat", a schedule\'s name'),
        (dict(knots=60), "knots = 60: must be fewer, each at a step of 20"),
        (dict(population=3), "population = 3: must be a whole number >= 4"),
        (dict(floor=0), "floor = 0"),
        (dict(generations=10**6), "generations = 1000000: must leave"),
        (dict(optimizer={}), "optimizer = {}: must be one, or"),
        (dict(optimizer="none"), "optimizer = 'none'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(bowl, given, message):
    with pytest.raises(ValueError) as told:
        search.search(bowl, **{"optimizer": "sgd", **FEW, **given}, store=False)
    assert message in str(told.value)


def test_a_target_that_is_no_loss_is_refused():
    score = tiny(sequential((64,), lambda: keras.layers.Dense(3)))
    score = dataclasses.replace(score, target="val_accuracy", direction="max")
    with pytest.raises(
        ValueError, match=r"problem.target = 'val_accuracy': must be a loss above 0"
    ):
        search.search(score, "sgd", **FEW)


def test_the_command_line_searches_saves_and_knows_what_is_there(tmp_path, capsys):
    arguments = ["run", "--problem", "quadratic:epochs=1:steps=20", "--optimizer", "sgd"]
    arguments += ["--knots", "3", "--generations", "2", "--population", "4", "--seeds", "2"]
    arguments += ["--report-seeds", "6", "--out", str(tmp_path / "out")]
    arguments += ["--cache", str(tmp_path / "store")]
    assert search.main(arguments) == 0
    assert "of val loss against" in capsys.readouterr().out
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == "quadratic_epochs=1_steps=20-sgd.json"
    content = path.read_bytes()
    assert search.main(arguments) == 0
    assert "is there" in capsys.readouterr().out and path.read_bytes() == content
    assert search.main([*arguments, "--generations", "3"]) == 0
    (result,) = search.load(tmp_path / "out")
    assert result.found.arguments["generations"] == 3
    assert result.provenance["read"] == 2 * 8 and result.provenance["computed"] == 8
    capsys.readouterr()
    assert search.main(["show", "--out", str(tmp_path / "out")]) == 0
    assert "quadratic:epochs=1:steps=20" in capsys.readouterr().out
    path.write_text("{}")
    assert search.main(["show", "--out", str(tmp_path / "out")]) == 2
    assert "can not be read" in capsys.readouterr().err
    assert search.main(["show", "--out", str(tmp_path / "none")]) == 2
    assert search.main(["run", "--problem", "nothing"]) == 2
    assert "problem = 'nothing'" in capsys.readouterr().err


FOLDER = Path(search.__file__).parent
ROOMS = list(search._ROOMS)  # in this order: a room knows those before it


def test_the_arrows_between_the_rooms_go_one_way():
    assert {path.stem for path in FOLDER.glob("*.py")} == {*ROOMS, "__init__", "__main__"}
    for number, room in enumerate(ROOMS):
        tree = ast.parse((FOLDER / f"{room}.py").read_text())
        known = {
            node.module.rpartition(".")[2]
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module.startswith("anneal_utils.search")
        }
        assert known <= set(ROOMS[:number]), room
    for name in search.__all__:
        assert hasattr(search, name)
    code = (
        "import sys\nfrom anneal_utils import search\n"
        "assert not {'keras', 'tensorflow', 'pandas', 'cma'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
