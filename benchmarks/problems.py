"""Speed of the many-run trainer on each problem of the benchmark's plan, as shares and ratios.

    python benchmarks/problems.py [--problem digits health] [--seconds 4 | --runs 200] [--fit]

Runs are as in the plan's trials, at the problem's own horizon: every three share a table of rates,
which is new, and differ in their seeds. Programs are compiled before, and the store is off. The
rest of the threads' time, beside the programs', is what Python does: tables, starts, identities,
frames. A network of dense layers alone is also held against two rates of products that this process
reaches with all cores busy, one product a core: large ones, and those of the network's own shapes
in a compiled loop, since small products can not be as fast. Of other numbers, times are the
machine's, and upper bounds where it has other work.
"""

import argparse
import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from anneal_utils import headless, optimizers, problems, training
from anneal_utils.benchmark import Plan
from anneal_utils.benchmark.entrants import problem_of
from anneal_utils.training.program import program_of

import keras
import numpy as np
import tensorflow as tf
from tqdm.auto import tqdm

FIRST_SEED = 50_000  # far from those of the benchmark
LARGE = 1024  # rows and columns of a large product
STEPS = 2000  # of the compiled loop


def usual_peak(optimizer: str) -> float:
    """The middle of the peaks that the benchmark tries first."""
    return optimizers.catalogue.registry.entry(optimizer).facts["centre"]


def runs_of(optimizer: str, count: int) -> list[training.Run]:
    """At least ``count`` runs: three seeds for each of many peaks, close to the usual one."""
    usual = usual_peak(optimizer)
    peaks = usual * np.geomspace(0.5, 1.0, -(-count // 3))
    seeds = range(FIRST_SEED, FIRST_SEED + 3)
    return training.grid(["linear"], peaks.tolist(), seeds, optimizer, warmup=0.1)


@contextlib.contextmanager
def timed_calls(program) -> Iterator[list[float]]:
    """Seconds of every call of the compiled program inside the block, from whatever thread."""
    seconds, call = [], program.call

    def timed(*arguments):
        start = time.perf_counter()
        try:
            return call(*arguments)
        finally:
            seconds.append(time.perf_counter() - start)

    program.call = timed
    try:
        yield seconds
    finally:
        del program.call


def measure(problem: problems.Problem, optimizer: str, count: int) -> tuple[float, float]:
    """(seconds a run when all are trained at once, share of the threads' time in programs)."""
    cores, runs = training.cores(), runs_of(optimizer, count)
    given = dict(progress=False, store=False)
    # Compiles, and gives each thread its variables; by other rates and seeds, which are remembered.
    seeds = range(FIRST_SEED - 4 * cores, FIRST_SEED)
    others = training.grid(["constant"], usual_peak(optimizer), seeds, optimizer)
    training.train(problem, others, **given)
    with timed_calls(program_of(problem, runs[0], problem.epochs, "auto")) as inside:
        start = time.perf_counter()
        training.train(problem, runs, **given)
        seconds = time.perf_counter() - start
    return seconds / len(inside), sum(inside) / (cores * seconds)


def dense_shapes(problem: problems.Problem) -> list[tuple[int, int]]:
    """(in, out) of every layer, or nothing unless all are dense, trained, and of rows of data."""
    shapes = []
    for layer in problem.build().layers:
        if type(layer) is keras.layers.Dense and layer.trainable and layer.input.ndim == 2:
            shapes.append(tuple(layer.kernel.shape))
        elif type(layer) is not keras.layers.InputLayer:
            return []
    return shapes


def operations(problem: problems.Problem, shapes: list[tuple[int, int]]) -> float:
    """Floating-point operations of a run's products: 2 m n k each.

    A step has three for each layer, but nobody asks for the gradient of the data; an evaluation
    has one.
    """
    each = [2 * rows * columns for rows, columns in shapes]
    step = problem.batch_size * (3 * sum(each) - each[0])
    evaluated = problem.epochs * problem.samples("val") + problem.samples("test")
    return problem.epochs * problem.steps_per_epoch * step + evaluated * sum(each)


def rate_of(work: Callable, operations_each: float, seconds: float = 1.0) -> float:
    """Operations a second, at most, of one ``work()`` a core at a time."""
    cores = training.cores()

    def until(end: float) -> int:
        count = 0
        while time.perf_counter() < end:
            work()
            count += 1
        return count

    work()
    rates = []
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(3):
            start = time.perf_counter()
            done = sum(pool.map(until, [start + seconds / 3] * cores))
            rates.append(done * operations_each / (time.perf_counter() - start))
    return max(rates)


def rate_of_large_products() -> float:
    """Operations a second of square products in single precision."""
    matrix = tf.random.stateless_uniform((LARGE, LARGE), (0, 0))
    return rate_of(lambda: tf.linalg.matmul(matrix, matrix).numpy(), 2 * LARGE**3)


def rate_of_own_products(batch: int, shapes: list[tuple[int, int]]) -> float:
    """Operations a second of a step's products and nothing else: forward, and both gradients."""
    # Others in each step of the loop, or they would be computed once before it.
    inputs = [tf.random.stateless_uniform((8, batch, rows), (0, 0)) for rows, _ in shapes]
    kernels = [tf.random.stateless_uniform(shape, (0, 1)) for shape in shapes]

    def products(step):
        found = []
        for place, (x, kernel) in enumerate(zip(inputs, kernels, strict=True)):
            x = tf.gather(x, step % 8)
            y = tf.linalg.matmul(x, kernel)
            found += [y, tf.linalg.matmul(x, y, transpose_a=True)]
            if place:  # as in training, not for the data
                found.append(tf.linalg.matmul(y, kernel, transpose_b=True))
        return found

    @tf.function(jit_compile=True, autograph=False)
    def loop():
        def body(step, *_):
            return step + 1, *products(step)

        first = [tf.zeros_like(value) for value in products(tf.constant(0))]
        return tf.while_loop(lambda step, *_: step < STEPS, body, (tf.constant(0), *first))

    each = [2 * batch * rows * columns for rows, columns in shapes]
    return rate_of(lambda: loop()[1].numpy(), STEPS * (3 * sum(each) - each[0]))


def seconds_of_fit(problem: problems.Problem, optimizer: str) -> float:
    """Seconds of one of two runs by plain Keras ``fit``, each with a fresh model."""
    seconds = []
    for run in runs_of(optimizer, 2)[:2]:
        start = time.perf_counter()
        training.fit_one(problem, run)
        seconds.append(time.perf_counter() - start)
    return statistics.mean(seconds)


def main() -> None:
    """Print a line for each problem and optimizer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    entries = Plan.read().entries
    usual = [label for label, entry in entries.items() if not entry.downloaded]
    parser.add_argument("--problem", nargs="+", default=usual, choices=list(entries), metavar="P")
    names = dict(choices=optimizers.names(), metavar="O")
    parser.add_argument("--optimizer", nargs="+", default=["momentum", "adamw"], **names)
    parser.add_argument("--runs", type=int, help="default: what takes --seconds by the plan")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--fit", action="store_true", help="also two runs by plain Keras fit")
    options = parser.parse_args()
    cores = training.cores()
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f} before", flush=True)
    cells = [(label, optimizer) for label in options.problem for optimizer in options.optimizer]
    for label, optimizer in tqdm(cells, disable=headless(), unit="measurement"):
        entry = entries[label]
        problem = problem_of(entry.load)
        count = options.runs or max(6 * cores, round(1000 * options.seconds / entry.ms))
        seconds, share = measure(problem, optimizer, count)
        told = [
            f"{label}, {optimizer}: {1 / seconds:.0f} runs a second, {1000 * seconds:.1f} ms a run"
            f" ({1000 * seconds / entry.ms:.2f} x the plan's {entry.ms:g}),"
            f" {share:.0%} of it in the program"
        ]
        if shapes := dense_shapes(problem):
            rate = operations(problem, shapes) / seconds
            # Beside it each time: another's work comes and goes.
            large = rate_of_large_products()
            own = rate_of_own_products(problem.batch_size, shapes)
            told.append(
                f"{rate / 1e9:.1f} GFLOP/s: {rate / large:.1%} of large products'"
                f" {large / 1e9:.0f}, {rate / own:.0%} of its own shapes' {own / 1e9:.1f}"
            )
        if options.fit:
            told.append(f"{seconds_of_fit(problem, optimizer) / seconds:.0f} x a loop of fit")
        tqdm.write("; ".join(told))


if __name__ == "__main__":
    main()
