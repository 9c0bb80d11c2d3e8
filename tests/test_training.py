"""The many-run trainer against plain Keras ``fit``, and against itself."""

import functools
import math

from anneal_utils import problems, training
from anneal_utils.optimizers.catalogue import _classes
from anneal_utils.training import _keras, starts
from anneal_utils.training.program import Program, program_of

import keras
import numpy as np
import pytest
from small import (
    IMAGES,
    LABELS,
    TOKENS,
    assert_as_fit,
    assert_close,
    assert_equal,
    assert_refused,
    assert_same_rows,
    sequential,
    tiny,
)

L = keras.layers
MODELS = {
    # Of the package's own, so that the program of one test serves the next.
    "dense": functools.partial(problems.models.mlp, 64, (8,), 3),
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


def fit_of(model, optimizer):
    """A problem, four runs of it, and what ``fit`` makes of the third: a model and a frame."""
    problem = problem_of(model)
    runs = training.grid(["cosine"], [0.02, 0.05], [3, 8], optimizer)
    return problem, runs, *training.fit_one(problem, runs[2])


@pytest.fixture(scope="module")
def fitted(request):
    """The same for an optimizer: once for all ways in which the trainer compiles."""
    return fit_of("dense", FAMILIES.get(request.param, request.param))


def assert_same_as_fit(problem, runs, model, twin, mode="graph", **tolerance):
    """Run i of many equals one ``fit``: exactly, or within ``tolerance``."""
    weights, frame = training.train(problem, runs, return_weights=True, mode=mode)
    mine = frame[(frame.peak == 0.05) & (frame.seed == 3)]
    if tolerance:
        for column in ("train_loss", "val_loss"):
            np.testing.assert_allclose(mine[column], twin[column], **tolerance)
        assert_close(weights[2], model.get_weights(), **tolerance)
    else:
        assert_same_rows(mine, twin)
        assert_equal(weights[2], model.get_weights())
    # The runs did train, and differ from each other.
    assert len(frame) == 12 and frame.val_loss.nunique() > 4


@pytest.mark.parametrize("fitted", [*OPTIMIZERS, *FAMILIES], indirect=True)
def test_graph_mode_is_fit_bit_for_bit_for_every_optimizer(fitted):
    assert_same_as_fit(*fitted)


@pytest.mark.parametrize("fitted", sorted(set(OPTIMIZERS) - {"adafactor"}), indirect=True)
def test_xla_is_fit_within_rounding_for_every_optimizer(fitted):
    assert_same_as_fit(*fitted, mode="xla", rtol=5e-3, atol=2e-4)


@pytest.mark.parametrize("model", MODELS)
def test_graph_mode_is_fit_bit_for_bit_for_every_layer(model):
    assert_same_as_fit(*fit_of(model, "adam"))


@pytest.mark.parametrize("model", [m for m in MODELS if m != "dropout"])
def test_xla_is_fit_within_rounding_for_every_layer(model):
    assert_same_as_fit(*fit_of(model, "sgd"), mode="xla", rtol=2e-4, atol=2e-6)


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
    assert_as_fit(problem, runs[0], frame)
    np.testing.assert_array_equal(frame.rate, training.rates(problem, runs[0], exact=True)[4::5])


@keras.saving.register_keras_serializable("tests")
class OwnSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A user's schedule that takes single steps only."""

    def __call__(self, step):
        return keras.ops.cond(step < 7, lambda: 0.1, lambda: 0.01)

    def get_config(self):
        return {}


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
    assert_same_rows(one, many)
    alone = training.train(problem, runs[13:14], mode=mode)
    assert_same_rows(alone, one.iloc[13 * 3 : 14 * 3])
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
    assert_same_rows(frame[frame.schedule != "mad"], clean)
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
    x = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype("float32")
    ours = problems.MatmulConv2D(4, 3, padding="same", activation="relu")
    theirs = keras.layers.Conv2D(4, 3, padding="same", activation="relu")
    ours.build(x.shape)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(ours(x), theirs(x), atol=2e-6)


def train(problem=None, **settings):
    """A training of a problem that there is."""
    return training.train(problem or problem_of("dense"), training.grid({"x": 1.0}), **settings)


def mine(recipe):
    return training.train(problem_of("dense"), training.grid({"mine": recipe}))


REFUSED = {
    "schedules = {}: must name": lambda: training.grid([], [0.1]),
    "schedules = 'cosin': must be one of": lambda: training.grid("cosin", [0.1]),
    "schedules = 'nothing': must be one of": lambda: training.grid(["nothing"], [0.1]),
    "peaks = []: schedule 'cosine' needs": lambda: training.grid(["cosine"], []),
    "peaks = 0.0: must be": lambda: training.grid(["cosine"], [0.0]),
    "peaks = nan: must be": lambda: training.grid(["cosine"], [float("nan")]),
    "seeds = []: must hold": lambda: training.grid(["cosine"], [0.1], []),
    "seeds = [1, 1]: must not": lambda: training.grid(["cosine"], [0.1], [1, 1]),
    "seeds = -1: must be": lambda: training.grid(["cosine"], [0.1], [-1]),
    "optimizer = 'sdg': must be one of": lambda: training.grid(["cosine"], [0.1], [0], "sdg"),
    "optimizer = <keras.src.optimizers.sgd.SGD object": lambda: training.grid(
        ["cosine"], [0.1], [0], keras.optimizers.SGD()
    ),
    "epochs = 0: must be": lambda: training.grid(["cosine"], [0.1], epochs=0),
    "schedules = 'what': must be one of": lambda: training.grid({"x": "what"}, [0.1]),
    "schedules['x'] = -0.1: must be": lambda: training.grid({"x": -0.1}),
    "schedules['x'] = None: must be": lambda: training.grid({"x": None}),
    "name = 'digts': must be one of": lambda: train("digts"),
    "problem = 7: must be a Problem": lambda: train(7),
    "runs = []: must be": lambda: training.train(problem_of("dense"), []),
    "mode = 'fast': must be one of": lambda: train(mode="fast"),
    "threads = 0: must be": lambda: train(threads=0),
    # The rates of a recipe, before anything is trained.
    "schedule 'mine' at step 0 = -0.1": lambda: mine(lambda epoch: -0.1),
    "schedule 'mine' at step 0 = nan: every": lambda: mine(lambda epoch: float("nan")),
    "the rate of schedule 'mine' at epoch 0 = '0.1': must be": lambda: mine(lambda epoch: "0.1"),
    "problem.build() = 'unbuilt': must return a built model": lambda: train(
        tiny(lambda: keras.Sequential([L.Dense(3)], name="unbuilt"))
    ),
}


@pytest.mark.parametrize("start", REFUSED)
def test_bad_input_is_named(start):
    assert_refused(REFUSED[start], start)


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
        assert_same_rows(mine, alone)


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
        assert_equal(starts.starts(problem, variables).values(seed), built)
    # A point starts where its layer was told, and random shifts have a seed.
    if "quadratic" not in name and name != "digits_residual":
        assert starts.starts(problem, variables).makers, "initial weights are slow again"


def test_models_that_do_not_start_from_their_initializers_are_built():
    def shifted():
        model = MODELS["dense"]()
        model.set_weights([weights + 1 for weights in model.get_weights()])
        return model

    for problem in (problem_of("dropout"), tiny(shifted)):
        begin = starts.starts(problem, _keras.build(problem, 0)[1])
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


def test_schedule_free_built_inside_fit_loses_its_starting_point():
    """Why ``fit_one`` builds the optimizer first: the first step then moves by about the rate."""
    moved = {}
    for early in (True, False):
        keras.utils.set_random_seed(0)
        model, loss = MODELS["dense"](), keras.losses.SparseCategoricalCrossentropy(True)
        model.compile(keras.optimizers.ScheduleFreeAdamW(0.001), loss, jit_compile=False)
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
