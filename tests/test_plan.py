"""The plan: what it must hold, what it costs, what a part of it is, the design of its trials."""

import dataclasses
import re

from anneal_utils import benchmark, problems, schedules
from anneal_utils.benchmark import running, spaces, tuning

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_plan import TEXT, plan_in


def test_a_plan_is_known_by_what_it_says(tmp_path):
    plan = plan_in(tmp_path)
    said_otherwise = plan_in(tmp_path, **{"version = 2": "# a remark\nversion = 2"})
    assert said_otherwise.digest == plan.digest
    for old, new in (
        ("trials = 8", "trials = 16"),
        ("high = 0.3,", "high = 0.2,"),
        ("choice = [0.0, 0.1]", "choice = [0.0, 0.2]"),
        ("sgd = [1.0, 0.5]", "sgd = [1.0]"),
        ("margin = 0.05", "margin = 0.04"),
    ):
        assert plan_in(tmp_path, **{old: new}).digest != plan.digest


def test_a_problems_results_stay_those_of_the_plan_when_others_change(tmp_path):
    plan = plan_in(tmp_path)
    changed = {
        "ms = 3.0": "ms = 4.0\ntrials = 4",
        "margin = 0.05": "margin = 0.1",
        "constant = {}": "constant = {}\nrex = {}",
        "version = 2": "version = 3",
    }
    other = plan_in(tmp_path, **changed)
    assert other.of("bowl").digest == plan.of("bowl").digest
    assert other.of("article").digest != plan.of("article").digest
    assert plan.of("bowl").digest != plan.of("article").digest
    for label in ("bowl", "article"):  # alone, and among all
        assert plan.select(problems=[label]).of(label).digest == plan.of(label).digest


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("trials = 8", "trials = 6", "trials = 6: must be a power of two"),
        ("trials = 8", 'trials = "many"', "protocol.trials = 'many'"),
        ("edge = 0.1", "edge = 0.7", "protocol.edge = 0.7"),
        ("[optimizers.sgd]", "[optimizers.sdg]", "optimizer = 'sdg': must be one of"),
        ('group = "exact"', 'group = "exactly"', "problems.bowl.group = 'exactly'"),
        ('schedule = "linear", warmup', 'schedule = "lin", warmup', "methods.linear_cold.schedule"),
        ('scale = "log"', 'scale = "logs"', "methods.linear.end.scale = 'logs'"),
        ("low = 0.01", "lowest = 0.01", "methods.linear.end: key = 'lowest'"),
        ('tier = "small"\ngroup', 'tier = "big"\ngroup', "problems.article.tier = 'big'"),
        ('plus = [{ method = "linear" }]', 'plus = [{ method = "l" }]', "contrast 'annealing'"),
        ("report_seeds = 3", "report_seeds = 9001", "where the tuning seeds start"),
        ("candidates = 3", "", "must have 'candidates'"),
        ("version = 2", "version = ", "can not be read"),
        ('rule = "minimum"', 'rule = "min"', "untuned.rule = 'min'"),
        ("factors = [0.3, 1.0]", "factors = [0.0]", "untuned.factors = 0.0"),
        ("factors = [0.3, 1.0]", "factors = 0.3", "untuned.factors = 0.3: must be a list"),
        ("choice = [0.0, 0.1]", "choice = []", "weight_decay.choice = []: must be a list"),
        ("{ choice = [0.0, 0.1] }", "{ low = 0.1 }", "must have low and high, or choice"),
        ("families = []", 'families = [["b"]]', "reading.families = 'b'"),
        ("best_of = 4", "best_of = 0.5", "reading.best_of = 0.5"),
        ("margin = 0.05\n", "", "must have 'margin'"),
        ("margin = 0.05", "margin = 0.05\nmargins = 1", "reading = 'margins'"),
        ("sgd = [1.0, 0.5]", "sgd = [1.0, 1.0]", "optimizers.sgd = [1.0, 1.0]: must not repeat"),
        ('["constant", "linear"]\noptimizers', '["linear", "linear"]\noptimizers', "not repeat"),
        ("ms = 3.0", "ms = 3.0\ntrials = 6", "trials = 6: must be a power of two"),
        ('= "linear" }]', '= "linear", optimizer = "s" }]', "contrast 'annealing' = 's'"),
    ],
)
def test_a_plan_that_can_not_be_meant_is_refused_by_its_place(tmp_path, old, new, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        plan_in(tmp_path, **{old: new})


def test_a_plan_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="there is no such file"):
        benchmark.Plan.read(tmp_path / "none.toml")


def test_the_cost_counts_every_run(tmp_path):
    cost = plan_in(tmp_path).cost().set_index("problem")
    cell, scan = 8 * 2 + 3 * 3, 5 * 2
    plain = 2 * 2 * 2 * 2  # of SGD alone
    runs = {"bowl": 3 * (4 * cell + scan) + plain, "article": 2 * cell + scan + plain}
    assert cost["runs"].to_dict() == runs
    # half the horizon is half the time
    assert cost["minutes"]["bowl"] == pytest.approx((2.5 * (4 * cell + scan) + plain) / 60_000)


def test_more_knobs_than_the_design_has_axes_are_refused(tmp_path):
    knobs = ", ".join(f"k{i} = {{ low = 0.1, high = 1.0 }}" for i in range(6))
    with pytest.raises(ValueError, match="must be at most 5 knobs"):
        plan_in(tmp_path, **{"one_cycle = {}": f"one_cycle = {{ {knobs} }}"})


def test_what_is_compared_by_ratios_must_be_a_loss(tmp_path):
    changed = dict(name="right", target="val_accuracy", direction="max")
    better = dataclasses.replace(problems.load("article"), **changed)
    with pytest.raises(ValueError, match="problem.target = 'val_accuracy': must be a loss above 0"):
        running.check(plan_in(tmp_path).select(problems=[better]))


def test_a_plan_over_its_own_budget_is_refused(tmp_path):
    plan = plan_in(tmp_path, **{"ms = 3.0": "ms = 9000.0"})
    with pytest.raises(ValueError, match="must cost at most its budget of 5"):
        running.check(plan)


def test_a_knob_that_the_schedule_lacks_is_refused_before_anything_runs(tmp_path):
    plan = plan_in(
        tmp_path, **{"constant = {}": "constant = { power = { low = 1.0, high = 2.0 } }"}
    )
    with pytest.raises(ValueError, match="knob = 'power': schedule 'constant' takes no knobs"):
        running.check(plan)


def test_a_part_of_the_plan_and_what_is_added_to_it(tmp_path):
    plan = plan_in(tmp_path)
    part = plan.select(problems=["bowl"], methods=["linear", "cosine"], horizons=[0.5], trials=4)
    assert list(part.entries) == ["bowl"] and list(part.methods) == ["linear", "cosine"]
    assert part.methods["linear"] == plan.methods["linear"]
    assert part.methods["cosine"] == benchmark.Method("cosine", "cosine")
    entry = part.entries["bowl"]
    assert entry.optimizers == {"sgd": (0.5,), "adamw": (0.5,)} and entry.trials == 4
    mine = dataclasses.replace(problems.load("article"), name="mine")
    added = plan.select(problems=[mine, "article"], optimizers=["adam"])
    assert added.entries["mine"].load is mine and added.entries["mine"].group == "own"
    assert added.entries["article"].optimizers == {"adam": (1.0,)}
    for wrong in (dict(problems=["bowls"]), dict(methods=["lin"]), dict(optimizers=["sdg"])):
        with pytest.raises(ValueError, match="must be one of"):
            plan.select(**wrong)
    for name, values in (
        ("methods", ["rex"] * 2),
        ("horizons", [1, 1.0]),
        ("problems", ["bowl"] * 2),
    ):
        with pytest.raises(ValueError, match="must not repeat"):
            plan.select(**{name: values})


def test_the_design_is_balanced_on_every_axis_and_the_same_for_all_methods(tmp_path):
    places = spaces.design(32, 7)
    for column in places.T:
        assert sorted((column * 32).astype(int)) == list(range(32))
    assert np.array_equal(places, spaces.design(32, 7))
    assert not np.array_equal(places, spaces.design(32, 8))
    plan = plan_in(tmp_path)
    made = {
        label: tuning.trials_of(plan, plan.methods[label], "sgd", 0.01, 10.0, places)
        for label in ("constant", "linear", "linear_cold")
    }
    peaks = {label: [trial.peak for trial in trials] for label, trials in made.items()}
    assert peaks["constant"] == peaks["linear"] == peaks["linear_cold"]
    warmups = {label: [dict(t.knobs)["warmup"] for t in trials] for label, trials in made.items()}
    assert warmups["constant"] == warmups["linear"]
    assert set(warmups["linear_cold"]) == {0.0}
    # A third of the axis is no warmup at all; the rest is even between its ends.
    some = [w for w in warmups["linear"] if w]
    assert warmups["linear"].count(0.0) in (10, 11) and 0.1 <= min(some) < max(some) <= 0.5
    # Peaks are log uniform over the whole range.
    logs = np.sort(np.log10(peaks["linear"]))
    assert np.abs(logs - np.linspace(-2, 1, 33)[:-1] - 3 / 64).max() < 3 / 32


def test_the_optimizers_own_knob_is_tuned_too(tmp_path):
    plan = plan_in(tmp_path)
    places = spaces.design(8, 0)
    trials = tuning.trials_of(plan, plan.methods["linear"], "adamw", 0.01, 1.0, places)
    assert sorted(dict(t.knobs)["weight_decay"] for t in trials) == [0.0] * 4 + [0.1] * 4
    setting = benchmark.Setting("bowl", "adamw", 1.0)
    entry = plan.entries["bowl"]
    chunk = trials[0].chunk(setting, entry, 4, plan.methods["linear"], ("weight_decay",), [1])
    decay = dict(trials[0].knobs)["weight_decay"]
    assert chunk.optimizer == f"adamw:weight_decay={decay:g}"
    (run,) = chunk.runs("linear")
    assert run.make(0.1).weight_decay == decay
    assert "weight_decay" not in dict(chunk.knobs)


@given(
    low=st.floats(1e-4, 1.0),
    factor=st.floats(1.0, 100.0),
    zero=st.floats(0.0, 0.9),
    scale=st.sampled_from(["linear", "log"]),
    place=st.floats(0, 1, exclude_max=True),
)
def test_an_axis_stays_between_its_ends(low, factor, zero, scale, place):
    axis = spaces.Axis(low, low * factor, scale, zero)
    value = axis.at(place)
    assert (value == 0.0) == (place < zero)
    assert place < zero or 0.999 * low <= value <= 1.001 * low * factor


@given(low=st.integers(1, 5), more=st.integers(0, 5), place=st.floats(0, 1, exclude_max=True))
def test_whole_numbers_have_equal_parts(low, more, place):
    axis = spaces.Axis(low, low + more, "whole")
    assert axis.at(place) == low + int(place * (more + 1))


def test_the_committed_plan_can_be_run():
    """Its knobs are those of its schedules, at every problem's shortest horizon; and its cost."""
    plan = benchmark.Plan.read()
    assert plan.version == 3
    shapes = {method.schedule for method in plan.methods.values()}
    assert shapes == set(schedules.names())
    assert plan.select().cost()["minutes"].sum() <= plan.protocol["minutes"] <= 90
    for entry in plan.entries.values():
        assert {"momentum", "adamw"} <= set(entry.optimizers)
        assert len({plan.methods[name].schedule for name in entry.methods}) >= 8


def test_the_text_of_the_test_is_a_plan(tmp_path):
    assert plan_in(tmp_path, TEXT).settings("bowl") == [
        benchmark.Setting("bowl", "sgd", 1.0),
        benchmark.Setting("bowl", "sgd", 0.5),
        benchmark.Setting("bowl", "adamw", 1.0),
    ]
