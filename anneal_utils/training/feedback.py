"""Rates that follow the held-out loss: the rules of ``ReduceLROnPlateau`` inside a program."""

from anneal_utils.training.recipes import Plateau, is_of_the_epoch

import numpy as np
import tensorflow as tf


def plateau_vector(recipe, skips: bool = False) -> np.ndarray:
    """A recipe's plateau rules as float64 [5]; patience 0 stands for a run without feedback.

    So does patience -1: where half precision ``skips`` steps, the rates of a function of the
    epoch still follow the epochs, while those of a schedule follow the steps that were done.
    """
    if not isinstance(recipe, Plateau):
        return np.array([0, -1 if skips and is_of_the_epoch(recipe) else 0, 0, 0, 0], float)
    given = (recipe.factor, recipe.patience, recipe.min_delta, recipe.cooldown, recipe.min_rate)
    return np.array(given, float)


def plateau_step(rules, state, first, rate, loss):
    """One epoch's end of ``ReduceLROnPlateau``: (lower the rate?, new rate, new state).

    Like Keras it computes in double precision and rounds the new rate to the variable's kind.
    The ``first`` epoch always counts as better, whatever its loss.
    """
    factor, patience, min_delta, cooldown, min_rate = tf.unstack(rules)
    best, wait, cooling = state
    loss, old = tf.cast(loss, tf.float64), tf.cast(rate, tf.float64)
    wait = tf.where(cooling > 0, 0, wait)
    cooling = tf.maximum(cooling - 1, 0)
    better = first | (loss + min_delta < best)
    wait = tf.where(better, 0, tf.where(cooling > 0, wait, wait + 1))
    tired = ~better & (cooling == 0) & (tf.cast(wait, tf.float64) >= patience)
    lower = tired & (patience > 0) & (old > tf.cast(tf.cast(min_rate, tf.float32), tf.float64))
    new = tf.cast(tf.maximum(old * factor, min_rate), rate.dtype)
    state = (
        tf.where(better, loss, best),
        tf.where(lower, 0, wait),
        tf.where(lower, tf.cast(cooldown, tf.int32), cooling),
    )
    return lower, new, state
