"""The networks of the built-in problems, and the layers that Keras lacks for them."""

import keras
import numpy as np


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int, **last) -> keras.Model:
    """Dense layers with ReLU, and a dense one with the arguments ``last`` at the end."""
    layers = [keras.layers.Dense(width, activation="relu") for width in hidden]
    return keras.Sequential([keras.Input((inputs,)), *layers, keras.layers.Dense(outputs, **last)])


def linear(size: int, outputs: int = 1) -> keras.Model:
    """One matrix, from zero."""
    layer = keras.layers.Dense(outputs, use_bias=False, kernel_initializer="zeros")
    return keras.Sequential([keras.Input((size,)), layer])


class MatmulConv2D(keras.layers.Conv2D):
    """Keras's ``Conv2D`` (stride 1, "same", channels last) computed as shifted slices x matrix.

    The same weights and, up to rounding, the same numbers. On a CPU, inside a compiled training
    loop, XLA's own convolution is many times slower than this matrix product.
    """

    def call(self, inputs):
        """Convolve ``inputs`` of shape [batch, height, width, channels]."""
        height, width = self.kernel_size
        pad = [((size - 1) // 2, size // 2) for size in (height, width)]
        padded = keras.ops.pad(inputs, [(0, 0), *pad, (0, 0)])
        rows, columns = inputs.shape[1:3]
        patches = keras.ops.concatenate(
            [padded[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)],
            axis=-1,
        )
        kernel = keras.ops.reshape(self.kernel, (-1, self.filters))
        return self.activation(keras.ops.matmul(patches, kernel) + self.bias)


def cnn() -> keras.Model:
    """Two convolutions of 8 x 8 pixels, each with pooling, and a dense layer."""
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Reshape((8, 8, 1)),
            MatmulConv2D(16, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            MatmulConv2D(32, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


class Offset(keras.layers.Layer):
    """One trainable point ``theta``; the output for a sample ``x`` is ``theta - x``."""

    def __init__(self, start, **kwargs):
        """Start from the point ``start``, a sequence of numbers."""
        super().__init__(**kwargs)
        self.start = [float(value) for value in start]

    def build(self, shape):
        """Create ``theta``."""
        start = keras.ops.convert_to_tensor(self.start, "float32")
        self.theta = self.add_weight(
            shape=(len(self.start),), initializer=lambda shape, dtype=None: start, name="theta"
        )

    def call(self, inputs):
        """``theta - x`` for every row of ``inputs``."""
        return self.theta - inputs

    def get_config(self):
        """Configuration for saving."""
        return {**super().get_config(), "start": self.start}


def point(start) -> keras.Model:
    """A trainable point that begins at ``start``."""
    return keras.Sequential([keras.Input((len(start),)), Offset(start)])


class Waves(keras.layers.Layer):
    """Cosines and sines of random combinations of the inputs, which are not trained.

    ``cos(2 pi x B)`` beside ``sin(2 pi x B)``, the entries of B Gaussian of standard deviation
    ``scale`` and drawn from ``seed``: the Fourier features of Tancik et al. 2020
    (arXiv:2006.10739).
    """

    def __init__(self, features, scale, seed, **kwargs):
        """``features`` columns in B."""
        super().__init__(**kwargs)
        self.features, self.scale, self.seed = features, scale, seed

    def call(self, inputs):
        """Waves [batch, 2 features] at the places [batch, coordinates]."""
        rng = np.random.default_rng(self.seed)
        directions = self.scale * rng.standard_normal((inputs.shape[-1], self.features))
        turns = keras.ops.matmul(inputs, (2 * np.pi * directions).astype("float32"))
        return keras.ops.concatenate([keras.ops.cos(turns), keras.ops.sin(turns)], axis=-1)

    def get_config(self):
        """Configuration for saving."""
        own = {"features": self.features, "scale": self.scale, "seed": self.seed}
        return {**super().get_config(), **own}


def coordinates(features: int, scale: float, hidden: tuple[int, ...], seed: int) -> keras.Model:
    """From a place in the plane to three numbers, by way of ``Waves``."""
    layers = [keras.layers.Dense(width, activation="relu") for width in hidden]
    last = keras.layers.Dense(3)
    return keras.Sequential([keras.Input((2,)), Waves(features, scale, seed), *layers, last])


class Places(keras.layers.Layer):
    """Adds a trainable vector to each place of ``[batch, length, width]``."""

    def __init__(self, **kwargs):
        """Vectors begin Gaussian with standard deviation 0.5."""
        super().__init__(**kwargs)
        self.initializer = keras.initializers.RandomNormal(stddev=0.5)

    def build(self, shape):
        """Create the vectors."""
        self.places = self.add_weight(shape[1:], self.initializer, name="places")

    def call(self, inputs):
        """The inputs, each with its place's vector."""
        return inputs + self.places


def transformer(symbols: int, length: int, width: int, blocks: int) -> keras.Model:
    """Causal, normalised after each sum as in Vaswani et al. 2017; no output for place 0."""
    layers = keras.layers
    start = keras.initializers.RandomNormal(stddev=0.5)
    text = keras.Input((length,), dtype="int32")
    x = layers.Embedding(symbols, width, embeddings_initializer=start)(text)
    x = Places()(x)
    for block in range(blocks):
        # One head, from plain layers: the kernels of MultiHeadAttention get their gradients, under
        # XLA, as one product for each window and a sum over the windows, which takes longer.
        query, value, key = (
            layers.Dense(width, name=f"{part}_{block}")(x) for part in ("query", "value", "key")
        )
        query = layers.Rescaling(width**-0.5)(query)
        seen = layers.Attention()([query, value, key], use_causal_mask=True)
        x = layers.LayerNormalization()(x + layers.Dense(width)(seen))
        thought = layers.Dense(4 * width, activation="relu")(x)
        x = layers.LayerNormalization()(x + layers.Dense(width)(thought))
    return keras.Model(text, layers.Dense(symbols)(x[:, 1:]))


def reader(symbols: int, length: int, context: int, size: int, width: int) -> keras.Model:
    """The next symbol from the ``context`` last ones, at each place that has so many before it.

    As Bengio et al. 2003 (JMLR 3, 1137-1155): a vector of ``size`` numbers for each symbol, those
    of the context side by side, a layer of ``width`` units, and a score for each symbol.
    """
    start = keras.initializers.RandomNormal(stddev=0.5)
    text = keras.Input((length,), dtype="int32")
    x = keras.layers.Embedding(symbols, size, embeddings_initializer=start)(text)
    places = length - context + 1
    seen = keras.layers.Concatenate()([x[:, i : i + places] for i in range(context)])
    hidden = keras.layers.Dense(width, activation="relu")(seen)
    return keras.Model(text, keras.layers.Dense(symbols)(hidden))
