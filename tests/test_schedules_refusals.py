"""Whatever a schedule can not take is refused by argument, value and what is allowed."""

import math
import re

from anneal_utils import schedules

import keras
import pytest
from small import assert_refused
from small_schedules import OBJECTS

K = keras.optimizers.schedules
S = schedules

REX = OBJECTS["rex"]
BAD_RATES = [0, -0.1, math.nan, math.inf, "0.1", None, True]
BAD_COUNTS = [0, -3, 2.5, math.nan, "10", None, True]
BAD_SHARES = [-0.1, 1.5, math.nan, "0.1", None]
BAD_RISES = [1.0, -1, 1000, True, *BAD_SHARES]  # a whole number would be one of steps


def each(argument, call, values):
    """Rows of the table: each value is named as it was given."""
    return [(f"{argument} = {value!r}: ", lambda value=value: call(value)) for value in values]


BAD = [
    *each("peak", lambda v: S.build("cosine", v, 10), BAD_RATES),
    *each("steps", lambda v: S.build("cosine", 1.0, v), BAD_COUNTS),
    *each("warmup", lambda v: S.build("cosine", 1.0, 10, warmup=v), BAD_RISES[:-1]),
    ("warmup = 0.9: ", lambda: S.build("cosine", 1.0, 3, warmup=0.9)),
    ("name = 'cosin': ", lambda: S.build("cosin", 1.0, 10)),
    ("name = 'cosin': ", lambda: S.describe("cosin")),
    ("name = 'cosin': ", lambda: S.unregister("cosin")),
    ("name = 'cosine': ", lambda: S.register("cosine")),
    ("name = 'cosine': ", lambda: S.unregister("cosine")),
    ("name = '': ", lambda: S.register("")),
    ("name = <built-in function len>: ", lambda: S.register(len)),
    ("knob = 'drops': ", lambda: S.build("cosine", 1.0, 10, drops=2)),
    ("knob = 'end': ", lambda: S.build("constant", 1.0, 10, end=0)),
    *(
        row
        for name in ("polynomial", "linear", "cosine", "sigmoid", "wsd", "cosine_restarts")
        for row in each("end", lambda v, name=name: S.build(name, 1.0, 10, end=v), BAD_SHARES)
    ),
    ("end = 0: ", lambda: S.build("exponential", 1.0, 10, end=0)),
    ("end = 0: ", lambda: S.build("inverse_time", 1.0, 10, end=0)),
    ("end = 0: ", lambda: S.build("exp_range", 1.0, 10, end=0)),
    *each("drops", lambda v: S.build("step", 1.0, 10, drops=v), [*BAD_COUNTS, 10]),
    *each(
        "milestones",
        lambda v: S.build("step", 1.0, 10, milestones=v),
        ["ab", 0.5, [], [0.5, 0.2], [0.0, 0.5], [0.5, 0.51], [0.99]],
    ),
    ("milestones = 1.5: ", lambda: S.build("step", 1.0, 10, milestones=[1.5])),
    ("milestones = None: ", lambda: S.build("step", 1.0, 10, milestones=[None])),
    ("floor = 1.1: ", lambda: S.build("exponential", 1.0, 10, floor=1.1)),
    ("decay = 0: ", lambda: S.build("cosine_restarts", 1.0, 10, decay=0)),
    ("decay = 0.5: ", lambda: S.build("cosine_restarts", 1.0, 10, decay=0.5, end=0.3)),
    ("rise = 0: ", lambda: S.build("triangular", 1.0, 10, rise=0)),
    ("rise = 1.0: ", lambda: S.build("triangular", 1.0, 10, rise=1)),
    *each("rise", lambda v: S.build("triangular", 1.0, 10, rise=v), BAD_SHARES),
    ("end = 0.0: ", lambda: S.build("wsd", 1.0, 10, shape="exponential")),
    ("end = 0.9: ", lambda: S.build("power", 1.0, 100, end=0.9)),
    ("end = 0.0: ", lambda: S.build("power", 1.0, 100, shape="exponential")),
    *each("convention", lambda v: S.build("rex", 1.0, 9, convention=v), ["keras", 1]),
    ("warmup = 0: ", lambda: S.build("one_cycle", 1.0, 9, rise=0.2, warmup=0)),
    ("warmup = 0: ", lambda: S.build("one_cycle", 1.0, 9, warmup=0, convention="pytorch")),
    *each("factor", lambda v: S.build("step", 1.0, 10, factor=v), [0, *BAD_SHARES]),
    *each("cycles", lambda v: S.build("triangular", 1.0, 10, cycles=v), [*BAD_COUNTS, 6]),
    *(
        row
        for name in ("triangular", "triangular2", "exp_range")
        for row in each("low", lambda v, name=name: S.build(name, 1.0, 10, low=v), BAD_SHARES)
    ),
    *each("cycles", lambda v: S.build("cosine_restarts", 1.0, 9, cycles=v), [0, 10, 1.5]),
    *each("growth", lambda v: S.build("cosine_restarts", 1.0, 9, growth=v), [0.5, math.nan]),
    *each("rise", lambda v: S.build("one_cycle", 1.0, 9, rise=v), BAD_RISES),
    ("warmup = 0.2: ", lambda: S.build("one_cycle", 1.0, 9, warmup=0.2, rise=0.2)),
    *each("tail", lambda v: S.OneCycle(0.3, 10, tail=v), [1, 0.7, *BAD_SHARES]),
    *each("hold", lambda v: S.build("power", 1.0, 9, hold=v), [0, *BAD_SHARES]),
    ("power = 0: ", lambda: S.build("polynomial", 1.0, 10, power=0)),
    ("peak = 1e+31: ", lambda: S.build("constant", 1e31, 10)),
    ("end = 1e-40: ", lambda: S.build("inverse_time", 1.0, 10, end=1e-40)),
    ("exponent = 10000.0: ", lambda: S.build("power", 0.1, 100, exponent=1e4)),
    ("decay = 0.01: ", lambda: S.build("cosine_restarts", 0.1, 1000, cycles=200, decay=0.01)),
    (
        "growth = 10000000000.0: ",
        lambda: S.build("cosine_restarts", 0.1, 1000, cycles=40, growth=1e10),
    ),
    ("steps = 1: ", lambda: S.build("one_cycle", 1.0, 1)),
    ("tail = 0.4: ", lambda: S.OneCycle(1.0, 10, 0.5, tail=0.4, convention="pytorch")),
    ("cycles = 3: ", lambda: S.build("triangular", 0.1, 100, warmup=99)),
    ("dtype = 'int': ", lambda: S.values(REX, 3, dtype="int")),
    ("exponent = -1: ", lambda: S.build("power", 1.0, 10, exponent=-1)),
    ("timescale = -1: ", lambda: S.build("inverse_sqrt", 1.0, 10, timescale=-1)),
    *each("low", lambda v: S.Cyclical(v, 0.3, 10), [-0.1, math.nan, "0", None, 0.4]),
    *each("high", lambda v: S.Cyclical(0.0, v, 10), BAD_RATES),
    *each("period", lambda v: S.Cyclical(0.1, 0.3, v), [*BAD_COUNTS, 1]),
    ("shape = 'saw': ", lambda: S.Cyclical(0.1, 0.3, 10, "saw")),
    ("low = 0.0: ", lambda: S.Cyclical(0.0, 0.3, 10, "exponential")),
    ("amplitude = 'third': ", lambda: S.Cyclical(0.1, 0.3, 10, amplitude="third")),
    *each("gamma", lambda v: S.Cyclical(0.1, 0.3, 10, gamma=v), [0, *BAD_SHARES]),
    *each("stairs", lambda v: S.Cyclical(0.1, 0.3, 10, stairs=v), [*BAD_COUNTS, 1]),
    *each(
        "up",
        lambda v: S.Cyclical(0.1, 0.3, 10, up=v),
        [10, *(v for v in BAD_COUNTS if v is not None)],
    ),
    ("up = 4: ", lambda: S.Cyclical(0.1, 0.3, 10, "cosine", up=4)),
    ("convention = 'fastai': ", lambda: S.OneCycle(0.3, 10, convention="fastai")),
    *each("peak", lambda v: S.OneCycle(v, 10), BAD_RATES),
    *each("steps", lambda v: S.OneCycle(0.3, v), [*BAD_COUNTS, 1]),
    *each("warmup", lambda v: S.OneCycle(0.3, 10, v), BAD_RISES),
    ("shape = 'sqrt': ", lambda: S.OneCycle(0.3, 10, shape="sqrt")),
    ("start_divisor = 0.5: ", lambda: S.OneCycle(0.3, 10, start_divisor=0.5)),
    ("final_divisor = inf: ", lambda: S.OneCycle(0.3, 10, final_divisor=math.inf)),
    *each("peak", lambda v: S.WarmupStableDecay(v, 10), BAD_RATES),
    *each("steps", lambda v: S.WarmupStableDecay(0.3, v), BAD_COUNTS),
    *each("cooldown", lambda v: S.WarmupStableDecay(0.3, 10, v), [0, *BAD_SHARES]),
    *each("warmup", lambda v: S.WarmupStableDecay(0.3, 10, 0.5, v), [0.6, 6, *BAD_RISES]),
    ("shape = 'cube': ", lambda: S.WarmupStableDecay(0.3, 10, shape="cube")),
    *each("end", lambda v: S.WarmupStableDecay(0.3, 10, end=v), [0.4, *BAD_SHARES]),
    *each("peak", lambda v: S.Sigmoid(v, 10), BAD_RATES),
    *each("steps", lambda v: S.Sigmoid(0.3, v), BAD_COUNTS),
    ("end = 0.4: ", lambda: S.Sigmoid(0.3, 10, 0.4)),
    *each("steepness", lambda v: S.Sigmoid(0.3, 10, steepness=v), [0.09, -1, 81, math.nan]),
    *each("middle", lambda v: S.Sigmoid(0.3, 10, middle=v), BAD_SHARES),
    *each("peak", lambda v: S.InverseSquareRoot(v, 10), BAD_RATES),
    *each("timescale", lambda v: S.InverseSquareRoot(0.3, v), BAD_RATES),
    *each("peak", lambda v: S.Power(v, 10, 2), BAD_RATES),
    *each("steps", lambda v: S.Power(0.3, v, 2), BAD_COUNTS),
    *each("hold", lambda v: S.Power(0.3, 10, v), BAD_RATES),
    *each("exponent", lambda v: S.Power(0.3, 10, 2, v), [-1, math.nan, "1"]),
    *each("cooldown", lambda v: S.Power(0.3, 10, 2, cooldown=v), BAD_SHARES),
    ("shape = 'cube': ", lambda: S.Power(0.3, 10, 2, shape="cube")),
    *each("peak", lambda v: S.Rex(v, 10), BAD_RATES),
    *each("steps", lambda v: S.Rex(0.3, v), BAD_COUNTS),
    *each("schedule", lambda v: S.Warmup(v, 10), [0.3, "cosine", None, S.Rex]),
    *each("steps", lambda v: S.Warmup(REX, v), BAD_COUNTS),
    ("shape = 'cosine': ", lambda: S.Warmup(REX, 10, "cosine")),
    *each("start", lambda v: S.Warmup(REX, 10, start=v), [-0.1, math.nan, "0", None]),
    ("start = 0.0: ", lambda: S.Warmup(REX, 10, "exponential")),
    ("start = 0.31: ", lambda: S.Warmup(REX, 10, start=0.31)),  # REX begins at 0.3
    *each("power", lambda v: S.Warmup(REX, 10, power=v), BAD_RATES),
    ("steps = []: ", lambda: S.Knots([], [0.1])),
    ("steps = -1: ", lambda: S.Knots([-1], [0.1])),
    ("steps = 1.5: ", lambda: S.Knots([1.5], [0.1])),
    ("steps = 'a': ", lambda: S.Knots(["a"], [0.1])),
    *each("steps", lambda v: S.Knots(v, [0.1]), ["1", 3]),
    *each("steps", lambda v: S.Knots(v, [0.1, 0.2]), [[1, 1], [2, 1]]),
    ("rates = []: ", lambda: S.Knots([0], [])),
    ("rates = -1: ", lambda: S.Knots([0], [-1])),
    ("rates = nan: ", lambda: S.Knots([0], [math.nan])),
    ("rates = 'a': ", lambda: S.Knots([0], ["a"])),
    *each("rates", lambda v: S.Knots([0], v), ["1", 3]),
    ("rates = [1.0, 2.0]: ", lambda: S.Knots([0], [1, 2])),
    ("rates = [0.1, 0.0]: ", lambda: S.Knots([0, 5], [0.1, 0.0], "exponential")),
    ("shape = 'cubic': ", lambda: S.Knots([0], [0.1], "cubic")),
    *each("schedule", lambda v: S.Scale(v, 0.5), [0.3, "cosine", None, S.Rex]),
    *each("by", lambda v: S.Scale(REX, v), [-1, math.nan, "2", None, True, S.Rex]),
    ("by = '2': ", lambda: REX * "2"),
    *each("schedule", lambda v: S.Floor(v, 0.5), [0.3, "cosine", None]),
    *each("low", lambda v: S.Floor(REX, v), [-1, math.nan, "2", None]),
    *each("schedule", lambda v: S.Hold(v, 5), [0.3, "cosine", None]),
    *each("steps", lambda v: S.Hold(REX, v), BAD_COUNTS),
    (
        "schedule's rate at steps = 20 = -0.10000000149011612: ",
        lambda: S.Hold(K.InverseTimeDecay(0.1, 10, -1.0), 20),
    ),
    (
        "schedule's rate at steps = 10 = inf: ",
        lambda: S.Hold(K.InverseTimeDecay(0.1, 10, -1.0), 10),
    ),
    ("schedules = 0.1: ", lambda: S.Sequential([REX, 0.1], [10])),
    ("schedules = []: ", lambda: S.Sequential([], [])),
    ("schedules = <anneal_utils.schedules.shapes.Rex object", lambda: S.Sequential(REX, [10])),
    ("boundaries = 10: ", lambda: S.Sequential([REX, REX], 10)),
    ("boundaries = '10': ", lambda: S.Sequential([REX, REX], "10")),
    *each("boundaries", lambda v: S.Sequential([REX, REX], [v]), BAD_COUNTS),
    ("boundaries = []: ", lambda: S.Sequential([REX, REX], [])),
    ("boundaries = [10]: ", lambda: S.Sequential([REX], [10])),
    ("boundaries = [20, 10]: ", lambda: S.Sequential([REX, REX, REX], [20, 10])),
    ("boundaries = [10, 10]: ", lambda: S.Sequential([REX, REX, REX], [10, 10])),
    *each("schedule", lambda v: S.values(v, 10), [-0.1, math.nan, True, "cosine", None]),
    *each("steps", lambda v: S.values(REX, v), BAD_COUNTS),
]


@pytest.mark.parametrize(
    ("start", "call"), BAD, ids=[f"{i}-{start.split(' = ')[0]}" for i, (start, _) in enumerate(BAD)]
)
def test_bad_input_is_refused_by_name(start, call):
    allowed = assert_refused(call, start).removeprefix(start)
    assert re.search("must|takes|taken|belongs|give", allowed)
