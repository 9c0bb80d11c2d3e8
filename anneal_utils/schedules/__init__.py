"""The schedules that Keras lacks, and a catalogue of all of them normalised to peak and horizon.

A schedule is a pure function of the optimizer step: asked twice, in any order, on a number or a
vector of steps, from a plot or inside ``tf.function``, it gives the same rate. What Keras has
(exponential, piecewise constant, inverse time, polynomial, cosine) is used, not rewritten. Every
class here is float32, saves and loads inside a ``.keras`` model (in a new process after ``from
anneal_utils import schedules``, which makes the classes known to Keras), and is exact about which
step it is for 2^31 steps (whole numbers of any kind; floats for 2^24); Keras's own classes compute
in float32, exact for 2^24.

``build(name, peak, steps)`` gives any schedule of the catalogue, which holds its last value after
the horizon; ``horizon`` counts its steps as ``model.fit`` does, ``planned`` tells them of a
schedule; ``names()`` lists the catalogue; ``describe(name)`` tells formula and source;
``@register("name")`` adds one; ``values`` tabulates any schedule; ``code`` prints one as a plain
function; ``equivalents`` tells the calls of other libraries. Keras's backend computes, whichever
it is. The classes alone go on after their end as their peers elsewhere do (``Hold`` stops them).
Bad arguments raise ``ValueError``. Taught in notebooks 02 to 06.
"""

from anneal_utils.schedules.catalogue import (
    build,
    describe,
    names,
    origin,
    register,
    unregister,
)
from anneal_utils.schedules.combinators import Floor, Hold, Scale, Sequential, Warmup
from anneal_utils.schedules.counting import horizon
from anneal_utils.schedules.evaluation import planned, values
from anneal_utils.schedules.peers import equivalents
from anneal_utils.schedules.printing import code
from anneal_utils.schedules.shapes import (
    Cyclical,
    InverseSquareRoot,
    Knots,
    OneCycle,
    Power,
    Rex,
    Sigmoid,
    WarmupStableDecay,
)

__all__ = [
    "Cyclical",
    "Floor",
    "Hold",
    "InverseSquareRoot",
    "Knots",
    "OneCycle",
    "Power",
    "Rex",
    "Scale",
    "Sequential",
    "Sigmoid",
    "Warmup",
    "WarmupStableDecay",
    "build",
    "code",
    "describe",
    "equivalents",
    "horizon",
    "names",
    "origin",
    "planned",
    "register",
    "unregister",
    "values",
]
