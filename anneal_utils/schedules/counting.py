"""How many steps a training has: the horizon, counted as ``model.fit`` counts."""

import math
import numbers
import types

from anneal_utils import _checks

import keras


def horizon(
    x,
    batch_size: int | None = None,
    epochs: int = 1,
    *,
    validation_split: float = 0.0,
    steps_per_epoch: int | None = None,
) -> int:
    """How often ``model.fit`` asks the schedule: the ``steps`` of ``build``, for these arguments.

    The arguments are those of ``fit``, with ``fit``'s defaults. ``x``: training inputs as ``fit``
    takes them (an array, a table, a tensor, or lists, tuples and dicts of them), the number of
    their rows, a ``tf.data.Dataset``, a ``keras.utils.PyDataset``, or a generator, which needs
    ``steps_per_epoch``. Data sets come in batches of their own: ``batch_size`` says nothing
    about them, here as in ``fit``. Leave ``validation_split`` out where ``fit`` gets
    ``validation_data``, which overrules it.

    >>> horizon(63, batch_size=32, epochs=10)  # fit trains on the last, incomplete batch too
    20
    >>> horizon(63, batch_size=32, epochs=10, validation_split=0.5)  # on 31 of the rows
    10

    What is counted are *batches*, as the optimizer's own counter does that schedules read. Under
    ``gradient_accumulation_steps=k`` that is k times the number of updates, and still the right
    horizon. Under ``mixed_float16`` a step whose gradients overflow is not counted, and training
    ends a little before the horizon, as it does when it is stopped early. A run that is resumed
    with ``initial_epoch`` goes on counting: give the epochs of the whole run.

    With ``steps_per_epoch`` below the number of batches each epoch goes on where the last one
    stopped, and is cut short at the end of the data, as in ``fit``. (If the model was compiled
    with ``steps_per_execution``, give a multiple of it.) Data of unknown length are trusted to
    last. The many-run trainer of this package drops an incomplete batch and counts for itself.

    ``ValueError`` for what is no data and for sizes that cannot be trained on, and without
    ``steps_per_epoch`` for data of unknown length. With a ``tf.data.Dataset`` of unknown
    cardinality (after ``filter``, for one) ``fit`` in a graph counts one step more than there are
    batches in every epoch: give the data set its length, with ``assert_cardinality``.
    """
    epochs = _checks.count("epochs", epochs)
    if steps_per_epoch is not None:
        steps_per_epoch = _checks.count("steps_per_epoch", steps_per_epoch)
    if _checks.number("validation_split", validation_split, low=0) >= 1:
        _checks.fail("validation_split", validation_split, "must be a share of the rows, in [0, 1)")
    rows = _rows(x)
    if rows is None and validation_split:
        _checks.fail(
            "validation_split", validation_split, "must be 0 unless x is arrays, as in fit"
        )
    if rows is None:
        batches = _batches(x, steps_per_epoch)
    else:
        # Keras's own rounding, in the precision in which it is asked.
        trained = math.floor(rows * (1.0 - validation_split)) if validation_split else rows
        if trained == 0 or (validation_split and trained == rows):
            _checks.fail(
                "validation_split", validation_split, f"must leave some of {rows} rows on each side"
            )
        if batch_size is None:  # Keras's own defaults
            batch_size = math.ceil(trained / steps_per_epoch) if steps_per_epoch else 32
        batches = math.ceil(trained / _checks.count("batch_size", batch_size))
    if steps_per_epoch is None:
        return epochs * batches
    if batches is None:
        return epochs * steps_per_epoch
    # One pass over the data takes several epochs, and the last of them may be short.
    passes, rest = divmod(epochs, math.ceil(batches / steps_per_epoch))
    return passes * batches + min(rest * steps_per_epoch, batches)


def _rows(x) -> int | None:
    """Rows of ``x`` if it is a number of rows or arrays, else None."""
    if isinstance(x, numbers.Real):
        return _checks.count("x", x)
    rows = set()
    for leaf in keras.tree.flatten(x):
        if leaf is not None:
            try:
                rows.add(int(leaf.shape[0]))
            except (AttributeError, TypeError, IndexError):  # no array, or a scalar
                return None
    if len(rows) > 1:
        _checks.fail("x", f"arrays of {sorted(rows)} rows", "must all have the same number of rows")
    if 0 in rows:
        _checks.fail("x", "arrays of 0 rows", "must have at least one row")
    return rows.pop() if rows else None


def _batches(x, steps_per_epoch: int | None) -> int | None:
    """Batches in one pass over the data set ``x``; None if they do not end, or are not known."""
    batches, why = None, "does not end"
    if isinstance(x, keras.utils.PyDataset):
        try:
            batches = x.num_batches
        except NotImplementedError:
            _checks.fail(
                "x", type(x).__name__, "must define __len__ or num_batches, as fit needs it"
            )
    elif isinstance(x, types.GeneratorType):
        why = "does not tell how many batches it has"
    elif hasattr(x, "element_spec") and hasattr(x, "cardinality"):  # tf.data
        batches = int(x.cardinality() if callable(x.cardinality) else x.cardinality)
        if batches == -2:
            why = (
                "does not tell how many batches it has (or tell it: "
                "dataset.apply(tf.data.experimental.assert_cardinality(batches)))"
            )
        batches = None if batches < 0 else batches  # -1: infinite, -2: unknown
    else:
        _checks.fail(
            "x",
            x if x is None or isinstance(x, str) else f"a {type(x).__name__}",
            "must be arrays, a number of rows, a tf.data.Dataset, a PyDataset or a generator",
        )
    if batches is not None:
        return _checks.count("number of batches in x", batches)
    if steps_per_epoch is None:
        _checks.fail("steps_per_epoch", None, f"must be given with a {type(x).__name__} that {why}")
    return None
