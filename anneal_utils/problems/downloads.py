"""Two published sets of images: fetched when asked for, and verified by hash."""

import functools
import gzip
import hashlib
import os
import pickle
import tarfile
from pathlib import Path

from anneal_utils import _places
from anneal_utils.problems import models
from anneal_utils.problems.catalogue import SPLITS, register
from anneal_utils.problems.problem import Problem

import keras
import numpy as np

CACHE = _places.caches()
_FASHION = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"


def _matches(path: Path, digest: str) -> bool:
    """Whether the file has this MD5 (32 digits) or SHA-256 (64)."""
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, "md5" if len(digest) == 32 else "sha256")
    return found.hexdigest() == digest


def _fetch(origin: str, file: str, digest: str, download: bool) -> Path:
    """The verified file ``data/cache/<file>``; fetched only if ``download``."""
    path = CACHE / file
    if not path.exists() and not download:
        raise FileNotFoundError(
            f"{file} is not in data/cache: call problems.load(…, download=True) once, with a "
            f"network, or put the file from {origin} there."
        )
    partial = path.with_suffix(path.suffix + f".{os.getpid()}.part")
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        try:
            keras.utils.get_file(partial.name, origin + file, cache_dir=str(CACHE), cache_subdir="")
            if not _matches(partial, digest):
                raise OSError(
                    f"{file} from {origin} does not have the expected hash; nothing was kept."
                )
            partial.replace(path)
        except OSError:
            raise
        except Exception as error:  # Keras wraps whatever the network says
            raise OSError(
                f"{file} could not be downloaded from {origin} ({error}): check the network, or "
                "put the file into data/cache by hand."
            ) from error
        finally:
            partial.unlink(missing_ok=True)
    if not _matches(path, digest):
        raise OSError(f"data/cache/{file} is damaged (wrong hash): delete it and load again.")
    return path


_FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}


@register("fashion_mnist")
def fashion_mnist(download: bool = False) -> Problem:
    """Fashion-MNIST (Xiao, Rasul & Vollgraf 2017), 30 MB, opt-in: an MLP 784-128-10.

    10,000 training and 5,000 tuning images of the published training set, divided in ``SPLITS``
    ways, and the first 5,000 of its test set; pixels in [0, 1]. Fetched once into ``data/cache``
    when ``download`` is true, checked against the published MD5 sums.
    """
    arrays = []
    for file, digest in _FASHION_FILES.items():
        header = 16 if "images" in file else 8
        with gzip.open(_fetch(_FASHION, file, digest, download)) as stream:
            arrays.append(np.frombuffer(stream.read(), np.uint8, offset=header))
    pixels = [(a.reshape(-1, 784) / 255).astype("float32") for a in arrays[::2]]
    labels = [a.astype("int32") for a in arrays[1::2]]
    return _images("fashion_mnist", 784, pixels[0], labels[0], pixels[1], labels[1])


@register("cifar10")
def cifar10(download: bool = False) -> Problem:
    """CIFAR-10 (Krizhevsky 2009), 170 MB, opt-in: an MLP 3072-128-10.

    10,000 training and 5,000 tuning images of the published training set, divided in ``SPLITS``
    ways, and the first 5,000 of its test set; pixels in [0, 1]. Fetched once into ``data/cache``
    when ``download`` is true, checked against the SHA-256 that Keras records.
    """
    digest = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
    parts = {}
    with tarfile.open(_fetch(_CIFAR, "cifar-10-python.tar.gz", digest, download)) as archive:
        for part in ("data_batch_1", "data_batch_2", "test_batch"):
            # The archive's hash was verified above, so the pickle is the published one.
            batch = archive.extractfile(f"cifar-10-batches-py/{part}")
            content = pickle.load(batch, encoding="bytes")
            parts[part] = (
                (content[b"data"] / 255).astype("float32"),
                np.array(content[b"labels"], "int32"),
            )
    train = map(np.concatenate, zip(parts["data_batch_1"], parts["data_batch_2"], strict=True))
    return _images("cifar10", 3072, *train, *parts["test_batch"])


def _images(name, size, x, y, x_test, y_test) -> Problem:
    return Problem(
        name,
        functools.partial(models.mlp, size, (128,), 10),
        *(x[:10_000], y[:10_000], x[10_000:15_000], y[10_000:15_000]),
        x_test=x_test[:5000],
        y_test=y_test[:5000],
        splits=SPLITS,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=64,
        epochs=20,
        chance_loss=float(np.log(10)),
    )
