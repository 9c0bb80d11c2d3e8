"""The plan of the searches, what stands beside a found schedule, and how it is told."""

import dataclasses
import json

from anneal_utils import benchmark, problems, schedules, search, training
from anneal_utils.search import ends, plan, reporting, results, running, telling, usual
from tests.small import sequential, tiny

import keras
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

SMALL = """
version = 1
[search]
knots = 3
generations = 2
population = 4
seeds = 2
candidates = 2
tuning_seeds = 2
factors = [0.5, 2.0]
report_seeds = 3
flat_draws = 2
flat_widths = [1.0]
flat_seeds = 2
[varied]
candidates = 1
[problems.article]
generations = 1
[problems.digits]
optimizer = "adamw:weight_decay=0.03"
[[again]]
problem = "article"
start = "linear"
[[variations]]
what = "horizon"
problem = "article"
problems = ["article:epochs=5", "article:epochs=20"]
[[variations]]
what = "optimizer"
problem = "article"
optimizers = ["adamw:weight_decay=0.0"]
"""
KNOWN = benchmark.load(benchmark.COMMITTED)


def written(folder, text=SMALL):
    path = folder / "plan.toml"
    path.write_text(text)
    return path


def test_a_task_is_what_its_problem_says_and_else_what_all_have(tmp_path):
    found = search.tasks(written(tmp_path))
    told = [(task.problem, task.optimizer, task.seed, task.of, task.what) for task in found]
    base = ("article", "momentum")
    assert told == [
        (*base, 0, None, None),
        ("digits", "adamw:weight_decay=0.03", 0, None, None),
        (*base, 1, base, "another start"),
        ("article:epochs=5", "momentum", 0, base, "horizon"),
        ("article:epochs=20", "momentum", 0, base, "horizon"),
        ("article", "adamw:weight_decay=0.0", 0, base, "optimizer"),
    ]
    assert [task.given["generations"] for task in found] == [1, 2, 1, 1, 1, 1]
    assert [task.given["candidates"] for task in found] == [2, 2, 2, 1, 1, 1]
    assert found[2].start == "linear" and found[0].start == "flat"
    assert len({task.digest for task in found}) == len(found)
    other = search.tasks(written(tmp_path, SMALL.replace("seeds = 2\ncand", "seeds = 3\ncand")))
    assert not {task.digest for task in found} & {task.digest for task in other}
    again = search.tasks(written(tmp_path, SMALL + "# a remark\n"))
    assert [task.digest for task in found] == [task.digest for task in again]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("knots = 3\n", "", "must also say knots"),
        ("knots = 3", "knot = 3", r"\[search\] = 'knot'"),
        ("[problems.article]", "[problems.articles]", r"\[problems.articles\]: problem = 'art"),
        ("weight_decay=0.03", "decay", r"\[problems.digits\]: knob = 'decay'"),
        ('["article:epochs=5"', '["article"', "is in the plan already"),
        ('start = "linear"', 'optimizer = "sgd"', "must be searched before it is varied"),
        ("version = 1", "version 1", "can not be read"),
    ],
)
def test_a_plan_that_is_wrong_says_where(tmp_path, old, new, message):
    assert old in SMALL
    with pytest.raises(ValueError, match=message):
        search.tasks(written(tmp_path, SMALL.replace(old, new, 1)))


def test_candidates_are_the_best_trials_that_the_optimizer_with_its_knobs_had():
    rules = benchmark.Plan.read()
    found = usual.candidates_of(KNOWN, "article:epochs=5", "adamw:weight_decay=0.03", 3, rules)
    part = KNOWN.select(problem="article", optimizer="adamw", horizon=1.0).trials
    part = part[part["widened"] == part["widened"].max()]
    for method in ("cosine", "wsd", "linear_cold"):
        rows = part[part["schedule"] == method]
        rows = rows[[json.loads(one)["weight_decay"] == 0.03 for one in rows["knobs"]]]
        means = rows.groupby(["trial", "peak", "knobs"])["tune"].mean().sort_values()
        peaks = means.index.get_level_values("peak")[:3]
        assert [peak for _, _, peak in found[method]] == list(peaks)
        name, knobs, _ = found[method][0]
        assert name == rules.methods[method].schedule and "weight_decay" not in knobs
        schedules.build(name, 1.0, 100, **knobs)
    with pytest.raises(ValueError, match="must have been tried in the benchmark"):
        usual.candidates_of(KNOWN, "article", "adamw:weight_decay=0.5", 3, rules)


@pytest.fixture(scope="module")
def bowl():
    """Equal directions, whose expected loss is known for every rate."""
    return problems.load(
        "quadratic", curvature=(1.0,) * 300, noise=1.0, start=1.0, epochs=1, steps=20
    )


def test_retuning_takes_the_best_candidate_and_then_its_best_peak(bowl):
    some = {"flat": [("constant", {}, 0.8), ("constant", {}, 0.4), ("constant", {}, 0.02)]}
    ask = dict(factors=[0.25, 0.5, 2.0], seeds=4, store=False)
    # The best constant rate of twenty steps is near 0.1; 0.4 is the best of three.
    assert usual.retuned(bowl, "sgd", some, **ask) == {"flat": ("constant", {}, 0.1)}


def test_a_shape_gets_the_best_of_thirteen_factors(bowl):
    places = search.places_of(3)
    ask = dict(seeds=4, store=False)
    low = usual.rescaled(bowl, "sgd", places, [5.0, 5.0, 5.0], centre=0.05, **ask)
    high = usual.rescaled(bowl, "sgd", places, [1.0, 1.0, 1.0], centre=0.8, **ask)
    np.testing.assert_allclose(schedules.values(low, 20), 0.1, rtol=1e-6)
    np.testing.assert_allclose(schedules.values(high, 20), 0.1, rtol=1e-6)


def test_a_shape_without_its_rise_or_its_fall():
    rates = np.array([0.1, 0.5, 1.0, 0.7, 0.2])
    shapes = running._without(rates)
    np.testing.assert_array_equal(shapes[reporting.NO_RISE], [1, 1, 1, 0.7, 0.2])
    np.testing.assert_array_equal(shapes[reporting.NO_FALL], [0.1, 0.5, 1, 1, 1])
    assert set(running._without(rates[2:])) == {reporting.NO_FALL}
    assert set(running._without(rates[:3])) == {reporting.NO_RISE}


@pytest.fixture(scope="module")
def carried(tmp_path_factory):
    """Three tasks of the small plan, carried out and saved."""
    folder = tmp_path_factory.mktemp("searches")
    todo = {(t.problem, t.optimizer, t.seed): t for t in search.tasks(written(folder))}
    base = running.carried_out(todo["article", "momentum", 0], store=folder / "store")
    kept = [(todo["article", "momentum", 0], base)]
    for key in (("article", "momentum", 1), ("article:epochs=5", "momentum", 0)):
        kept.append((todo[key], running.carried_out(todo[key], base, store=folder / "store")))
    for _, result in kept:
        results.save(result, folder / "out")
    return folder, kept


def test_the_usual_schedules_of_a_task_are_the_benchmarks(carried):
    _, kept = carried
    (_, base), (_, again), (_, short) = kept
    methods = set(KNOWN.select(problem="article", optimizer="momentum").trials["schedule"])
    for result in (base, again, short):
        assert methods <= set(result.report.losses)
        assert result.report.best() in methods
    assert reporting.BASE not in base.report.losses
    # another start is held against the schedule as it is, a variation against its shape
    problem = problems.load("article")
    runs = training.grid({"a": base.found.recipe}, (), range(3), "momentum")
    outcomes, _ = ends.trained(problem, runs, store=False)
    np.testing.assert_array_equal(
        again.report.losses[reporting.BASE], ends.losses_of(problem, outcomes, "test")
    )
    assert short.found.epochs == 5 and short.found.steps == base.found.steps // 2
    assert reporting.BASE in short.report.losses


def test_results_are_kept_apart_read_whole_and_known_again(carried):
    folder, kept = carried
    back = {result.key: result for result in search.load(folder / "out")}
    assert len(back) == len(kept) == 3
    for task, result in kept:
        same = back[result.key]
        pd.testing.assert_frame_equal(same.report.losses, result.report.losses)
        pd.testing.assert_frame_equal(same.flat, result.flat)
        assert same.provenance == result.provenance
        base = None if task.of is None else back[(*task.of, 0)]
        assert running.holds(same, task, base)
        if base is not None:  # of another base, what stands beside it is another shape
            assert not running.holds(same, task, result)
        name, knobs, peak = same.provenance["usual"]["cosine"]
        assert name == "cosine" and knobs.keys() == {"end", "warmup"}
        assert peak == same.report.peaks["cosine"]
        assert not running.holds(same, dataclasses.replace(task, start="cosine"))


def test_the_command_line_goes_through_the_plan(carried, monkeypatch, capsys):
    folder, _ = carried
    monkeypatch.setattr(plan, "PATH", folder / "plan.toml")
    ask = ["run", "--out", str(folder / "out"), "--cache", str(folder / "store"), "--only"]
    assert search.main([*ask, "another start"]) == 0
    assert capsys.readouterr().out == "article, momentum, seed 1: is there.\n"
    assert search.main([*ask, "nothing"]) == 2
    assert "only = 'nothing'" in capsys.readouterr().err
    for wrong, message in (
        (["--generations", "3"], "problem = None: must be given with --generations"),
        (["--problem", "article", "--only", "horizon"], "only = ['horizon']: is of the plan"),
        (["--problem", "article", "--generations", "0"], "generations = 0"),
        (["--problem", "article", "--epochs", "0"], "epochs = 0"),
        (["--problem", "article", "--start", "flatt"], "start = 'flatt'"),
        (["--problem", "article", "--optimizer", "momentumm"], "optimizer = 'momentumm'"),
    ):
        assert search.main(["run", "--out", str(folder / "none"), *wrong]) == 2
        assert message in capsys.readouterr().err
    ask[2] = str(folder / "none")
    assert search.main([*ask, "horizon"]) == 2
    assert "article, momentum must be searched first" in capsys.readouterr().err
    assert search.main(["show", "--out", str(folder / "out")]) == 0
    said = capsys.readouterr().out
    assert "What moves it" in said and "A second search" in said


def result_of(losses, rates, of=None, what=None, spread=0.1):
    """A result made by hand: losses by label, one number or one for each of six seeds."""
    rates = np.array(rates)
    places = search.places_of(len(rates))
    found = search.Found(
        *("digits", "momentum", 45, 1305, places, rates, spread**2 * np.eye(len(rates)), 1e-3),
        *(pd.DataFrame(), (0, 1), {"seed": 0}),
    )
    noise = np.exp(np.random.default_rng(0).normal(0, 0.01, 6))
    table = pd.DataFrame({label: value * noise for label, value in losses.items()})
    told = search.Report("test", table, 2 * table, {}, {})
    flat = pd.DataFrame(
        {"width": [1, 1, 1, 1, 2], "low": [-3, 0.1, 1.1, -2, 9], "high": [0.9, 0.9, 5, 3, 9]}
    )
    return search.Result(found, told, flat, {"of": of, "what": what})


def test_tables_hold_what_the_losses_say():
    rates = [0.5, 1.0, 0.2]
    losses = {"found": 0.9, "cosine": 1.0, "step": 1.8, reporting.NO_RISE: 0.99}
    one = result_of({**losses, reporting.NO_FALL: 0.5}, rates)
    other = result_of({"found": 1.0, "cosine": 2.0, reporting.BASE: 1.2}, rates, ("a", "b"), "c")
    row = search.table([one, other]).iloc[0]
    # 0.5 is the lowest, and no usual schedule
    assert (row.usual, len(search.table([one, other]))) == ("cosine", 1)
    np.testing.assert_allclose([row.percent, row.low, row.high], -10)
    np.testing.assert_allclose([row.rise_percent, row.fall_percent], [10, 100 * (5 / 9 - 1)])
    np.testing.assert_allclose([row.spread, row.inside, row.outside], [np.exp(0.1), 0.5, 0.25])
    assert row.end == pytest.approx(0.2)
    assert row.rise == pytest.approx(0.5 * np.log(1.8) / np.log(2), abs=0.002)
    assert row.half == pytest.approx(0.5 + 0.5 * np.log(2) / np.log(5), abs=0.002)
    np.testing.assert_allclose([row.tune_percent, row.tune_low, row.tune_high], -10)
    moved = search.varied([one, other]).iloc[0]
    assert (moved.what, moved.of) == ("c", "a, b")
    np.testing.assert_allclose(moved.percent, 20)
    lost = search.regrets([one, other])
    np.testing.assert_allclose(lost.loc["digits, momentum", ["cosine", "step"]], [100 / 9, 100])
    assert list(lost.columns) == ["cosine", "step"]
    said = telling.text([one, other])
    assert "Below: digits -10.0 [-10.0, -10.0]. Above: none. Median of all: -10.0." in said
    assert "the search has missed what can be had: none." in said
    assert "median over the 1 problems: cosine 11 %, step 100 %." in said
    assert "without its fall on 0 of 1 problems; it gains on digits," in said
    assert "and without its rise on 1: digits. A shape" in said
    assert "loses against the one found there: c 1 of 1." in said
    worse = result_of({"found": 1.3, "cosine": 1.0, "step": 1.1}, rates)
    again = result_of({"found": 1.0, reporting.BASE: 0.98}, rates, ("digits", "m"), plan.AGAIN)
    said = telling.text([one, worse, again])
    assert "missed what can be had: digits +30.0 [30.0, 30.0]." in said
    assert "over that of the second, in percent: digits -2.0 [-2.0, -2.0]." in said
    # one that was not tuned on all problems is in no median over problems
    other = result_of({"found": 1.0, "cosine": 2.0}, rates)
    assert list(search.regrets([one, other])) == ["cosine"]


def test_the_usual_schedule_is_chosen_on_the_part_that_all_is_chosen_on():
    one = result_of({"found": 1.0, "cosine": 1.2, "step": 1.1}, [0.5, 1.0])
    tune = one.report.losses.assign(cosine=0.5 * one.report.losses["found"])
    told = dataclasses.replace(one.report, tune=tune)
    row = search.table([dataclasses.replace(one, report=told)]).iloc[0]
    assert row.usual == "cosine"
    np.testing.assert_allclose([row.percent, row.tune_percent], [100 * (1 / 1.2 - 1), 100])


@pytest.mark.parametrize("kind", ["batch_size", "epochs"])
def test_every_problem_takes_a_batch_size_and_epochs(kind):
    plain, other = problems.load("digits"), problems.load("digits", **{kind: 10})
    assert getattr(other, kind) == 10 != getattr(plain, kind)
    left = {"batch_size": "epochs", "epochs": "batch_size"}[kind]
    assert getattr(other, left) == getattr(plain, left)
    np.testing.assert_array_equal(other.x_train, plain.x_train)
    assert problems.load("digits", **{kind: 10}) is other
    # a problem's own knob of that name comes first
    assert problems.load("wilson", batch_size=10).epochs == 20
    with pytest.raises(ValueError, match=f"{kind} = 0"):
        problems.load("digits", **{kind: 0})


def test_a_registered_problem_takes_them_too():
    with problems.catalogue.registry.kept():

        @problems.register("of one's own, for the search")
        def _own():
            return tiny(sequential((64,), lambda: keras.layers.Dense(3)))

        assert problems.load("of one's own, for the search", epochs=7).epochs == 7


def test_the_picture_holds_the_found_schedule_its_family_and_the_usual_one(carried):
    _, kept = carried
    (_, base), *_ = kept
    flat = base.flat.assign(percent=[0.5, 3.0])  # one of the two draws is near
    ax = search.draw(dataclasses.replace(base, flat=flat))
    lines = {line.get_label(): line for line in ax.lines}
    assert {"found", "1 of 2 within 1 %"} < set(lines)
    (usual,) = [label for label in lines if label.endswith("the best usual one on tune")]
    steps = base.found.steps
    rates = schedules.values(base.found.recipe, steps)
    np.testing.assert_allclose(lines["found"].get_ydata(), rates)
    *_, peak = base.provenance["usual"][usual.split(",")[0]]
    drawn = lines[usual].get_ydata()
    assert np.nanmax(drawn) == pytest.approx(peak, rel=1e-5)
    drawn_near = lines["1 of 2 within 1 %"].get_ydata()
    np.testing.assert_allclose(drawn_near[0], base.flat["rate_0"][0], rtol=1e-5)
    bare = search.draw(dataclasses.replace(base, flat=None), ax=ax)
    assert bare is ax
    plt.close(ax.figure)
