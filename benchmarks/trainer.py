"""Many-run trainer against a loop of ``model.fit``, as ratios taken in one run.

    python benchmarks/trainer.py [--problem digits] [--runs 180 2160] [--fits 5]

The loop is timed on a few fits of fresh models (what people write), spread between the rounds of
the trainer so that both see the same machine; its cost per run does not depend on their number.
"""

import argparse
import resource
import statistics
import time

from anneal_utils import problems, schedules, training

import keras


def plain_fit(problem, run) -> float:
    """Seconds of one training as people write it: a fresh model and ``fit`` on arrays."""
    start = time.perf_counter()
    model = problem.build()
    rate = training.schedule_of(problem, run)
    model.compile(keras.optimizers.SGD(rate), problem.loss, metrics=list(problem.metrics))
    model.fit(
        problem.x_train,
        problem.y_train,
        batch_size=problem.batch_size,
        epochs=problem.epochs,
        validation_data=(problem.x_val, problem.y_val),
        verbose=0,
    )
    return time.perf_counter() - start


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", default="digits", choices=problems.names())
    parser.add_argument("--runs", type=int, nargs="+", default=[180, 2160])
    parser.add_argument("--fits", type=int, default=5)
    options = parser.parse_args()
    problem = problems.load(options.problem)
    names = [n for n in schedules.names() if n not in ("exp_range", "rex", "power", "polynomial")]
    peaks = [0.01 * 1.6**k for k in range(9)]
    everything = training.grid(names[:12], peaks, range(20))
    fits, trained = [], {}
    for count in options.runs:
        fits += [plain_fit(problem, run) for run in everything[: max(1, options.fits // 2)]]
        # Every schedule and seed, as in the full grid; the first call includes the compilation.
        runs = everything[:: max(1, len(everything) // count)][:count]
        start = time.perf_counter()
        training.train(problem, runs, progress=False)
        trained[len(runs)] = time.perf_counter() - start
        print(
            f"{len(runs)} runs: {trained[len(runs)]:.1f} s, {training.cores()} threads", flush=True
        )
    fits += [plain_fit(problem, run) for run in everything[: max(1, options.fits // 2)]]
    one = statistics.median(fits)
    print(f"one fit: median {one:.2f} s of {len(fits)}, {min(fits):.2f} to {max(fits):.2f}")
    for count, seconds in trained.items():
        ratio = one * count / seconds
        print(f"{problem.name}, {count} runs: {ratio:.0f} x a loop of fit")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MB (on Linux)")


if __name__ == "__main__":
    main()
