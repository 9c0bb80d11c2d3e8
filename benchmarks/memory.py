"""Peak memory of the many-run trainer, as the number of runs grows.

    python benchmarks/memory.py [--runs 64 512 4096] [--width 1000]

A layer of ``width`` x ``width`` weights (a million) is trained for a few steps on little data,
each run with a seed, and so initial weights, of its own. Every number of runs has a process of
its own: the peak is what the system counts as resident. Memory is bounded if it does not grow
with the runs.
"""

import argparse
import resource
import subprocess
import sys
import time

from anneal_utils import problems, training

import keras
import numpy as np


def problem_of(width: int) -> problems.Problem:
    """Two steps of eight samples on a square layer without bias."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 16, width)).astype("float32")

    def build():
        return keras.Sequential([keras.Input((width,)), keras.layers.Dense(width, use_bias=False)])

    return problems.Problem(
        "square", build, x, y, x[:8], y[:8], "mse", batch_size=8, epochs=1, chance_loss=1.0,
        metrics=(),
    )  # fmt: skip


def peak() -> float:
    """MB that this process had resident at most (on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(count: int, width: int) -> None:
    """Train ``count`` runs in this process, and print what that took."""
    problem = problem_of(width)
    training.train(problem, training.grid(["cosine"], [0.1], [0]), progress=False)
    before, start = peak(), time.perf_counter()
    training.train(problem, training.grid(["cosine"], [0.1], range(1, count + 1)), progress=False)
    seconds = time.perf_counter() - start
    print(
        f"{count} runs: peak {peak():.0f} MB, after the first run {before:.0f} MB; "
        f"{1000 * seconds / count:.1f} ms a run",
        flush=True,
    )


def main() -> None:
    """Print the peak for each number of runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[64, 512, 4096])
    parser.add_argument("--width", type=int, default=1000, help="of the layer, in and out")
    parser.add_argument("--here", action="store_true", help="in this process, one after another")
    options = parser.parse_args()
    for count in options.runs:
        if options.here:
            measure(count, options.width)
        else:
            settings = ["--here", "--runs", str(count), "--width", str(options.width)]
            subprocess.run([sys.executable, __file__, *settings], check=True)


if __name__ == "__main__":
    main()
