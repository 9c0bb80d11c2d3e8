"""Each optimizer by name with settings that show it; the same training by ``fit`` and by hand."""

from anneal_utils.optimizers import SWATS, AdaBound, AveragedAdamW, HypergradientSGD, PolyakSGD

import keras
import numpy as np
import tensorflow as tf

K, L = keras.optimizers, keras.layers


# Rates so small, or a band so wide, that every rule shows and none explodes.
MAKERS = {
    "sgd": lambda rate=0.1, **k: K.SGD(rate, momentum=0.9, **k),
    "adam": lambda rate=0.02, **k: K.Adam(rate, epsilon=1e-3, **k),
    "adabound": lambda rate=0.02, **k: AdaBound(rate, gamma=0.5, epsilon=1e-3, **k),
    "swats": lambda rate=0.02, **k: SWATS(rate, tolerance=1e-2, epsilon=1e-3, **k),
    "polyak": lambda rate=0.1, **k: PolyakSGD(rate, **k),
    "hypergradient": lambda rate=0.05, **k: HypergradientSGD(rate, beta=1e-2, **k),
    "averaged": lambda rate=0.02, **k: AveragedAdamW(rate, epsilon=1e-3, **k),
}
CONTROLS = ("sgd", "adam")
WHOLE = ("swats", "polyak", "hypergradient")  # what they decide needs the whole gradient
ALONE = {
    **{name: {"gradient_accumulation_steps", "weight_decay"} for name in WHOLE},
    "averaged": {"use_ema"},
}
ALONE["polyak"] = ALONE["polyak"] | {"clipnorm", "clipvalue", "global_clipnorm"}
X = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
Y = np.tanh(X[:, :1] - X[:, 1:2]) + 0.1


def small(**policy):
    model = keras.Sequential(
        [keras.Input((3,), **policy), L.Dense(4, "tanh", **policy), L.Dense(1, **policy)]
    )
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=w.shape) * 0.5 for w in model.get_weights()])
    return model


def trained(optimizer, *, batch=8, epochs=2, fit=None, model=None, x=X, **compile_settings):
    """The weights after ``fit`` on batches in order."""
    model = model or small()
    model.compile(optimizer, "mse", **{"jit_compile": False, **compile_settings})
    settings = {"batch_size": batch, "epochs": epochs, "shuffle": False, "verbose": 0}
    model.fit(x, Y, **settings, **(fit or {}))
    return model.get_weights()


def by_hand(optimizer, change=lambda gradients: gradients, *, model=None, x=X, watch=None):
    """The same training in a loop of one's own, with the gradients ``change``d in NumPy."""
    model = model or small()
    optimizer.build(model.trainable_variables)
    for _ in range(2):
        for i in range(0, 32, 8):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((model(x[i : i + 8]) - Y[i : i + 8]) ** 2)
            gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
            optimizer.scale_loss(loss)
            gradients = [tf.convert_to_tensor(g).numpy() for g in gradients]
            optimizer.apply([np.float32(g) for g in change(gradients)], model.trainable_variables)
            if watch:
                watch(model)
    return model.get_weights()


def each_norm(g):
    return [x * min(1, 0.05 / np.linalg.norm(x)) for x in g]


def all_norm(g):
    return [x * min(1, 0.05 / np.sqrt(sum((y**2).sum() for y in g))) for x in g]


def each_value(g):
    return [np.clip(x, -0.02, 0.02) for x in g]


CLIPPED = {
    "clipnorm": (0.05, each_norm),
    "global_clipnorm": (0.05, all_norm),
    "clipvalue": (0.02, each_value),
}


REFUSED = {
    "gradient_accumulation_steps": 2,
    "weight_decay": 0.1,
    "use_ema": True,
    **{argument: value for argument, (value, _) in CLIPPED.items()},
    "amsgrad": True,
    "momentum": 0.5,
    "nesterov": True,
}
