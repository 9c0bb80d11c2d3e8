"""Hidden layers of a network that was trained before, on other classes."""

import itertools

from anneal_utils.problems.catalogue import DATA_SEED

import numpy as np

PASSES, RATE, MOMENTUM = 6, 0.05, 0.9
BATCH = 64  # products of so few rows start no threads, which would take longer than the work
DECIMALS = 3


def hidden_layers(x: np.ndarray, y: np.ndarray, widths: tuple[int, ...]) -> list[tuple]:
    """Pairs (kernel, bias), float32, of an MLP with ReLU that was trained on ``x`` and ``y``.

    Gradient descent with momentum on the cross-entropy, from He's initial weights, in float64.
    Its few steps are far more exact than the ``DECIMALS`` to which the weights are rounded: so
    they are the same bits on every machine.
    """
    layers = trained(x, y, widths)[:-1]
    return [tuple(np.round(part, DECIMALS).astype("float32") for part in layer) for layer in layers]


def trained(x: np.ndarray, y: np.ndarray, widths: tuple[int, ...]) -> list[list[np.ndarray]]:
    """Kernel and bias of every layer after the training, the output's too, float64."""
    rng = np.random.default_rng([DATA_SEED, 1])  # another stream than the data's
    x, target = x.astype("float64"), np.eye(y.max() + 1)[y]
    sizes = (x.shape[1], *widths, target.shape[1])
    layers = [
        [rng.normal(0, np.sqrt(2 / rows), (rows, columns)), np.zeros(columns)]
        for rows, columns in itertools.pairwise(sizes)
    ]
    speeds = [[np.zeros_like(part) for part in layer] for layer in layers]
    for _ in range(PASSES):
        order = rng.permutation(len(x))
        for rows in np.split(order, range(BATCH, len(x), BATCH)):
            slopes = _gradient(layers, x[rows], target[rows])
            for layer, speed, slope in zip(layers, speeds, slopes, strict=True):
                for i in range(2):
                    speed[i] = MOMENTUM * speed[i] - RATE * slope[i]
                    layer[i] = layer[i] + speed[i]
    return layers


def _gradient(layers, x, target) -> list[tuple[np.ndarray, np.ndarray]]:
    """The gradient of the mean cross-entropy of the softmax, layer by layer."""
    seen = [x]
    for kernel, bias in layers:
        seen.append(np.maximum(seen[-1] @ kernel + bias, 0))
    kernel, bias = layers[-1]
    output = seen[-2] @ kernel + bias
    shares = np.exp(output - output.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    error = (shares - target) / len(x)
    found = []
    for (kernel, _), inputs in zip(layers[::-1], seen[-2::-1], strict=True):
        found.append((inputs.T @ error, error.sum(axis=0)))
        error = (error @ kernel.T) * (inputs > 0)
    return found[::-1]
