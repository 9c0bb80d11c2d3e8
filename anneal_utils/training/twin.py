"""The plain-Keras twin of the many-run trainer."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from anneal_utils import _internals, identity
from anneal_utils.callbacks import RateRecorder
from anneal_utils.optimizers import EvaluateAverage, unwrap
from anneal_utils.problems import Problem
from anneal_utils.training import _keras
from anneal_utils.training.frames import Outcome, frame_of
from anneal_utils.training.recipes import PerStep, Plateau, Run, is_of_the_epoch
from anneal_utils.training.runs import batches, epoch_rate, rates, schedule_of, starting_rate
from anneal_utils.training.tensors import rows_of
from anneal_utils.training.trainer import identities

import keras
import numpy as np
import tensorflow as tf


def fit_one(problem: Problem, run: Run, *, callbacks: Iterable = ()):
    """The same run by ``model.fit``: ``(trained keras.Model, tidy frame)``.

    Nothing of the many-run trainer is used: the run's own schedule object drives the optimizer
    (or ``LearningRateScheduler``, for a function of the epoch), and ``fit`` reads the batches
    from a ``tf.data.Dataset`` in the run's order, without the incomplete last batch of an epoch,
    which ``fit`` on arrays would train on (``schedules.horizon`` counts it). In the frame it has
    the identity of the run in graph mode, whose bits it gives; with ``callbacks`` of yours, which
    may change anything, or where the trainer refuses the run, the digest of what ``fit`` gave.
    """
    foreign = bool(callbacks := list(callbacks))
    epochs, recipe = run.epochs or problem.epochs, schedule_of(problem, run)
    _keras.check_optimizer(run)
    model, _ = _keras.build(problem, run.seed)
    recorder = RateRecorder()
    callbacks = [recorder, *callbacks]
    if isinstance(run.recipe, Plateau):
        callbacks.append(run.recipe.callback())
    scheduled = is_of_the_epoch(recipe)
    if scheduled:
        # First, so that the recorder reads the rate that this callback has set.
        scheduler = keras.callbacks.LearningRateScheduler(
            lambda epoch, rate: epoch_rate(run, epoch, rate)
        )
        callbacks.insert(0, scheduler)
        recipe = starting_rate(run)
    elif isinstance(recipe, PerStep):
        callbacks.insert(0, _StepByStep(recipe))
        recipe = starting_rate(run)
    optimizer = _keras.optimizer_of(run, recipe, model)
    _keras.compile_model(problem, model, optimizer)
    if callable(getattr(optimizer, "to_average", None)):
        callbacks.append(EvaluateAverage())
    rows, parts = problem.rows(run.seed), problem.data()
    order = batches(problem, run.seed, epochs).reshape(-1, problem.batch_size)
    data = tf.data.Dataset.from_tensor_slices(order).map(lambda rows: rows_of(parts["train"], rows))
    held_out = parts["val"] if rows is None else rows_of(parts["val"], rows[1])
    at_once = {"val": problem.evaluation_batch_size or problem.samples("val")}
    at_once["test"] = problem.evaluation_batch_size or problem.samples("test")
    log = model.fit(
        data,
        epochs=epochs,
        steps_per_epoch=problem.steps_per_epoch,
        shuffle=False,
        validation_data=held_out,
        validation_batch_size=at_once["val"],
        callbacks=callbacks,
        verbose=0,
    ).history
    applied = np.array(recorder.rates)
    names = [n[4:] for n in log if n.startswith("val_")]
    # In the trainer's order: Keras sorts what fit reports.
    order = ["loss", *_keras.flat(model.get_metrics_result())]
    names.sort(key=lambda name: order.index(name) if name in order else len(order))
    unknown = [np.nan] * epochs
    history = np.column_stack(
        [
            applied[problem.steps_per_epoch - 1 :: problem.steps_per_epoch],
            *(log.get(name, unknown) for name in names),
            *(log[f"val_{name}"] for name in names),
        ]
    ).astype("float32")
    test = np.zeros(0, "float32")
    if "test" in parts:
        x, y, *weight = parts["test"]
        found = model.evaluate(
            *(x, y, at_once["test"]),
            sample_weight=weight[0] if weight else None,
            verbose=0,
            return_dict=True,
        )
        test = np.array([found[name] for name in names], "float32")
    lost = np.flatnonzero(~np.isfinite(recorder.losses))
    left = int(lost[0]) if len(lost) else -1
    peak = run.peak
    if peak is None:  # of the whole table: half precision may skip the steps that would reach it
        peak = float((applied if scheduled else rates(problem, run, exact=True)).max())
    given = applied[:: problem.steps_per_epoch].tolist()  # a random function would give others now
    told = replace(run, recipe=lambda epoch: given[epoch]) if scheduled else run
    named = None if foreign else _named(problem, told)
    named = named or identity.digest("fit", applied, history, test, model.get_weights())
    return model, frame_of(problem, [run], [Outcome(named, peak, names, history, left, test)])


class _StepByStep(keras.callbacks.Callback):
    """Sets the rate before every batch to what a function of the step answers."""

    def __init__(self, recipe: PerStep):
        super().__init__()
        self.recipe = recipe

    def on_train_batch_begin(self, batch, logs=None):
        optimizer = unwrap(self.model.optimizer)
        optimizer.learning_rate = self.recipe.rate(int(_internals.counter(optimizer)))


def _named(problem: Problem, run: Run) -> str | None:
    with suppress(ValueError):  # the trainer refuses what fit can do
        return identities(problem, [run], mode="graph")[0]
    return None
