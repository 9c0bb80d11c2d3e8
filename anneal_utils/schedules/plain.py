"""Every schedule once more, as plain functions of the step that need ``math`` and nothing else.

What :func:`anneal_utils.schedules.code` prints is the source of these functions, so each one
stands alone or on others of this file. They compute in float64 and are for one whole step at a
time. The tests hold them against the schedules.
"""

import math


def fall(shape, u, ratio=0.0):
    """From 1 at u = 0 down to 0 at u = 1; ratio: last over first rate, if exponential."""
    u = min(max(u, 0.0), 1.0)
    if shape == "linear":
        return 1 - u
    if shape == "sqrt":
        return 1 - math.sqrt(u)
    if shape == "exponential":
        return (ratio**u - ratio) / (1 - ratio) if ratio < 1 else 0.0
    return (1 + math.cos(math.pi * u)) / 2


def polynomial(step, peak, steps, end=0.0, power=1.0):
    """A power of what is left of the steps; power 1: linear, or constant with end = peak."""
    return end + (peak - end) * (1 - min(step, steps) / steps) ** power


def endless_polynomial(step, peak, steps, end=0.0, power=1.0):
    """The same, whose horizon is doubled, trebled ... when the step has passed it."""
    steps *= max(1, math.ceil(step / steps))
    return end + (peak - end) * (1 - step / steps) ** power


def cosine(step, peak, steps, end=0.0):
    """Half a cosine wave from peak to end."""
    return end + (peak - end) * (1 + math.cos(math.pi * min(step, steps) / steps)) / 2


def cosine_restarts(step, peak, first, growth, decay, end):
    """Half cosine waves, each growth times longer and decay times as high, over the rate end."""
    begin, length, height = 0.0, first, 1.0
    while step >= begin + length:
        begin, length, height = begin + length, length * growth, height * decay
    wave = (1 + math.cos(math.pi * (step - begin) / length)) / 2
    return end + (peak - end) * height * wave


def exponential(step, peak, steps, factor, staircase=False):
    """Times factor in every so many steps, smoothly or at once."""
    return peak * factor ** (step // steps if staircase else step / steps)


def inverse_time(step, peak, steps, factor, staircase=False):
    """Over one plus factor in every so many steps."""
    return peak / (1 + factor * (step // steps if staircase else step / steps))


def piecewise_constant(step, boundaries, rates):
    """rates[i] up to and with step boundaries[i], then the next."""
    return rates[sum(step > boundary for boundary in boundaries)]


def cyclical(step, low, high, period, shape, amplitude, gamma, stairs, up):
    """Cycles between low and high."""
    cycle, done = divmod(step, period)
    up = up or period / 2
    if shape == "triangle":
        height = done / up if done < up else (period - done) / (period - up)
    elif shape == "step":
        height = 1 - done * stairs // period / (stairs - 1)
    else:
        height = fall(shape, done / period, low / high)
    if amplitude == "halved":
        height *= 0.5**cycle
    elif amplitude == "exp_range":
        height *= gamma**step
    return low + (high - low) * height


def phases(step, points, shape):
    """From point to point (step, rate), each way in the given shape; the last rate from then on."""
    rate = max(rate for _, rate in points)
    for piece in range(1, len(points)):
        (begin, first), (end, last) = points[piece - 1], points[piece]
        if begin < end and step >= begin:
            rate = last + (first - last) * fall(shape, (step - begin) / (end - begin))
    return rate


def warmup_stable_decay(step, peak, steps, rise, cooldown, shape, end):
    """Up in so many steps, level, and down to end in the last so many steps."""
    down = fall(shape, (step - (steps - cooldown)) / cooldown, end / peak)
    return (end + (peak - end) * down) * min((step + 1) / (rise + 1), 1)


def sigmoid(step, peak, steps, end, steepness, middle):
    """An S-curve from exactly peak to exactly end."""
    first, now, last = (
        1 / (1 + math.exp(steepness * (u - middle))) for u in (0, min(step / steps, 1), 1)
    )
    return end + (peak - end) * (now - last) / (first - last)


def inverse_square_root(step, peak, timescale):
    """Half the rate after three timescales."""
    return peak * math.sqrt(timescale / (timescale + step))


def power_law(step, peak, steps, hold, exponent, cooldown, shape, end):
    """Level for hold steps, then a power law, and down to end in the last so many steps."""
    begin = steps - cooldown
    trunk, last = (
        peak * max(t / hold, 1) ** -exponent
        for t in (min(step, begin) if cooldown else step, begin)
    )
    if not cooldown:
        return trunk
    return end + (trunk - end) * fall(shape, (step - begin) / cooldown, end / last)


def rex(step, peak, steps):
    """Above the linear decay all the way to 0."""
    u = min(step / steps, 1)
    return peak * (1 - u) / (1 - u / 2)


def knots(step, steps, rates, shape):
    """Through the points, straight or on a logarithmic axis."""
    if step <= steps[0]:
        return rates[0]
    for piece in range(1, len(steps)):
        if step < steps[piece]:
            first, last = rates[piece - 1], rates[piece]
            u = (step - steps[piece - 1]) / (steps[piece] - steps[piece - 1])
            if shape == "exponential":
                return first * (last / first) ** u
            return first + (last - first) * u
    return rates[-1]


def warmup(step, schedule, steps, shape, start, power):
    """Up to the schedule's first rate, then the schedule, as many steps later."""
    if step >= steps:
        return schedule(step - steps)
    target, u = schedule(0), step / steps
    if shape == "exponential":
        return start * (target / start) ** u
    if shape == "polynomial":
        u = u**power
    elif shape == "sine":
        u = math.sin(math.pi * u / 2)
    return start + (target - start) * u


def sequential(step, schedules, boundaries):
    """One after the other, each from its own step 0 on."""
    now = sum(step >= boundary for boundary in boundaries)
    return schedules[now](step - ([0] + boundaries)[now])
