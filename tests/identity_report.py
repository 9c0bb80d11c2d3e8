"""A zoo of programs and their names; run as a script, it tells another process's, as JSON.

The tests of identity import it, and ask it in processes of another history, with other settings.
"""

import json
import os
import sys

if "tensorflow first" in sys.argv:
    import tensorflow  # noqa: F401

from anneal_utils import identity, optimizers, problems, training
from anneal_utils.training.program import program_of

import keras
import numpy as np
import tensorflow as tf
from small import TOKENS
from small_identity import IMAGES, TARGETS, one, tiny

if "threads" in sys.argv:  # as many as there are anyhow, so that the bits are the same
    tf.config.threading.set_intra_op_parallelism_threads(training.cores())

L = keras.layers
SGD = keras.optimizers.SGD


class Asserting(L.Layer):
    """Its assertions would tell the names of what they have seen."""

    def call(self, x):
        tf.debugging.assert_equal(x, tf.identity(x, name=f"{NAMES or 'none'}_seen"))
        return tf.debugging.check_numerics(x, f"in {self.name}")


class Nested(L.Layer):
    """Functions in functions, a condition, and a gradient that is not the derivative."""

    @tf.function
    def twice(self, x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: 2 * x, lambda: 3 * x)

    def call(self, x):
        @tf.custom_gradient
        def sign(x):
            return tf.sign(x), lambda gradient: gradient / 2

        return sign(self.twice(x))


NAMES = ""  # what the layers of the zoo are called by


def zoo(*layers, size=(64,)):
    """A build function; the layers get other names in another process."""

    def build():
        made = [layer() for layer in layers]
        if NAMES:
            for number, layer in enumerate(made):
                layer.name = f"{NAMES}_{number}"
        model = keras.Sequential([keras.Input(size, name=NAMES or None), *made, L.Dense(3)])
        model.name = NAMES or model.name
        return model

    return build


def small():
    return L.Dense(4)


ZOO = {
    "shallow": lambda: problems.load("deep_mlp", depth=3),
    "transformer": lambda: problems.load("characters", blocks=1),
    "batch_norm": lambda: tiny(zoo(small, L.BatchNormalization, lambda: L.Dropout(0.5))),
    "gru": lambda: tiny(zoo(lambda: L.Embedding(20, 5), lambda: L.GRU(4), size=(6,)), TOKENS[:48]),
    "asserting": lambda: tiny(zoo(small, Asserting, Nested)),
}
OPTIMIZERS = {
    "momentum": lambda rate: SGD(rate, momentum=0.9),
    "clipped": lambda rate: keras.optimizers.AdamW(rate, global_clipnorm=0.1),
    "averaged": optimizers.AveragedAdamW,
}
PAIRS = [
    *(("article", "sgd"), ("digits", "momentum"), ("digits_cnn", "adam"), ("shallow", "sgd")),
    *(("transformer", "adam"), ("gru", "clipped"), ("asserting", "averaged")),
    *(("batch_norm", "schedulefreeadamw"), ("batch_norm", "adafactor"), ("batch_norm", "muon")),
]


def names_of(pairs) -> dict:
    """For each problem and optimizer: digest of the graph, of the program, and of a run."""
    found = {}
    for name, optimizer in pairs:
        problem = ZOO[name]() if name in ZOO else problems.load(name)
        runs = one(OPTIMIZERS.get(optimizer, optimizer))
        program = program_of(problem, runs[0], problem.epochs, "auto")
        assert program.readable
        found[f"{name} {optimizer}"] = [identity.program(program.concrete), program.digest]
        if name not in ZOO and optimizer not in OPTIMIZERS:  # the others would be traced anew
            found[f"{name} {optimizer}"] += training.identities(problem, runs)
    return found


def bits() -> str:
    """Digest of numbers whose last bits depend on the kernels that computed them."""
    rng, found = np.random.default_rng(0), []
    for shapes, f in [
        ([(600, 600)] * 2, tf.matmul),
        ([(1000, 1000)] * 2, tf.matmul),
        ([(8, 16, 16, 8), (3, 3, 8, 8)], lambda x, y: tf.nn.conv2d(x, y, 1, "SAME")),
    ]:
        found.append(tf.function(f)(*(tf.constant(rng.normal(size=s), "float32") for s in shapes)))
    return identity.digest(found)


def report(*what):
    """What the tests ask of another process, as JSON on its last line."""
    global NAMES
    if "history" in what:
        NAMES = "other"
        training.train(ZOO["batch_norm"](), one(OPTIMIZERS["momentum"]), mode="graph")
        made = [L.Dense(3), keras.optimizers.Adam(), keras.losses.Huber(), L.BatchNormalization()]
        model = keras.Sequential([keras.Input((64,)), made[0]])
        model.compile("adam", "mse")
        model.train_on_batch(IMAGES, TARGETS)
        keras.backend.clear_session()
    pairs = PAIRS[::-1] if "history" in what else PAIRS[:1]
    found = {
        "names": names_of(pairs),
        "environment": identity.environment(),
        "inherited": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "bits": bits(),
    }
    if "later" in what:
        os.environ["XLA_FLAGS"] = "--xla_cpu_enable_fast_math=true"
        found["later"] = identity.environment()
        tf.config.optimizer.set_experimental_options({"constant_folding": False})
        found["optimized"] = identity.environment()
    print(json.dumps(found))


if __name__ == "__main__":
    report(*sys.argv[1:])
