"""What the benchmark takes beside names: objects, single values, pairs, labels."""

import dataclasses
import json

from anneal_utils import problems, schedules
from anneal_utils.benchmark import first as benchmark

import numpy as np
import pytest
from small_benchmark import assert_same

pytest_plugins = ["benchmark_fixtures"]

TINY = dict(tuning_seeds=1, seeds=2, peaks=[0.01, 0.02, 0.04], extensions=0)


def bowl(name="mine", **knobs):
    """The quadratic under a name of one's own."""
    return dataclasses.replace(problems.load("quadratic", epochs=2, **knobs), name=name)


@pytest.fixture(scope="module")
def of_an_object(tmp_path_factory):
    """The results of an object, and the object."""
    problem = bowl()
    cache = tmp_path_factory.mktemp("object")
    return benchmark.run(problem, ["cosine", "linear"], cache=cache, **TINY), problem


def test_an_object_is_computed_as_the_same_thing_by_name(of_an_object, tmp_path):
    results, problem = of_an_object
    named = benchmark.run("quadratic:epochs=2", ["cosine", "linear"], cache=tmp_path, **TINY)
    assert set(results.report["problem"]) == set(results.trials["problem"]) == {"mine"}
    relabelled = (
        table.assign(problem="quadratic:epochs=2") for table in (results.trials, results.report)
    )
    assert_same(benchmark.Results(*relabelled, {}), named)
    assert results.provenance["problems"] == results.provenance["objects"] == ["mine"]
    assert named.provenance["objects"] == []
    # It is what it computes: by name it is in the cache already.
    listed = benchmark.run([problem], ["cosine", "linear"], cache=tmp_path, **TINY)
    assert listed.provenance["runs"]["computed"] == 0
    assert_same(listed, results)


def test_results_of_an_object_are_analysed_without_it(of_an_object, tmp_path, capsys):
    results, problem = of_an_object
    benchmark.save(results, tmp_path)
    again = benchmark.load(tmp_path)
    assert again.provenance["chance"] == {"mine": problem.chance_loss}
    ranked = benchmark.ranking(again)
    assert np.isfinite(ranked["regret"]).all()
    assert np.isfinite(benchmark.best_of_k(again)).all(axis=None)
    assert set(benchmark.worst_case(again)["problem"]) == {"mine"}
    assert benchmark.main(["show", "--out", str(tmp_path), "--problem", "mine"]) == 0
    assert "cosine" in capsys.readouterr().out
    # Known losses count: with another chance the regret is another.
    means = results.report.groupby("schedule")["value"].mean()
    other = {"mine": float(means.min()) + 1.0}
    table = benchmark.regret(results.report, other)
    assert np.isclose(table.to_numpy().max(), means.max() - means.min())
    # Without them, as in results from before, the problem is asked by its name.
    without = {k: v for k, v in again.provenance.items() if k != "chance"}
    with pytest.raises(ValueError, match="problem = 'mine': must be one of"):
        benchmark.ranking(dataclasses.replace(again, provenance=without))
    by_name = again.report.assign(problem="quadratic:epochs=2")
    assert np.allclose(
        benchmark.regret(by_name), benchmark.regret(again.report, again.provenance["chance"])
    )


def test_results_of_an_object_are_checked_with_it_alone(of_an_object):
    results, problem = of_an_object
    with pytest.raises(ValueError, match=r"problems = \[\]: must hold 'mine', which was passed"):
        benchmark.stale(results)
    assert benchmark.stale(results, problems=[problem]).empty
    assert benchmark.stale(results, problems=problem, sample=1).empty
    told = benchmark.stale(results, problems=bowl(curvature=2.0))
    assert len(told) and set(told["problem"]) == {"mine"}
    with pytest.raises(ValueError, match="problems = 'yours': must be one of 'mine'"):
        benchmark.stale(results, problems=[problem, bowl("yours")])


def test_an_object_stays_in_its_process(tmp_path):
    for where in (dict(jobs=2), dict(dask="tcp://127.0.0.1:1")):
        with pytest.raises(ValueError, match=r"^problem = 'mine': is an object .* pass it as a pl"):
            benchmark.run(bowl(), "cosine", **TINY, **where, cache=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_registered_object_is_its_text(tmp_path):
    problem = problems.load("quadratic")
    results = benchmark.run([problem], "cosine", cache=tmp_path, **TINY)
    assert results.provenance["objects"] == [] and set(results.report["problem"]) == {"quadratic"}
    longer = benchmark.run(
        [bowl(), "quadratic:epochs=2"],
        "cosine",
        extra_horizons={"sgd": 2},
        extra_problems=bowl(),
        cache=tmp_path,
        **TINY,
    )
    found = longer.report.groupby("problem")["horizon"].unique().map(list).to_dict()
    assert found == {"mine": [1.0, 2.0], "quadratic:epochs=2": [1.0]}


def test_one_alone_is_a_list_of_one(tmp_path):
    one = benchmark.run("quadratic:epochs=2", "cosine", "sgd", horizons=1, cache=tmp_path, **TINY)
    several = benchmark.run(
        ["quadratic:epochs=2"], ["cosine"], ["sgd"], horizons=[1], cache=tmp_path, **TINY
    )
    assert_same(one, several)
    assert one.provenance["schedules"] == ["cosine"] and one.provenance["optimizers"] == ["sgd"]


def test_pairs_and_labels_are_the_texts_that_say_the_same(tmp_path):
    given = dict(problems="quadratic:epochs=2", cache=tmp_path, **TINY)
    text = benchmark.run(schedules=["wsd:cooldown=0.3", "linear"], **given)
    pair = benchmark.run(schedules=[("wsd", {"cooldown": np.float64(0.3)}), "linear"], **given)
    alone = benchmark.run(schedules=("wsd", {"cooldown": 0.3}), **given)
    assert pair.provenance["runs"]["computed"] == alone.provenance["runs"]["computed"] == 0
    assert_same(pair, text)
    assert set(alone.report["schedule"]) == {"wsd:cooldown=0.3"}
    labels = benchmark.run(
        schedules={"short": ("wsd", {"cooldown": 0.3}), "warm": "linear:warmup=0.1"}, **given
    )
    ends = labels.report.set_index("schedule")["run"]
    assert list(ends["short"]) == list(alone.report["run"])
    assert labels.provenance["names"] == {"short": "wsd", "warm": "linear"}
    assert benchmark.stale(labels).empty
    assert set(benchmark.ranking(labels)["schedule"]) == {"short", "warm"}


def test_a_knob_that_is_a_list_is_one_value(tmp_path, registries):
    @schedules.register("at")
    def at(peak, steps, drops=(0.5,)):
        """Half the rate after each of the shares."""
        return schedules.build("linear", peak, steps, end=0.1 * len(drops))

    results = benchmark.run(
        "quadratic:epochs=2", [("at", {"drops": [0.2, 0.4]})], cache=tmp_path, **TINY
    )
    (knobs,) = set(results.report["knobs"])
    assert json.loads(knobs) == {"drops": [0.2, 0.4]}
    assert benchmark.stale(results).empty


BAD = [
    (dict(problems=5), "problems = 5: must be a problem's name, a Problem, or a list"),
    (dict(problems=["digits", 5]), "problems = .*a problem's name, a Problem, or a list"),
    (dict(problems=[]), "problems = .*at least one"),
    (dict(problems=["digits", problems.load("digits")]), "problems = .*must not repeat"),
    (dict(problems=[bowl(), bowl()]), "problems = .*two different problems called 'mine'"),
    (dict(problems=bowl("digits")), "problem = 'digits': is the name of a registered problem"),
    (dict(problems=bowl("digits:a=1")), "problem = 'digits:a=1': is the name of a registered"),
    (dict(problems=problems.load("quadratic", epochs=2)), "problem = 'quadratic': is the name"),
    (dict(problems=bowl("")), "problem.name = '': must be a non-empty text"),
    (dict(schedules=5), r"schedules = 5: must be a schedule's name, a pair \(name, \{knob"),
    (dict(schedules=["cosine", 0.1]), r"schedules = 0.1: must be a schedule's name"),
    (dict(schedules={"flat": lambda epoch: 0.1}), "schedules = .*schedules.register"),
    (dict(schedules=[("wsd", 0.3)]), r"schedules = \('wsd', 0.3\): must be"),
    (dict(schedules=[("wsdd", {})]), "schedule = 'wsdd': must be one of"),
    (dict(schedules=[("wsd", {"cool": 1})]), "cool"),
    (dict(schedules=[("wsd", {"cooldown": print})]), "knob cooldown = .*a number, a text, or a l"),
    (dict(schedules=["wsd", ("wsd", {})]), "schedules = .*must not repeat"),
    (dict(schedules={"cosine": "linear"}), "schedules = 'cosine': is the label of a 'linear'"),
    (dict(schedules={"": "linear"}), "schedules = '': must have a label"),
    (dict(schedules={}), "schedules = .*at least one"),
    (dict(optimizers=5), "optimizers = 5: must be an optimizer's name or a list"),
    (dict(optimizers={"sgd": 1}), "optimizers = .*must be an optimizer's name or a list"),
    (dict(horizons="1"), "horizons = '1': must be a number"),
    (dict(extra_horizons=[1]), r"extra_horizons = \[1\]: must be a dict"),
    (dict(plugins=5), "plugins = 5: must be a file or a list of files"),
    (dict(peaks=0.1), "peaks = 0.1: must be a list of at least three rates"),
    (dict(peaks="0.1"), "peaks = '0.1': must be a list of at least three rates"),
    (dict(seeds=[0, 1]), r"seeds = \[0, 1\]: must be a whole number: how many"),
    (dict(tuning_seeds=range(3)), r"tuning_seeds = range\(0, 3\): must be a whole number"),
]


@pytest.mark.parametrize("given, sentence", BAD, ids=[sentence[:30] for _, sentence in BAD])
def test_bad_input_is_one_sentence(given, sentence, tmp_path):
    small = dict(problems="quadratic:epochs=2", schedules="cosine", tuning_seeds=1, seeds=2)
    with pytest.raises(ValueError, match=f"^{sentence}" if " = " in sentence else sentence) as said:
        benchmark.run(**{**small, **given}, cache=tmp_path)
    assert len(str(said.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())
