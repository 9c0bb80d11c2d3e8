"""What the grid takes as schedules, peaks and seeds, and what it says of anything else."""

from anneal_utils import problems, schedules, training
from anneal_utils.training import per_step

import numpy as np
import optax
import pandas as pd
import pytest

BOWL = dict(name="quadratic", epochs=3, steps=4)


def bowl():
    return problems.load(**BOWL)


def by_epoch(epoch):
    return 0.1 / (1 + epoch)


def labels(given, **more):
    return [run.schedule for run in training.grid(given, 0.1, **more)]


@pytest.mark.parametrize(
    "given, expected",
    [
        ("cosine", ["cosine"]),
        (["cosine", "wsd"], ["cosine", "wsd"]),
        (["cosine", ("wsd", {"cooldown": 0.3})], ["cosine", "wsd:cooldown=0.3"]),
        (("wsd", {"cooldown": 0.3}), ["wsd:cooldown=0.3"]),
        (("cosine", "linear"), ["cosine", "linear"]),
        ({"a": ("wsd", {"cooldown": 0.3}), "b": "linear"}, ["a", "b"]),
        ([("step", {"milestones": [0.5, 0.7]})], ["step:milestones=[0.5, 0.7]"]),
        (iter(["cosine"]), ["cosine"]),
        ([training.Plateau(patience=2)], [str(training.Plateau(patience=2))]),
        (["cosine", 0.1], ["cosine", "0.1"]),
        ([by_epoch], ["by_epoch"]),
        ([per_step(by_epoch)], ["by_epoch"]),
    ],
)
def test_schedules_come_as_one_name_as_pairs_or_with_labels(given, expected):
    assert labels(given) == expected


def test_knobs_arrive_wherever_they_were_written():
    in_list, in_dict = (
        training.grid(given, 0.1)[0]
        for given in ([("wsd", {"cooldown": 0.5})], {"a": ("wsd", {"cooldown": 0.5})})
    )
    expected = schedules.values(schedules.build("wsd", 0.1, 12, cooldown=0.5), 12)
    for run in (in_list, in_dict):
        np.testing.assert_array_equal(training.rates(bowl(), run), expected)


def test_one_peak_is_a_list_of_one():
    assert training.grid("cosine", 0.1) == training.grid(["cosine"], [0.1])
    assert training.grid("cosine", np.float32(0.1))[0].peak == np.float32(0.1)


def step_by_step(step):
    return 0.1 / (1 + step)


@pytest.mark.parametrize(
    "function, expected",
    [
        (step_by_step, 0.1 / (1 + np.arange(12))),
        (optax.cosine_decay_schedule(0.1, 12), 0.05 * (1 + np.cos(np.pi * np.arange(12) / 12))),
        (optax.constant_schedule(0.1), np.full(12, 0.1)),
    ],
)
def test_a_function_of_the_step_is_asked_at_every_step(function, expected):
    run = training.grid({"f": per_step(function)}, seeds=[2])[0]
    assert run.peak is None
    np.testing.assert_allclose(training.rates(bowl(), run), expected, rtol=1e-5)
    frame = training.train(bowl(), [run], mode="graph")
    _, twin = training.fit_one(bowl(), run)
    pd.testing.assert_frame_equal(frame, twin, check_exact=True)
    np.testing.assert_allclose(frame["rate"], expected[3::4], rtol=1e-5)


def test_a_plain_function_is_of_the_epoch_as_in_keras():
    run = training.grid({"f": lambda epoch: 0.1 / (1 + epoch)})[0]
    expected = np.repeat(0.1 / (1 + np.arange(3)), 4)
    np.testing.assert_allclose(training.rates(bowl(), run), expected, rtol=1e-6)


BAD = {
    "a function of 'step'": (
        lambda: training.grid({"f": lambda step: 0.1}),
        r"^schedules\['f'\] = \"a function of 'step'\": .*of the epoch.*training.per_step",
    ),
    "an optax schedule": (
        lambda: training.grid({"f": optax.cosine_decay_schedule(0.1, 12)}),
        r"^schedules\['f'\] = \"a function of 'count'\": .*training.per_step",
    ),
    "a number to mark": (lambda: per_step(0.1), "^function = 0.1: must be a function"),
    "a schedule to mark": (
        lambda: per_step(schedules.build("cosine", 0.1, 9)),
        "^function = .*must be a function of the step",
    ),
    "an answer that is no number": (
        lambda: training.rates(bowl(), training.grid({"f": per_step(lambda step: "x")})[0]),
        "^the rate of step 0 = 'x': must be a number",
    ),
    "a negative rate": (
        lambda: training.rates(bowl(), training.grid({"f": per_step(lambda step: 2.0 - step)})[0]),
        r"^schedule 'f' at step 3 = -1.0: every rate must be finite and >= 0",
    ),
    "a number of seeds": (
        lambda: training.grid("cosine", 0.1, 20),
        r"^seeds = 20: must be a list of seeds: range\(20\) for that many, \[20\] for this one",
    ),
    "an unknown name": (lambda: training.grid("cosin", 0.1), "^schedules = 'cosin': must be one"),
    "an unlabelled function": (
        lambda: training.grid([lambda epoch: 0.1]),
        "^schedules = <function .*needs a label",
    ),
    "one name twice": (lambda: training.grid(["cosine", "cosine"], 0.1), "^schedules = 'cosine'"),
    "a pair without knobs": (
        lambda: training.grid({"a": ("wsd", 0.3)}, 0.1),
        r"^schedules\['a'\] = \('wsd', 0.3\): must be a pair \(name, \{knob: value\}\)",
    ),
    "a number of schedules": (lambda: training.grid(3, 0.1), "^schedules = 3: must be names"),
    "no schedule": (lambda: training.grid([], 0.1), r"^schedules = \{\}: must name at least one"),
    "runs that are none": (
        lambda: training.train(bowl(), ["cosine"]),
        r"^runs = \['cosine'\]: must be at least one run, from training.grid",
    ),
    "a problem that is none": (
        lambda: training.train(3, training.grid("cosine", 0.1)),
        "^problem = 3: must be a Problem, or the name of one",
    ),
    "an unknown problem": (
        lambda: training.train("digit", training.grid("cosine", 0.1)),
        "^name = 'digit': must be one of",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_anything_else_is_refused_by_one_sentence(case):
    call, sentence = BAD[case]
    with pytest.raises(ValueError, match=sentence):
        call()


def test_tables_of_the_packages_own_schedules_are_remembered_and_no_others():
    """Of a user's schedule nothing tells when it means something else."""
    article, level = problems.load("article"), {"end": 0.5}

    @schedules.register("wavering")
    def wavering(peak, steps):
        return schedules.build("linear", peak, steps, **level)

    try:
        (own,) = training.grid("linear", 0.1)
        (mine,) = training.grid("wavering", 0.1)
        assert training.runs.rates(article, own) is training.runs.rates(article, own)
        before = training.runs.rates(article, mine)
        level["end"] = 0.0
        after = training.runs.rates(article, mine)
        assert before[-1] > 0.04 and after[-1] < 0.001
        with pytest.raises(ValueError, match="read-only"):
            training.runs.rates(article, own)[0] = 1
    finally:
        schedules.unregister("wavering")
