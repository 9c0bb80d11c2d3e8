"""Many-run trainer against a loop of ``model.fit``, as ratios taken in one run.

    python benchmarks/trainer.py [--problem digits] [--runs 1 8 64 512 2048] [--fits 8]

The loop is timed on a few fits of fresh models (what people write), here and over as many
processes as there are cores, before and after the trainer so that all see the same machine; its
cost per run does not depend on their number. Imports and each process's first fit are left out.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

from anneal_utils import problems, schedules, training

import keras
from joblib.externals.loky import get_reusable_executor

FIRST = """
from anneal_utils import problems, training
problem = problems.load({name!r})
training.train(problem, training.grid(["cosine"], [0.1]), progress=False, store=False)
"""


def plain_fit(name: str, run: training.Run) -> float:
    """Seconds of one training as people write it: a fresh model and ``fit`` on arrays."""
    problem = problems.load(name)
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


def over_processes(pool, name: str, runs: list[training.Run]) -> float:
    """Seconds per run of the same loop, spread over the pool."""
    start = time.perf_counter()
    for future in [pool.submit(plain_fit, name, run) for run in runs]:
        future.result()
    return (time.perf_counter() - start) / len(runs)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", default="digits", choices=problems.names())
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 8, 64, 512, 2048])
    parser.add_argument("--fits", type=int, default=8, help="of each loop")
    options = parser.parse_args()
    problem, cores = problems.load(options.problem), training.cores()
    # 12 schedules x 9 peaks x 20 seeds; every schedule and seed is in a part of it too.
    names = [n for n in schedules.names() if n not in ("exp_range", "rex", "power", "polynomial")]
    everything = training.grid(names[:12], [0.01 * 1.6**k for k in range(9)], range(20))

    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", FIRST.format(name=problem.name)], check=True)
    first = time.perf_counter() - start
    print(f"first result: {first:.1f} s from the start of Python; {cores} cores", flush=True)

    pool = get_reusable_executor(max_workers=cores)
    # Whole rounds, so that no process waits for another at the end.
    half = everything[: cores * max(1, options.fits // (2 * cores))]
    over_processes(pool, problem.name, everything[:cores])  # imports
    plain_fit(problem.name, everything[0])
    loop, spread = [], []

    def time_the_loops():
        loop.extend(plain_fit(problem.name, run) for run in half)
        spread.append(over_processes(pool, problem.name, half))

    time_the_loops()
    # The other threads' programs.
    training.train(problem, everything[:8], progress=False, store=False)
    trained = {}
    for count in options.runs:
        runs = everything[:: max(1, len(everything) // count)][:count]
        start = time.perf_counter()
        training.train(problem, runs, progress=False, store=False)
        trained[len(runs)] = (time.perf_counter() - start) / len(runs)
    time_the_loops()

    one, two = statistics.median(loop), statistics.mean(spread)
    print(f"a loop of fit: {one:.2f} s a run ({min(loop):.2f} to {max(loop):.2f})")
    print(f"the same loop over {cores} processes: {two:.2f} s a run")
    for count, seconds in trained.items():
        print(
            f"{problem.name}, {count} runs: {1000 * seconds:.1f} ms a run; "
            f"{one / seconds:.0f} x the loop, {two / seconds:.0f} x the loop over processes"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MB (on Linux)")


if __name__ == "__main__":
    main()
