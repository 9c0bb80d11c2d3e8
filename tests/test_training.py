"""The many-run trainer against plain Keras ``fit``, and against itself."""

import math

from anneal_utils import problems, schedules, training
from anneal_utils.optimizers.catalogue import _classes
from anneal_utils.training import _keras
from anneal_utils.training.program import Program, program_of
from anneal_utils.training.starts import starts

import keras
import numpy as np
import pandas as pd
import pytest

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(96, 64)).astype("float32")
TOKENS = RNG.integers(0, 20, size=(96, 6)).astype("int32")
LABELS = RNG.integers(0, 3, size=96).astype("int32")


def tiny(build, x=IMAGES, **settings):
    """A small problem around ``build``; three epochs of five steps."""
    given = {
        "name": "tiny",
        "build": build,
        "x_train": x[:80].copy(),
        "y_train": LABELS[:80].copy(),
        "x_val": x[80:].copy(),
        "y_val": LABELS[80:].copy(),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "batch_size": 16,
        "epochs": 3,
        "chance_loss": math.log(3),
    }
    return problems.Problem(**{**given, **settings})


def sequential(size, *layers):
    return lambda: keras.Sequential([keras.Input(size), *[layer() for layer in layers]])


L = keras.layers
MODELS = {
    "dense": sequential((64,), lambda: L.Dense(8, "relu"), lambda: L.Dense(3)),
    "l2": sequential(
        (64,), lambda: L.Dense(8, "relu", kernel_regularizer="l2"), lambda: L.Dense(3)
    ),
    "layer_norm": sequential(
        (64,), lambda: L.Dense(8), L.LayerNormalization, L.ReLU, lambda: L.Dense(3)
    ),
    "batch_norm": sequential(
        (64,), lambda: L.Dense(8), L.BatchNormalization, L.ReLU, lambda: L.Dense(3)
    ),
    "dropout": sequential(
        (64,), lambda: L.Dense(16, "relu"), lambda: L.Dropout(0.5), lambda: L.Dense(3)
    ),
    "conv": sequential(
        (64,), lambda: L.Reshape((8, 8, 1)), lambda: L.Conv2D(4, 3), L.Flatten, lambda: L.Dense(3)
    ),
    "embedding_gru": sequential(
        (6,), lambda: L.Embedding(20, 5), lambda: L.GRU(6), lambda: L.Dense(3)
    ),
}


def problem_of(model):
    x = TOKENS if model == "embedding_gru" else IMAGES
    return tiny(MODELS[model], x, name=model)


OPTIMIZERS = sorted(_classes())
FAMILIES = {
    "momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "nesterov": lambda rate: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
    "clipnorm": lambda rate: keras.optimizers.SGD(rate, clipnorm=0.1),
    "amsgrad": lambda rate: keras.optimizers.Adam(rate, amsgrad=True),
    "weight_decay": lambda rate: keras.optimizers.SGD(rate, weight_decay=0.01),
    "accumulation": lambda rate: keras.optimizers.SGD(rate, gradient_accumulation_steps=2),
}


def assert_same_as_fit(problem, optimizer, mode="graph", **tolerance):
    """Run i of many equals one ``fit``: exactly, or within ``tolerance``."""
    runs = training.grid(["cosine"], [0.02, 0.05], [3, 8], optimizer)
    weights, frame = training.train(problem, runs, return_weights=True, mode=mode)
    model, twin = training.fit_one(problem, runs[2])
    mine = frame[(frame.peak == 0.05) & (frame.seed == 3)].reset_index(drop=True)
    if tolerance:
        for column in ("train_loss", "val_loss"):
            np.testing.assert_allclose(mine[column], twin[column], **tolerance)
        for ours, theirs in zip(weights[2], model.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, **tolerance)
    else:
        pd.testing.assert_frame_equal(mine, twin, check_exact=True)
        for ours, theirs in zip(weights[2], model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    # The runs did train, and differ from each other.
    assert len(frame) == 12 and frame.val_loss.nunique() > 4


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, *FAMILIES])
def test_graph_mode_is_fit_bit_for_bit_for_every_optimizer(optimizer):
    assert_same_as_fit(problem_of("layer_norm"), FAMILIES.get(optimizer, optimizer))


@pytest.mark.parametrize("model", MODELS)
def test_graph_mode_is_fit_bit_for_bit_for_every_layer(model):
    assert_same_as_fit(problem_of(model), "adam")


@pytest.mark.parametrize("model", [m for m in MODELS if m != "dropout"])
def test_xla_is_fit_within_rounding_for_every_layer(model):
    assert_same_as_fit(problem_of(model), "sgd", mode="xla", rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("optimizer", sorted(set(OPTIMIZERS) - {"adafactor"}))
def test_xla_is_fit_within_rounding_for_every_optimizer(optimizer):
    assert_same_as_fit(problem_of("dense"), optimizer, mode="xla", rtol=5e-3, atol=2e-4)


@pytest.mark.parametrize(
    "recipe",
    [
        0.05,
        keras.optimizers.schedules.CosineDecay(0.0, 8, warmup_target=0.1, warmup_steps=4),
        lambda epoch: 0.1 * 0.5**epoch,
        lambda epoch, rate: rate * 0.9,
        "one_cycle",
        ("step", {"drops": 2, "factor": 0.3}),
    ],
    ids=["number", "keras", "epoch", "epoch_and_rate", "name", "name_and_knobs"],
)
def test_every_kind_of_schedule_is_applied_as_fit_applies_it(recipe):
    problem = problem_of("dense")
    runs = training.grid({"mine": recipe}, [0.1], [5])
    assert len(runs) == 1
    frame = training.train(problem, runs, mode="graph")
    _, twin = training.fit_one(problem, runs[0])
    pd.testing.assert_frame_equal(frame, twin, check_exact=True)
    np.testing.assert_array_equal(frame.rate, training.rates(problem, runs[0], exact=True)[4::5])


@keras.saving.register_keras_serializable("tests")
class OwnSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A user's schedule that takes single steps only."""

    def __call__(self, step):
        return keras.ops.cond(step < 7, lambda: 0.1, lambda: 0.01)

    def get_config(self):
        return {}


PLATEAUS = {
    "lowers": training.Plateau(factor=0.5, patience=1, min_delta=0.05),
    "cools_down": training.Plateau(factor=0.3, patience=1, min_delta=1.0, cooldown=2),
    "stops_at_min_rate": training.Plateau(factor=0.1, patience=1, min_delta=1.0, min_rate=0.02),
    "waits": training.Plateau(factor=0.5, patience=3, min_delta=0.02),
}


@pytest.mark.parametrize("mode", ["graph", "xla"])
@pytest.mark.parametrize("rules", PLATEAUS)
def test_plateau_lowers_the_rate_where_the_keras_callback_does(rules, mode):
    problem = tiny(MODELS["dense"], epochs=8)
    recipes = {"plateau": PLATEAUS[rules], "cosine": "cosine"}
    runs = training.grid(recipes, [0.3], [3, 8], FAMILIES["momentum"])
    frame = training.train(problem, runs, mode=mode)
    alone = training.train(problem, runs[2:], mode=mode)
    # Its neighbours are not touched by its feedback.
    pd.testing.assert_frame_equal(
        frame[frame.schedule == "cosine"].reset_index(drop=True), alone, check_exact=True
    )
    mine = frame[(frame.schedule == "plateau") & (frame.seed == 8)].reset_index(drop=True)
    twin = training.fit_one(problem, runs[1])[1]
    assert mine.rate.nunique() > 1, "the rule never acted: the test would compare nothing"
    if mode == "graph":
        pd.testing.assert_frame_equal(mine, twin, check_exact=True)
    else:
        np.testing.assert_array_equal(mine.rate, twin.rate)


@pytest.mark.parametrize(
    ("knob", "value"),
    [("factor", 1.0), ("factor", 0.0), ("patience", 0), ("min_delta", -1), ("cooldown", 0.5)],
)
def test_plateau_refuses_what_makes_no_sense(knob, value):
    with pytest.raises(ValueError, match=f"^{knob} = "):
        training.Plateau(**{knob: value})


def test_a_users_own_schedule_that_refuses_vectors():
    problem = problem_of("dense")
    runs = training.grid({"own": OwnSchedule()}, seeds=[1])
    frame = training.train(problem, runs)
    np.testing.assert_allclose(frame.rate, [0.1, 0.01, 0.01])
    assert frame.peak.unique() == pytest.approx([0.1])


@pytest.mark.parametrize("mode", ["xla", "graph"])
@pytest.mark.parametrize("threads", [2, 5])
def test_same_bits_alone_among_many_and_on_any_number_of_threads(mode, threads):
    problem = problem_of("dropout")
    runs = training.grid(["cosine", "step"], [0.05, 0.2], range(6))
    one = training.train(problem, runs, threads=1, mode=mode)
    many = training.train(problem, runs, threads=threads, mode=mode)
    pd.testing.assert_frame_equal(one, many, check_exact=True)
    alone = training.train(problem, runs[13:14], mode=mode)
    among = one.iloc[13 * 3 : 14 * 3].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, among, check_exact=True)
    assert one.groupby("seed").val_loss.first().nunique() == 6


def test_order_of_rows_is_the_order_of_runs():
    problem = problem_of("dense")
    runs = training.grid(["constant", "linear"], [0.1, 0.01], [4, 2])
    shuffled = [runs[i] for i in (5, 0, 7, 2)]
    frame = training.train(problem, shuffled)
    rows = frame.drop_duplicates(["schedule", "peak", "seed"])
    assert [(r.schedule, r.peak, r.seed) for r in rows.itertuples()] == [
        (r.schedule, r.peak, r.seed) for r in shuffled
    ]
    assert list(frame.columns) == [*training.COLUMNS, "train_accuracy"]
    assert list(frame.epoch[:3]) == [0, 1, 2] and list(frame.step[:3]) == [5, 10, 15]


def test_a_diverged_run_is_recorded_and_leaves_its_neighbours_alone():
    problem = problems.load("quadratic", curvature=2.0, noise=0.0, epochs=40)
    sane = training.grid({"a": 0.1, "b": 0.5}, seeds=range(4))
    mad = training.grid({"mad": 30.0}, seeds=range(4))
    mixed = [run for pair in zip(sane, mad + mad, strict=True) for run in pair]
    clean = training.train(problem, sane)
    frame = training.train(problem, mixed)
    both = frame[frame.schedule != "mad"].reset_index(drop=True)
    pd.testing.assert_frame_equal(both, clean, check_exact=True)
    assert not clean.diverged.any() and clean.diverged_step.isna().all()
    lost = frame[frame.schedule == "mad"]
    # theta is multiplied by 1 - 30 * 2 = -59 a step; the loss theta^2 overflows float32 when
    # 59^(2t) > 3.4e38, at t = 11 (counted from 0).
    assert set(lost.diverged_step) == {math.ceil(math.log(3.4e38) / (2 * math.log(59)))}
    assert lost.groupby("epoch").diverged.all().tolist() == [False] + [True] * 39


@pytest.mark.parametrize("curvature, rate, inside", [(4.0, 0.49, True), (4.0, 0.51, False)])
def test_the_edge_of_stability_of_a_quadratic_is_two_over_curvature(curvature, rate, inside):
    problem = problems.load("quadratic", curvature=curvature, noise=0.0, epochs=20)
    frame = training.train(problem, training.grid({"constant": rate}))
    exact = problem.chance_loss * (1 - rate * curvature) ** (2 * frame.step)
    np.testing.assert_allclose(frame.val_loss, exact, rtol=1e-3)
    assert (frame.val_loss.iloc[-1] < problem.chance_loss) == inside


def test_noisy_quadratic_has_its_closed_form_moments():
    problem = problems.load("quadratic", curvature=1.0, noise=1.0, batch_size=1, epochs=30)
    frame = training.train(problem, training.grid({"constant": 0.2}, seeds=range(400)))
    moment, expected = 1.0, []
    for step in range(1, 301):
        moment = (1 - 0.2) ** 2 * moment + 0.2**2
        if step % 10 == 0:
            expected.append(0.5 * moment)
    groups = frame.groupby("epoch").val_loss
    mean, error = groups.mean(), groups.sem()
    # Thirty correlated epochs: 4.5 standard errors is a 1-in-5,000 event for all of them.
    assert (np.abs(mean - expected) < 4.5 * error).all()


def test_weights_that_an_optimizer_copies_belong_to_the_run():
    problem = problem_of("dense")
    runs = training.grid({"c": 0.01}, seeds=[1, 2], optimizer="schedulefreeadamw")
    program = program_of(problem, runs[0], 3, "graph")
    assert program.own_slots
    first, second = (program.slots_of(program.starts.values(s), s) for s in (1, 2))
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_matmul_convolution_is_keras_convolution():
    x = RNG.normal(size=(5, 8, 8, 3)).astype("float32")
    ours = problems.MatmulConv2D(4, 3, padding="same", activation="relu")
    theirs = keras.layers.Conv2D(4, 3, padding="same", activation="relu")
    ours.build(x.shape)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(ours(x), theirs(x), atol=2e-6)


@pytest.mark.parametrize(
    "call, argument",
    [
        (lambda: training.grid([], [0.1]), "schedules"),
        (lambda: training.grid("cosine", [0.1]), "schedules"),
        (lambda: training.grid(["nothing"], [0.1]), "schedules"),
        (lambda: training.grid(["cosine"], []), "peaks"),
        (lambda: training.grid(["cosine"], [0.0]), "peaks"),
        (lambda: training.grid(["cosine"], [float("nan")]), "peaks"),
        (lambda: training.grid(["cosine"], [0.1], []), "seeds"),
        (lambda: training.grid(["cosine"], [0.1], [1, 1]), "seeds"),
        (lambda: training.grid(["cosine"], [0.1], [-1]), "seeds"),
        (lambda: training.grid(["cosine"], [0.1], [0], "sdg"), "optimizer"),
        (lambda: training.grid(["cosine"], [0.1], [0], keras.optimizers.SGD()), "optimizer"),
        (lambda: training.grid(["cosine"], [0.1], epochs=0), "epochs"),
        (lambda: training.grid({"x": "what"}, [0.1]), "schedules"),
        (lambda: training.grid({"x": -0.1}), "schedules"),
        (lambda: training.grid({"x": None}), "schedules"),
        (lambda: training.train("digits", []), "problem"),
        (lambda: training.train(problem_of("dense"), []), "runs"),
        (
            lambda: training.train(problem_of("dense"), training.grid({"x": 1.0}), mode="fast"),
            "mode",
        ),
        (
            lambda: training.train(problem_of("dense"), training.grid({"x": 1.0}), threads=0),
            "threads",
        ),
    ],
)
def test_bad_input_is_named(call, argument):
    with pytest.raises(ValueError, match=rf"^{argument}.* = "):
        call()


def test_bad_rates_are_refused_before_training():
    problem = problem_of("dense")
    for bad in (lambda epoch: -0.1, lambda epoch: float("nan"), lambda epoch: "0.1"):
        with pytest.raises(ValueError, match="mine"):
            training.train(problem, training.grid({"mine": bad}))


def test_weight_averaging_is_refused():
    runs = training.grid(
        {"c": 0.1}, optimizer=lambda rate: keras.optimizers.SGD(rate, use_ema=True)
    )
    with pytest.raises(ValueError, match="use_ema"):
        training.train(problem_of("dense"), runs)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda rate: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(rate)),
        lambda rate: keras.optimizers.MultiOptimizer(lambda variable: keras.optimizers.SGD(rate)),
    ],
)
def test_optimizers_around_optimizers_are_refused(wrap):
    with pytest.raises(ValueError, match="wraps optimizers"):
        training.train(problem_of("dense"), training.grid({"c": 0.1}, optimizer=wrap))


def test_a_model_that_is_not_built_is_refused():
    problem = tiny(lambda: keras.Sequential([keras.layers.Dense(3)]))
    with pytest.raises(ValueError, match="built model"):
        training.train(problem, training.grid({"c": 0.1}))


def test_every_thread_brings_all_variables_of_the_one_program():
    problem = problem_of("dropout")
    runs = training.grid({"c": 0.1}, seeds=range(8), optimizer="adam")
    training.train(problem, runs, threads=2)
    program = program_of(problem, runs[0], problem.epochs, "auto")
    shared = {id(v.handle) for v in program.concrete.variables}
    owned = {id(v.value) for v in (*program.model.variables, *program.optimizer.variables)}
    assert len(shared) >= len(owned)  # and the table of rates, and the metrics
    seats = [program.seats.get_nowait() for _ in range(program.seats.qsize())]
    assert seats
    for variables, captured in seats:
        assert len(variables) == len(shared)
        assert not shared & {id(tensor) for tensor in captured}


def test_several_optimizers_in_one_call_train_as_each_alone():
    problem = problem_of("dense")
    optimizers = {"sgd": "sgd", "adam": "adam", "free": "schedulefreeadamw"}
    together = training.grid(["linear"], [0.01, 0.1], range(3), optimizers)
    frame = training.train(problem, together, threads=2)
    for name, make in optimizers.items():
        alone = training.train(problem, training.grid(["linear"], [0.01, 0.1], range(3), make))
        mine = frame[frame.optimizer == name].assign(optimizer=alone.optimizer[0])
        pd.testing.assert_frame_equal(mine.reset_index(drop=True), alone, check_exact=True)


def test_an_error_inside_a_thread_reaches_the_caller_and_ends_the_others(monkeypatch):
    problem, calls = problem_of("dense"), []
    whole = Program.call

    def breaks(program, *arguments):
        calls.append(None)
        if len(calls) == 3:
            raise OSError("the third run breaks")
        return whole(program, *arguments)

    monkeypatch.setattr(Program, "call", breaks)
    runs = training.grid({"c": 0.1}, seeds=range(200))
    with pytest.raises(OSError, match="the third run breaks"):
        training.train(problem, runs, threads=2)
    assert len(calls) < 100
    assert len(training.train(problem, runs[:5], threads=2)) == 5 * problem.epochs


@pytest.mark.parametrize("name", problems.names()[:-2])  # without the downloads
def test_initial_weights_are_those_of_the_built_model(name):
    problem = problems.load(name)
    for seed in (3, 600):
        model, variables = _keras.build(problem, seed)
        built = [variable.numpy() for variable in model.variables]
        for drawn, expected in zip(starts(problem, variables).values(seed), built, strict=True):
            np.testing.assert_array_equal(drawn, expected)
    if not name.startswith("quadratic"):  # their point starts where its layer was told
        assert starts(problem, variables).makers, "initial weights are slow again"


def test_models_that_do_not_start_from_their_initializers_are_built():
    def shifted():
        model = MODELS["dense"]()
        model.set_weights([weights + 1 for weights in model.get_weights()])
        return model

    for problem in (problem_of("dropout"), tiny(shifted)):
        begin = starts(problem, _keras.build(problem, 0)[1])
        assert begin.makers is None
        first, second = (begin.values(seed) for seed in (1, 2))
        expected = [variable.numpy() for variable in _keras.build(problem, 2)[0].variables]
        assert not np.array_equal(first[0], second[0])
        assert all(map(np.array_equal, second, expected))


def test_global_random_state_is_left_alone():
    np.random.seed(7)
    expected = np.random.RandomState(7).uniform(size=3)
    training.train(problem_of("l2"), training.grid({"c": 0.1}, seeds=[11, 12]))
    np.testing.assert_array_equal(np.random.uniform(size=3), expected)


# ------------------------------------------------------------------------------- callbacks


def compiled(rate, **settings):
    keras.utils.set_random_seed(0)
    model = MODELS["dense"]()
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, **settings.pop("optimizer", {})),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **settings,
    )
    return model


def fit(model, *callbacks, epochs=2):
    return model.fit(
        *(IMAGES[:80], LABELS[:80]), batch_size=16, epochs=epochs, verbose=0, callbacks=callbacks
    )


@pytest.mark.parametrize("per_call", [1, 4])
def test_recorder_reads_the_rate_that_was_applied(per_call):
    schedule = schedules.build("linear", 0.1, 10)
    recorder = training.RateRecorder()
    fit(compiled(schedule, steps_per_execution=per_call), recorder)
    np.testing.assert_allclose(recorder.rates, schedules.values(schedule, 10), rtol=1e-6)


def test_recorder_under_gradient_accumulation_counts_batches():
    schedule = schedules.build("linear", 0.1, 10)
    recorder = training.RateRecorder()
    fit(compiled(schedule, optimizer={"gradient_accumulation_steps": 2}), recorder)
    np.testing.assert_allclose(recorder.rates, schedules.values(schedule, 10), rtol=1e-6)


def test_recorder_sees_what_a_callback_sets():
    recorder = training.RateRecorder()
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (1 + epoch))
    fit(compiled(0.5), scheduler, recorder)
    np.testing.assert_allclose(recorder.rates, [0.1] * 5 + [0.05] * 5, rtol=1e-6)


def test_range_test_restores_everything_exactly():
    model = compiled(0.03)
    fit(model, epochs=1)  # so that slots and step count are not at their start
    before = [v.numpy() for v in [*model.variables, *model.optimizer.variables]]
    test = training.RangeTest(1e-4, 10, steps=30)
    fit(model, test, epochs=100)
    after = [v.numpy() for v in [*model.variables, *model.optimizer.variables]]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.03)
    np.testing.assert_allclose(test.frame.rate, np.geomspace(1e-4, 10, 30)[: len(test.frame)])
    # and training goes on as if the test had never been
    twin = compiled(0.03)
    fit(twin, epochs=1)
    keras.utils.set_random_seed(1)
    one = fit(model).history["loss"]
    keras.utils.set_random_seed(1)
    assert fit(twin).history["loss"] == one


def test_range_test_on_a_fresh_model_leaves_it_fresh():
    model = compiled(0.03)
    weights = model.get_weights()
    fit(model, training.RangeTest(1e-4, 1, steps=8), epochs=100)
    assert int(model.optimizer.iterations) == 0
    slots = [v.numpy() for v in model.optimizer.variables if "momentum" in v.path]
    assert slots and not any(slot.any() for slot in slots)
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_schedule_free_built_inside_fit_loses_its_starting_point():
    """Why ``fit_one`` builds the optimizer first: the first step then moves by about the rate."""
    moved = {}
    for early in (True, False):
        model = compiled(0.1)
        model.compile(keras.optimizers.ScheduleFreeAdamW(0.001), model.loss, jit_compile=False)
        start = model.get_weights()[0]
        if early:
            model.optimizer.build(model.trainable_variables)
        model.fit(IMAGES[:16], LABELS[:16], batch_size=16, verbose=0)
        moved[early] = np.abs(model.get_weights()[0] - start).max()
    assert moved[True] < 0.0011 and moved[False] > 0.1


def test_auto_mode_avoids_xla_where_it_does_not_hold():
    conv, dense = problem_of("conv"), problem_of("dense")
    sgd, adafactor = training.grid({"c": 0.1}, optimizer={"sgd": "sgd", "ada": "adafactor"})
    assert program_of(conv, sgd, 3, "auto").exact
    assert program_of(dense, adafactor, 3, "auto").exact
    assert not program_of(dense, sgd, 3, "auto").exact


def test_range_test_loss_is_each_batchs_own_and_before_its_update():
    model = compiled(0.03)
    keras.utils.set_random_seed(5)
    expected = float(model.evaluate(IMAGES[:16], LABELS[:16], verbose=0)[0])
    test = training.RangeTest(1e-5, 1e-4, steps=3)
    model.fit(
        *(IMAGES[:80], LABELS[:80]), batch_size=16, shuffle=False, verbose=0, callbacks=[test]
    )
    assert test.frame.loss[0] == pytest.approx(expected, rel=1e-5)
    assert test.frame.loss.nunique() == 3


def test_range_test_stops_when_the_loss_leaves():
    test = training.RangeTest(0.1, 1e9, steps=60)
    fit(compiled(0.03), test, epochs=100)
    assert 2 < len(test.frame) < 60


def test_range_test_refuses_what_it_can_not_do():
    with pytest.raises(ValueError, match="must be a number"):
        fit(compiled(schedules.build("linear", 0.1, 10)), training.RangeTest())
    with pytest.raises(ValueError, match="steps_per_execution"):
        fit(compiled(0.1, steps_per_execution=4), training.RangeTest())
    with pytest.raises(ValueError, match="stop"):
        training.RangeTest(1.0, 0.1)
