"""Which call of another library gives the same rates."""

from anneal_utils import _checks
from anneal_utils.schedules._parts import steps_of

_ONE_LATER = "Changes one step after its boundary."
_EARLIER = "Peak and end one step earlier than without convention."
_FROM_ZERO = "Its warmup starts at 0, so the first step does nothing."
_FOR_EVER = "Goes on after the last step; here the value is held."
_CLIMBS = "Climbs again after the last step; here the value is held."
_PREFIX = "Without warmup_prefix=True the warmup lies over the schedule, which jumps where it ends."

# (name, call of ours if it is not just build(name), library, its call, difference). {braces}: see
# _numbers. Every call of ours
# has the rates of the other one at every step of the horizon: the tests ask the libraries that
# are installed, and keep what the others answered.
_ROWS = [
    ("constant", "", "keras", "{P}", ""),
    ("constant", "", "pytorch",
     "{torch}.ConstantLR(optimizer, factor=1.0, total_iters={T})", ""),
    ("constant", "", "transformers",
     "transformers.get_constant_schedule(optimizer)", ""),
    ("constant", "", "optax", "optax.constant_schedule({P})", ""),
    ("constant", "", "fastai",
     "fastai.callback.schedule.SchedNo({P}, {P})", ""),
    ("step", "", "keras",
     "{keras}.PiecewiseConstantDecay({before}, {levels})", _ONE_LATER),
    ("step", "", "pytorch",
     "{torch}.MultiStepLR(optimizer, milestones={drops}, gamma=0.5)", ""),
    ("step", "", "timm",
     "timm.scheduler.MultiStepLRScheduler(optimizer, decay_t={after}, decay_rate=0.5, "
     "t_in_epochs=False)", "Drops one step before its milestone."),
    ("step", "", "optax",
     "optax.piecewise_constant_schedule({P}, {halvings})", ""),
    ("exponential", "", "keras",
     "{keras}.ExponentialDecay({P}, {T}, 0.01)", _FOR_EVER),
    ("exponential", "", "pytorch",
     "{torch}.ExponentialLR(optimizer, gamma=0.01 ** (1 / {T}))", _FOR_EVER),
    ("exponential", "", "timm",
     "timm.scheduler.StepLRScheduler(optimizer, decay_t=1, decay_rate=0.01 ** (1 / {T}), "
     "t_in_epochs=False)", _FOR_EVER),
    ("exponential", "", "optax",
     "optax.exponential_decay({P}, transition_steps={T}, decay_rate=0.01)", _FOR_EVER),
    ("exponential", "", "fastai",
     "fastai.callback.schedule.SchedExp({P}, {P} / 100)", ""),
    ("inverse_time", "", "keras",
     "{keras}.InverseTimeDecay({P}, {T}, 99.0)", _FOR_EVER),
    ("inverse_time", "", "pytorch",
     "{torch}.LambdaLR(optimizer, lr_lambda=lambda step: 1 / (1 + 99 * step / {T}))", _FOR_EVER),
    ("inverse_sqrt", "", "pytorch",
     "{torch}.LambdaLR(optimizer, lr_lambda=lambda step: (1 + step / (0.05 * {T})) ** -0.5)",
     _FOR_EVER),
    ("inverse_sqrt", "", "transformers",
     "transformers.get_inverse_sqrt_schedule(optimizer, num_warmup_steps=0, timescale={scale})",
     _FOR_EVER),
    ("polynomial", "", "keras",
     "{keras}.PolynomialDecay({P}, {T}, 0.0, power=2.0)", "Ends at 0.0001 if not told otherwise."),
    ("polynomial", "", "pytorch",
     "{torch}.PolynomialLR(optimizer, total_iters={T}, power=2.0)", ""),
    ("polynomial", "", "transformers",
     "transformers.get_polynomial_decay_schedule_with_warmup(optimizer, num_warmup_steps=0, "
     "num_training_steps={T}, lr_end=0.0, power=2.0)", "Ends at 1e-7 if not told otherwise."),
    ("polynomial", "", "timm",
     "timm.scheduler.PolyLRScheduler(optimizer, t_initial={T}, power=2.0, t_in_epochs=False)", ""),
    ("polynomial", "", "optax",
     "optax.polynomial_schedule({P}, 0.0, power=2, transition_steps={T})", ""),
    ("linear", "", "keras", "{keras}.PolynomialDecay({P}, {T}, 0.0)",
     "Ends at 0.0001 if not told otherwise."),
    ("linear", "", "pytorch",
     "{torch}.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters={T})",
     "Starts at a third if not told otherwise."),
    ("linear", "", "transformers",
     "transformers.get_linear_schedule_with_warmup(optimizer, num_warmup_steps=0, "
     "num_training_steps={T})", ""),
    ("linear", "", "optax",
     "optax.linear_schedule({P}, 0.0, transition_steps={T})", ""),
    ("linear", "", "fastai",
     "fastai.callback.schedule.SchedLin({P}, 0.0)", ""),
    ("cosine", "", "keras", "{keras}.CosineDecay({P}, {T})",
     "alpha is a share of the first rate."),
    ("cosine", "", "pytorch",
     "{torch}.CosineAnnealingLR(optimizer, T_max={T})", _CLIMBS + " eta_min is a rate."),
    ("cosine", "", "transformers",
     "transformers.get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=0, "
     "num_training_steps={T})", _CLIMBS),
    ("cosine", "", "timm",
     "timm.scheduler.CosineLRScheduler(optimizer, t_initial={T}, t_in_epochs=False)", ""),
    ("cosine", "", "optax",
     "optax.cosine_decay_schedule({P}, decay_steps={T})", ""),
    ("cosine", "", "fastai",
     "fastai.callback.schedule.SchedCos({P}, 0.0)", ""),
    ("sigmoid", 'build("sigmoid", {P}, {T}, steepness=80.0, middle=0.5)', "timm",
     "timm.scheduler.TanhLRScheduler(optimizer, t_initial={T}, lb=-20.0, ub=20.0, "
     "t_in_epochs=False)",
     "Not stretched to its end points: gentler curves (timm's default too) differ a little, and "
     "jump to the end."),
    ("wsd", "", "pytorch",
     "{torch}.SequentialLR(optimizer, [{torch}.ConstantLR(optimizer, factor=1.0, total_iters=0), "
     "{torch}.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters={C})], "
     "milestones=[{S}])", ""),
    ("wsd", "", "transformers",
     "transformers.get_wsd_schedule(optimizer, num_warmup_steps=0, num_decay_steps={C}, "
     "num_training_steps={T}, decay_type='linear')", "Its warmup starts at min_lr_ratio."),
    ("wsd", "", "timm",
     "timm.scheduler.WSDLRScheduler(optimizer, t_initial={T}, decay_t={C}, decay_fn='linear', "
     "t_in_epochs=False)", "t_initial leaves out the warmup."),
    ("wsd", "", "optax",
     "optax.join_schedules([optax.constant_schedule({P}), optax.linear_schedule({P}, 0.0, {C})], "
     "[{S}])", ""),
    ("wsd", "build(\"wsd\", {P}, {T}, shape='cosine', end=0.01)", "fastai",
     "learn.fit_flat_cos(1, lr={P}, div_final=100.0, pct_start={level})", ""),
    ("power", "Power({P}, {T}, {W}, cooldown=0.0)", "timm",
     "timm.scheduler.WSDLRScheduler(optimizer, t_initial={tenfold}, decay_t=1, stable_fn='power', "
     "stable_power=0.51, warmup_t={W}, warmup_lr_init={P}, t_in_epochs=False)",
     "Without a cooldown, in which timm's law goes on falling and this one is held."),
    ("triangular", "", "pytorch",
     "{torch}.CyclicLR(optimizer, base_lr={low}, max_lr={P}, step_size_up={half}, "
     "mode='triangular', cycle_momentum=False)",
     "Cycles momentum as well, unless told otherwise. " + _FOR_EVER),
    ("triangular2", "", "pytorch",
     "{torch}.CyclicLR(optimizer, base_lr={low}, max_lr={P}, step_size_up={half}, "
     "mode='triangular2', cycle_momentum=False)", _FOR_EVER),
    ("exp_range", 'Cyclical({low}, {P}, {period}, amplitude="exp_range", gamma=0.1 ** (1 / {T}))',
     "pytorch",
     "{torch}.CyclicLR(optimizer, base_lr={low}, max_lr={P}, step_size_up={half}, "
     "mode='exp_range', gamma=0.1 ** (1 / {T}), cycle_momentum=False)",
     "No step has its max_lr: build(\"exp_range\") sets it so that the highest step has the peak."),
    ("cosine_restarts", 'build("cosine_restarts", {P}, {fours}, cycles=4)', "keras",
     "{keras}.CosineDecayRestarts({P}, {quarter}, t_mul=1.0)",
     "In a graph some restarts come a step late. " + _FOR_EVER),
    ("cosine_restarts", 'build("cosine_restarts", {P}, {fours}, cycles=4)', "pytorch",
     "{torch}.CosineAnnealingWarmRestarts(optimizer, T_0={quarter})", _FOR_EVER),
    ("cosine_restarts", 'build("cosine_restarts", {P}, {fours}, cycles=4)', "transformers",
     "transformers.get_cosine_with_hard_restarts_schedule_with_warmup(optimizer, "
     "num_warmup_steps=0, num_training_steps={fours}, num_cycles=4)",
     "A cycle may be a fraction of steps long; here every one is whole."),
    ("cosine_restarts", 'build("cosine_restarts", {P}, {fours}, cycles=4)', "timm",
     "timm.scheduler.CosineLRScheduler(optimizer, t_initial={quarter}, cycle_limit=4, "
     "t_in_epochs=False)", ""),
    ("cosine_restarts", 'build("cosine_restarts", {P}, {fours}, cycles=4)', "optax",
     "optax.join_schedules([optax.cosine_decay_schedule({P}, {quarter}), "
     "optax.cosine_decay_schedule({P}, {quarter}), optax.cosine_decay_schedule({P}, {quarter}), "
     "optax.cosine_decay_schedule({P}, {quarter})], {quarters})", ""),
    ("one_cycle", 'build("one_cycle", {P}, {T}, convention="pytorch")', "pytorch",
     "{torch}.OneCycleLR(optimizer, max_lr={P}, total_steps={T}, pct_start=0.3, "
     "anneal_strategy='cos', cycle_momentum=False, three_phase=False)",
     _EARLIER + " Cycles momentum as well, unless told otherwise."),
    ("one_cycle", 'build("one_cycle", {P}, {T}, rise={floor})', "optax",
     "optax.cosine_onecycle_schedule({T}, {P}, pct_start=0.3, div_factor=25.0, "
     "final_div_factor=1e4)", "Rounds the rise down; here to the nearest step."),
    ("one_cycle", 'build("one_cycle", {P}, {T}, rise={rise})', "fastai",
     "learn.fit_one_cycle(1, lr_max={P}, div=25.0, div_final=25.0 * 1e4, pct_start={risen})",
     "div_final divides the peak; the peak may lie between two steps."),
    ("warmup", 'build("cosine", {P}, {T}, warmup={W})', "keras",
     "{keras}.CosineDecay({P} / {V}, {M}, warmup_target={P}, warmup_steps={W})",
     "Its warmup comes before decay_steps, not inside them."),
    ("warmup", 'build("cosine", {P}, {T}, warmup={W})', "pytorch",
     "{torch}.SequentialLR(optimizer, [{torch}.LinearLR(optimizer, start_factor=1 / {V}, "
     "total_iters={W}), {torch}.CosineAnnealingLR(optimizer, T_max={M})], milestones=[{W}])",
     "LinearLR starts at a third if not told otherwise. " + _CLIMBS),
    ("warmup", 'build("cosine", {P}, {T}, warmup={W}, convention="pytorch")', "pytorch",
     "{torch}.SequentialLR(optimizer, [{torch}.LinearLR(optimizer, total_iters={W}), "
     "{torch}.CosineAnnealingLR(optimizer, T_max={M})], milestones=[{W}])",
     "Starts at a third. " + _CLIMBS),
    ("warmup", 'build("cosine", {P}, {T}, warmup={W}, convention="huggingface")', "transformers",
     "transformers.get_cosine_schedule_with_warmup(optimizer, num_warmup_steps={W}, "
     "num_training_steps={T})", _FROM_ZERO + " " + _CLIMBS),
    ("warmup", 'build("cosine", {P}, {T}, warmup={W})', "timm",
     "timm.scheduler.CosineLRScheduler(optimizer, t_initial={M}, warmup_t={W}, "
     "warmup_lr_init={P} / {V}, warmup_prefix=True, t_in_epochs=False)", _PREFIX),
    ("warmup", 'build("cosine", {P}, {T}, warmup={W})', "optax",
     "optax.warmup_cosine_decay_schedule({P} / {V}, {P}, warmup_steps={W}, decay_steps={T})",
     "decay_steps counts the warmup in."),
    ("warmup", 'build("linear", {P}, {T}, warmup={W}, convention="huggingface")', "transformers",
     "transformers.get_linear_schedule_with_warmup(optimizer, num_warmup_steps={W}, "
     "num_training_steps={T})", _FROM_ZERO),
    ("warmup", 'build("constant", {P}, {T}, warmup={W}, convention="huggingface")', "transformers",
     "transformers.get_constant_schedule_with_warmup(optimizer, num_warmup_steps={W})", _FROM_ZERO),
    ("warmup", 'build("constant", {P}, {T}, warmup={W})', "optax",
     "optax.warmup_constant_schedule({P} / {V}, {P}, warmup_steps={W})", ""),
    ("sequential", 'Sequential([build("cosine", {P}, {cut}), build("polynomial", {P}, {rest})], '
     "[{cut}])", "pytorch",
     "{torch}.SequentialLR(optimizer, [{torch}.CosineAnnealingLR(optimizer, T_max={cut}), "
     "{torch}.PolynomialLR(optimizer, total_iters={rest}, power=2.0)], milestones=[{cut}])", ""),
    ("sequential", 'Sequential([build("cosine", {P}, {cut}), build("polynomial", {P}, {rest})], '
     "[{cut}])", "optax",
     "optax.join_schedules([optax.cosine_decay_schedule({P}, {cut}), "
     "optax.polynomial_schedule({P}, 0.0, 2, {rest})], [{cut}])", ""),
    ("product", 'Scale(build("cosine", {P}, {T}), build("step", 1.0, {T}))', "pytorch",
     "{torch}.ChainedScheduler([{torch}.CosineAnnealingLR(optimizer, T_max={T}), "
     "{torch}.MultiStepLR(optimizer, milestones={drops}, gamma=0.5)], optimizer=optimizer)",
     _CLIMBS),
]  # fmt: skip


def equivalents(name: str | None = None, peak: float = 0.1, steps: int = 100) -> list[dict]:
    """The calls of other libraries that give the same rates, as rows for a table.

    ``name``: a catalogue name, ``"warmup"``, ``"sequential"`` or ``"product"``; default: all that
    have a peer. ``peak``, ``steps``: the largest rate and the horizon that the calls are for (at
    least 12 steps). Each row is a dict of texts: ``schedule``, ``ours`` (a call of names of this
    module),
    ``library`` (keras, pytorch, transformers, timm, optax or fastai), ``call`` and ``differs``,
    where that library's end points or defaults are others. ``optimizer`` is one whose rate is the
    peak, ``learn`` a fastai learner of ``steps`` batches; the schedulers are stepped after every
    optimizer step (timm's by ``step_update``), fastai's bare ones are asked at step / ``steps``.

    >>> equivalents("cosine", 0.1, 500)[1]["call"]
    'torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=500)'
    """
    known = list(dict.fromkeys(row[0] for row in _ROWS))
    if name is not None:
        _checks.choice("name", name, known)
    numbers = _numbers(_checks.positive("peak", peak), _checks.count("steps", steps, low=12))
    return [
        dict(
            schedule=row[0],
            ours=(row[1] or f'build("{row[0]}", {{P}}, {{T}})').format(**numbers),
            library=row[2],
            call=row[3].format(**numbers),
            differs=row[4],
        )
        for row in _ROWS
        if name in (None, row[0])
    ]


def _numbers(peak: float, steps: int) -> dict:
    """What stands in the calls of these two numbers."""
    rise, cooldown = steps_of(0.1, steps), steps_of(0.2, steps)
    drops = [-(-steps * k // 5) for k in range(1, 5)]
    half, quarter, cut = -(-steps // 6), steps // 4, steps_of(0.4, steps)
    return dict(
        P=peak,
        T=steps,
        W=rise,
        V=rise + 1,
        M=steps - rise,
        C=cooldown,
        S=steps - cooldown,
        level=_share(steps - cooldown, steps),
        rise=steps_of(0.3, steps),
        risen=_share(steps_of(0.3, steps), steps),
        floor=int(0.3 * steps),
        drops=drops,
        before=[step - 1 for step in drops],
        after=[step + 1 for step in drops],
        levels=[peak * 0.5**k for k in range(5)],
        halvings=dict.fromkeys(drops, 0.5),
        scale=steps / 20,
        low=peak / 10,
        half=half,
        period=2 * half,
        quarter=quarter,
        quarters=[quarter, 2 * quarter, 3 * quarter],
        fours=4 * quarter,
        tenfold=10 * steps,
        cut=cut,
        rest=steps - cut,
        keras="keras.optimizers.schedules",
        torch="torch.optim.lr_scheduler",
    )


def _share(part: int, whole: int) -> str:
    """A share as one writes it: 0.3, or 22 / 73."""
    short = repr(part / whole)
    return short if len(short) < 5 else f"{part} / {whole}"
