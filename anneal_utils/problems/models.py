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
        product = keras.ops.matmul(patches, kernel)
        return self.activation(product + self.bias if self.use_bias else product)


class MatmulConv1D(keras.layers.Conv1D):
    """Keras's ``Conv1D`` ("same", channels last, any stride) as shifted slices x matrix.

    As :class:`MatmulConv2D`: the same weights and numbers, many times as fast under XLA on a CPU.
    """

    def call(self, inputs):
        """Convolve ``inputs`` of shape [batch, length, channels]."""
        (size,), (stride,), length = self.kernel_size, self.strides, inputs.shape[1]
        places = -(-length // stride)
        missing = max((places - 1) * stride + size - length, 0)
        padded = keras.ops.pad(inputs, [(0, 0), (missing // 2, missing - missing // 2), (0, 0)])
        end = (places - 1) * stride + 1
        patches = [padded[:, i : i + end : stride] for i in range(size)]
        kernel = keras.ops.reshape(self.kernel, (-1, self.filters))
        product = keras.ops.matmul(keras.ops.concatenate(patches, axis=-1), kernel)
        return self.activation(product + self.bias if self.use_bias else product)


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


class RandomShift(keras.layers.Layer):
    """In training, moves each image by -1, 0 or 1 pixels down and across, zeros moving in.

    Sums of shifted copies, of which all but one are times 0: XLA has no fast gather on a CPU.
    """

    def __init__(self, seed: int | None = None, **kwargs):
        """``seed`` of the moves; None: drawn as for any layer, so that it follows a run's seed."""
        super().__init__(**kwargs)
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, inputs, training=False):
        """Move the images ``inputs``, of shape [batch, height, width, channels]."""
        if not training:
            return inputs
        moves = keras.random.randint((2, keras.ops.shape(inputs)[0]), 0, 3, seed=self.generator)
        moves = keras.ops.one_hot(moves, 3, dtype=inputs.dtype)[..., None, None, None]
        height, width = inputs.shape[1:3]
        x = keras.ops.pad(inputs, [(0, 0), (1, 1), (1, 1), (0, 0)])
        x = sum(moves[0, :, i] * x[:, i : i + height] for i in range(3))
        return sum(moves[1, :, i] * x[:, :, i : i + width] for i in range(3))

    def get_config(self):
        """Configuration for saving."""
        return {**super().get_config(), "seed": self.seed}


def residual(stem: int, filters: int, blocks: int) -> keras.Model:
    """A residual network for 8 x 8 pixels that are moved at random, normalised over batches.

    A convolution with ``stem`` filters and a pooling, one with ``filters``, then ``blocks`` of
    two convolutions each.
    """
    layers = keras.layers

    def convolved(x, width):
        x = MatmulConv2D(width, 3, padding="same", use_bias=False)(x)
        # Keras's 0.99 averages over more steps than such a short training can wait for.
        return layers.BatchNormalization(momentum=0.9)(x)

    pixels = keras.Input((64,))
    x = RandomShift()(layers.Reshape((8, 8, 1))(pixels))
    x = layers.ReLU()(convolved(x, stem))
    # MaxPooling2D of 2 x 2 pixels, whose gradient XLA is slow at.
    x = keras.ops.max(layers.Reshape((4, 2, 4, 2, stem))(x), axis=(2, 4))
    x = layers.ReLU()(convolved(x, filters))
    for _ in range(blocks):
        inner = layers.ReLU()(convolved(x, filters))
        x = layers.ReLU()(x + convolved(inner, filters))
    return keras.Model(pixels, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def continued(hidden: tuple, outputs: int) -> keras.Model:
    """Dense layers with ReLU that start from the pairs (kernel, bias) in ``hidden``, and a new one.

    The layers are trained on; only the last one's start follows the seed.
    """
    constant = keras.initializers.Constant
    layers = [
        keras.layers.Dense(
            len(bias),
            activation="relu",
            kernel_initializer=constant(kernel),
            bias_initializer=constant(bias),
        )
        for kernel, bias in hidden
    ]
    inputs = keras.Input(hidden[0][0].shape[:1])
    return keras.Sequential([inputs, *layers, keras.layers.Dense(outputs)])


def cnn_1d(length: int, filters: int, outputs: int) -> keras.Model:
    """Three convolutions with stride 2 (5, 3 and 3 places wide), and a dense layer."""
    return keras.Sequential(
        [
            keras.Input((length,)),
            keras.layers.Reshape((length, 1)),
            *(
                MatmulConv1D(filters, size, strides=2, padding="same", activation="relu")
                for size in (5, 3, 3)
            ),
            keras.layers.Flatten(),
            keras.layers.Dense(outputs),
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
