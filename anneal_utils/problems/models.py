"""The networks of the built-in problems, and the layers that Keras lacks for them."""

import keras


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
