"""What is known exactly: SGD on noisy quadratics and least squares, best rates, a bound.

NumPy, float64, no training: closed forms to hold measurements against. Taught in notebook 03.
"""

from anneal_utils import _checks

import numpy as np


def _rates(rates) -> np.ndarray:
    rates = np.asarray(rates, float)
    if rates.ndim < 1 or rates.shape[-1] < 1 or not (np.isfinite(rates) & (rates >= 0)).all():
        _checks.fail("rates", rates, "must be finite rates >= 0 with steps on the last axis")
    return rates


def _spectrum(curvature, noise, start, name="curvature"):
    curvature, noise, start = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(a, float)) for a in (curvature, noise, start))
    )
    if not (np.isfinite(curvature) & (curvature > 0)).all():
        _checks.fail(name, curvature.tolist(), "every entry must be finite and > 0")
    if not (np.isfinite(noise) & (noise >= 0)).all():
        _checks.fail("noise", noise.tolist(), "every entry must be finite and >= 0")
    return curvature, noise, start


def noisy_quadratic(rates, curvature=1.0, noise=1.0, start=1.0) -> np.ndarray:
    """Expected excess loss of SGD on a noisy bowl before each step and after the last.

    ``rates`` [..., steps]; ``curvature`` h, ``noise`` sigma (standard deviation of one gradient)
    and ``start`` theta_0: a number or one per direction. Returns [..., steps + 1]: the mean of
    0.5 sum_i h_i theta_i^2, from s <- (1 - rate h)^2 s + rate^2 sigma^2 with s = E[theta^2],
    which is exact for gradients with independent additive noise (Zhang et al. 2019,
    arXiv:1907.04164). ``ValueError`` for a rate below zero or a curvature that is not positive.
    """
    rates = _rates(rates)
    curvature, noise, start = _spectrum(curvature, noise, start)
    second = np.broadcast_to(start**2, (*rates.shape[:-1], len(curvature)))
    losses = [0.5 * second @ curvature]
    for step in range(rates.shape[-1]):
        rate = rates[..., step, None]
        with np.errstate(over="ignore"):  # beyond the edge the loss grows without bound
            second = (1 - rate * curvature) ** 2 * second + rate**2 * noise**2
            losses.append(0.5 * second @ curvature)
    return np.stack(losses, axis=-1)


def least_squares(rates, variances, start, noise=1.0, batch_size: int = 1) -> np.ndarray:
    """Expected excess loss of SGD on a stream of least squares, before each step and at the end.

    Each step sees ``batch_size`` new Gaussian inputs with ``variances`` v_i along their axes, and
    targets with noise of standard deviation ``noise``; its loss is the mean squared error.
    ``rates`` [..., steps]; ``start``: the error of the weights along each axis. Returns
    [..., steps + 1]: sum_i v_i s_i, the expected squared error without the noise, from

        s_i <- (1 - 2 g v_i + (1 + 1 / batch) (g v_i)^2) s_i + (g^2 v_i / batch) (v . s + noise^2)

    with g = 2 rate and s_i the mean squared error of weight i: exact, since the fourth moments of
    Gaussian inputs are E[x x' M x x'] = 2 V M V + V tr(V M), and no entry off the diagonal of M
    reaches the diagonal.
    """
    rates = _rates(rates)
    noise = _checks.number("noise", noise, low=0)
    batch_size = _checks.count("batch_size", batch_size)
    variances, _, start = _spectrum(variances, 0.0, start, name="variances")
    second = np.broadcast_to(start**2, (*rates.shape[:-1], len(variances)))
    losses = [second @ variances]
    for step in range(rates.shape[-1]):
        slope = 2 * rates[..., step, None]
        with np.errstate(over="ignore", invalid="ignore"):  # beyond the edge it has no bound
            spread = slope**2 * variances / batch_size * (losses[-1][..., None] + noise**2)
            own = 1 - 2 * slope * variances + (1 + 1 / batch_size) * (slope * variances) ** 2
            second = own * second + spread
            losses.append(second @ variances)
    return np.stack(losses, axis=-1)


def best_rates_of_one_direction(steps: int, curvature=1.0, noise=1.0, start=1.0) -> np.ndarray:
    """The rates [steps] that minimise the expected loss of one noisy direction, at every horizon.

    The best single step is rate = h s / (h^2 s + sigma^2); a smaller s is better for whatever
    follows, so the greedy choice is optimal. Solving the recursion gives
    1 / (h (t + 1 + sigma^2 / (h theta_0)^2)): the classical 1/t (Robbins & Monro 1951).
    """
    steps = _checks.count("steps", steps)
    curvature = _checks.positive("curvature", curvature)
    noise, start = _checks.positive("noise", noise), _checks.number("start", start)
    if start == 0:
        _checks.fail("start", start, "must not be the minimum")
    return 1 / (curvature * (np.arange(1, steps + 1) + (noise / (curvature * start)) ** 2))


def best_rates(steps: int, curvature, noise, start=1.0) -> np.ndarray:
    """Rates [steps] that minimise the expected *final* loss over all directions, numerically.

    L-BFGS on the logarithm of the rates with the exact gradient of the moment recursion,
    started from a constant and from a decaying table; the better end is returned. Rates are kept
    below the edge of the steepest direction, 2 / max(h). There is no closed form for several
    directions. At most a few hundred steps are practical.
    """
    from scipy.optimize import minimize

    steps = _checks.count("steps", steps)
    curvature, noise, start = _spectrum(curvature, noise, start)

    def value_and_gradient(logs):
        rates, seconds = np.exp(logs), [start**2]
        for rate in rates:
            seconds.append((1 - rate * curvature) ** 2 * seconds[-1] + rate**2 * noise**2)
        value = 0.5 * curvature @ seconds[-1]
        adjoint, gradient = 0.5 * curvature / value, np.empty(steps)  # of log(value)
        for step in range(steps - 1, -1, -1):
            rate, s = rates[step], seconds[step]
            slope = -2 * curvature * (1 - rate * curvature) * s + 2 * rate * noise**2
            gradient[step] = rate * (adjoint @ slope)
            adjoint = adjoint * (1 - rate * curvature) ** 2
        return np.log(value), gradient

    edge = 1 / curvature.max()
    starts = (np.full(steps, edge), edge / (1 + np.arange(steps) / (1 + steps / 10)))
    bounds = [(np.log(edge * 1e-6), np.log(2 * edge))] * steps
    ends = [
        minimize(
            value_and_gradient,
            np.log(0.5 * table),
            jac=True,
            bounds=bounds,
            method="L-BFGS-B",
            options={"maxiter": 2000, "maxfun": 4000},
        )
        for table in starts
    ]
    return np.exp(min(ends, key=lambda end: end.fun).x)


def last_iterate_bound(rates, distance=1.0, gradient=1.0) -> np.ndarray:
    """Upper bound on the final loss gap of (sub)gradient descent on any convex function.

    ``rates`` [..., steps] > 0, ``distance`` D from the start to a minimiser, ``gradient`` G the
    largest (expected) gradient norm. Returns [...]. From Defazio et al. 2023 (arXiv:2310.07831),
    as in Schaipp et al. 2025 (arXiv:2501.18965):

        (D^2 + G^2 sum rate^2) / (2 sum rate)
        + 1/2 sum_{k < T} rate_k / tail_{k+1} * G^2 (sum_{t >= k} rate_t^2) / tail_k

    with tail_k the sum of the rates from step k to the last.
    """
    rates = _rates(rates)
    if not (rates > 0).all():
        _checks.fail("rates", float(rates.min()), "every rate must be > 0 (leave a last zero out)")
    distance, gradient = (
        _checks.positive("distance", distance),
        _checks.positive("gradient", gradient),
    )
    tail = np.cumsum(rates[..., ::-1], axis=-1)[..., ::-1]
    squares = np.cumsum(rates[..., ::-1] ** 2, axis=-1)[..., ::-1]
    mean = (distance**2 + gradient**2 * squares[..., 0]) / (2 * tail[..., 0])
    last = rates[..., :-1] / tail[..., 1:] * squares[..., :-1] / tail[..., :-1]
    return mean + 0.5 * gradient**2 * last.sum(axis=-1)
