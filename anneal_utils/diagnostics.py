"""What the loss surface and the steps look like along a training, measured.

Taught in notebooks 01 and 06.
"""

import functools

from anneal_utils import _needs

if missing := _needs.tensorflow("anneal_utils.diagnostics"):
    raise ImportError(missing)

from anneal_utils import _checks
from anneal_utils.problems import Problem

import numpy as np
import tensorflow as tf
from scipy.sparse.linalg import LinearOperator, eigsh


def sharpness(problem: Problem, weights=None, *, samples: int | None = None) -> float:
    """Largest eigenvalue of the Hessian of the training loss, in loss per squared weight.

    ``weights``: as ``model.get_weights()`` or ``train(..., return_weights=True)`` give them;
    default, those of a new model. ``samples``: only the first so many training samples (default:
    all). Lanczos iteration (SciPy's ``eigsh``) on Hessian-vector products, so the Hessian is
    never formed; relative error about 1e-4. Gradient descent on a bowl is stable below the rate
    2 / sharpness. Layers run as in training, dropout off. ``ValueError`` for weights of another
    model or that are not finite.
    """
    count = problem.samples("train") if samples is None else _checks.count("samples", samples)
    model, product, total = _hessian(problem, count)
    if weights is None:
        weights = problem.build().get_weights()
    else:
        shapes = [tuple(w.shape) for w in model.weights]
        if [np.shape(w) for w in weights] != shapes:
            found = [np.shape(w) for w in weights]
            _checks.fail("weights", found, f"must have the shapes {shapes} of {problem.name}")
        if not all(np.isfinite(w).all() for w in weights):
            _checks.fail("weights", "not finite", "a diverged run has no sharpness")
    model.set_weights(weights)
    if total == 1:
        return float(product(tf.ones(1))[0])
    operator = LinearOperator(
        (total, total), lambda v: product(tf.constant(v.ravel(), tf.float32)).numpy(), dtype="f4"
    )
    start = np.random.default_rng(0).standard_normal(total).astype("float32")
    # "LA": the largest, not the largest in size: a saddle's negative curvature is another thing.
    return float(eigsh(operator, k=1, which="LA", v0=start, tol=1e-4, return_eigenvectors=False)[0])


@functools.lru_cache(maxsize=4)  # one trace serves a whole training
def _hessian(problem: Problem, count: int):
    """(model, function from a vector to Hessian x vector, number of parameters)."""
    model = problem.build()
    first = tf.nest.map_structure(
        lambda array: None if array is None else tf.constant(array[:count]), problem.part("train")
    )
    x, y, weight = (*first, None)[:3]
    model.compile(loss=problem.loss, loss_weights=problem.loss_weights)
    variables = [v.value for v in model.trainable_variables]  # tf.Variables: set in place
    sizes = [int(np.prod(v.shape)) for v in variables]

    @tf.function(autograph=False)
    def product(vector):
        """Hessian times ``vector`` [parameters]: the gradient of <gradient, vector>."""
        parts = [
            tf.reshape(part, v.shape)
            for part, v in zip(tf.split(vector, sizes), variables, strict=True)
        ]
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                answer = model(x, training=False)
                loss = model.compute_loss(x=x, y=y, y_pred=answer, sample_weight=weight)
            gradients = inner.gradient(loss, variables)
            along = tf.add_n([tf.reduce_sum(g * p) for g, p in zip(gradients, parts, strict=True)])
        return tf.concat([tf.reshape(g, [-1]) for g in outer.gradient(along, variables)], 0)

    return model, product, sum(sizes)


def update_ratio(before, after) -> np.ndarray:
    """Size of an update over the size of the weights, for each array: |after - before| / |before|.

    ``before`` and ``after``: weights as ``model.get_weights()`` gives them. Euclidean norms; no
    unit. NaN for an array that is zero before, such as a new bias. ``ValueError`` for lists of
    different shapes. Notebook 06.
    """
    shapes = [[np.shape(w) for w in weights] for weights in (before, after)]
    if shapes[0] != shapes[1]:
        _checks.fail("after", shapes[1], f"must have the shapes {shapes[0]} of before")
    sizes = np.array([np.linalg.norm(old) for old in before])
    moved = np.array([np.linalg.norm(new - old) for old, new in zip(before, after, strict=True)])
    return np.divide(moved, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)
