"""What the trainer remembers stays below its limits, and is dropped when nobody asks for it."""

import gc
import threading
import time
import weakref

from anneal_utils import training
from anneal_utils._cache import Recent
from anneal_utils.training import program, starts, trainer
from anneal_utils.training.program import Program, program_of

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from small_state import dense, short


@settings(deadline=None)
@given(
    st.integers(0, 30),
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 20)), max_size=40),
)
def test_a_memory_of_recent_values_stays_below_its_limit(limit, puts):
    recent, sizes = Recent(limit), {}
    for number, (key, size) in enumerate(puts):
        if number % 3 == 2 and sizes:
            read = next(iter(sizes))  # is now the most recently used one
            assert recent.get(read) == sizes[read][0]
            sizes[read] = sizes.pop(read)
        assert recent.put(key, number, size) == number
        sizes.pop(key, None)
        sizes[key] = (number, size)
        while sum(size for _, size in sizes.values()) > limit and len(sizes) > 1:
            del sizes[next(iter(sizes))]
        assert recent.used == sum(size for _, size in sizes.values())
        assert recent.used <= limit or len(recent) == 1
        assert {k: recent.get(k) for k in "abcdef"} == {
            k: sizes.get(k, (None,))[0] for k in "abcdef"
        }
        for k in "abcdef":  # reading all in one order changed what is recent, here as there
            if k in sizes:
                sizes[k] = sizes.pop(k)
    recent.clear()
    assert (recent.used, len(recent), recent.get("a")) == (0, 0, None)


def test_a_memory_of_recent_values_under_many_threads():
    recent, errors = Recent(50), []

    def work(seed):
        rng = np.random.default_rng(seed)
        try:
            for _ in range(2000):
                key = int(rng.integers(20))
                if rng.uniform() < 0.5:
                    recent.put(key, key, int(rng.integers(1, 10)))
                else:
                    assert recent.get(key) in (None, key)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not errors and recent.used <= 50
    assert recent.used == sum(size for _, size in recent._values.values())


def test_few_initial_values_wait_for_a_thread(monkeypatch):
    problem, alive, most = short(dense), weakref.WeakSet(), []

    class Weights(np.ndarray):
        """An array that a set can hold weakly."""

        __hash__ = object.__hash__
        __eq__ = object.__eq__

    def drawn(start, makers, seed):
        values = [value.copy().view(Weights) for value in start.first]
        alive.update(values[:1])
        return values

    def call(program, *arguments):
        time.sleep(0.002)  # slower than the initial values are drawn
        most.append(len(alive))
        return np.zeros((2, 5), "float32"), -1, np.zeros(0, "float32"), []

    training.train(problem, training.grid({"c": 0.1}))  # how it starts is known from here on
    monkeypatch.setattr(starts, "_weights", Recent(0))
    monkeypatch.setattr(starts.Starts, "_drawn", drawn)
    monkeypatch.setattr(program.Program, "call", call)
    size = 4 * (64 * 3 + 3)
    monkeypatch.setattr(trainer, "_AHEAD", 5 * (size + 8))  # with the step count of SGD
    training.train(problem, training.grid({"c": 0.1}, seeds=range(150)), threads=2)
    # Five wait, two are trained, and one is drawn and remembered.
    assert 4 <= max(most) <= 5 + 2 + 2


def test_large_values_after_small_ones_find_room():
    """The thread that waits is woken however small the one that leaves."""
    room, entered = trainer._Room(100), threading.Event()
    room.enter(20)

    def enters():
        room.enter(90)
        entered.set()

    thread = threading.Thread(target=enters, daemon=True)
    thread.start()
    while not room._wanted == 90:
        time.sleep(0.001)
    assert not entered.wait(0.05)
    room.leave(20)
    assert entered.wait(10)
    room.leave(90)
    room.enter(1000)  # alone, anything has room
    assert room.used == 1000


def test_final_weights_are_kept_only_if_they_are_asked_for(monkeypatch):
    whole, finals, most = Program.call, [], []

    def call(program, *arguments):
        *measured, final = whole(program, *arguments)
        finals.append(weakref.ref(final[0]))
        most.append(sum(final() is not None for final in finals))
        return *measured, final

    monkeypatch.setattr(Program, "call", call)
    runs = training.grid({"c": 0.1}, seeds=range(20))
    training.train(short(dense), runs, threads=2, mode="graph")
    assert len(finals) == 20 and max(most) <= 4


def test_a_program_that_is_traced_again_leaves_nothing_behind(monkeypatch):
    whole, graphs = Program._trace, []

    def trace(program, mode):
        whole(program, mode)
        graphs.append(weakref.ref(program.concrete.graph))

    monkeypatch.setattr(Program, "_trace", trace)
    problem, run = short(dense), training.grid({"c": 0.1})[0]
    for _ in range(3):
        training.train(problem, [run], mode="graph")
    gc.collect()
    assert len(graphs) == 3 and sum(graph() is not None for graph in graphs) <= 1


def test_programs_are_counted_with_their_graphs_and_seats():
    problem, runs = short(dense), training.grid({"c": 0.1}, seeds=range(8))
    training.train(problem, runs, threads=1, mode="graph")
    kept = program_of(problem, runs[0], 2, "graph")
    assert kept.nbytes() > 1_000_000  # of a model of 800 bytes
    counted = program._programs.used
    kept.seats.put(kept._seat())
    assert program_of(problem, runs[0], 2, "graph") is kept
    assert program._programs.used > counted
