"""The ledger: what the source article claims, how it is measured, and what the measurement says.

A claim is a sentence with findings, and a finding is a measurable statement: an interval must
lie above, below or within a bound. ``settle`` holds a measurement against the stored verdict and
raises when the measurement no longer supports it, so a notebook can not say what it does not
show.
"""

from dataclasses import dataclass, field

from anneal_utils import _checks
from anneal_utils.statistics import Effect

VERDICTS = (
    "supported",
    "supported with conditions",
    "contested",
    "contradicted",
    "not at this scale",
)
ARTICLE = "How to Use Learning Rate Annealing with Neural Networks?"


class ClaimFailed(AssertionError):
    """A measurement that no longer supports the stored verdict."""


@dataclass(frozen=True)
class Finding:
    """A statement about a measured value: above, below or within ``bound``, or equal to it."""

    name: str
    statement: str
    relation: str
    bound: object

    def __post_init__(self):
        """Refuse a relation or a bound that could not be judged."""
        _checks.choice("relation", self.relation, ("above", "below", "within", "equals"))
        if self.relation == "within":
            low, high = self.bound
            if not low < high:
                _checks.fail("bound", self.bound, "must be a pair (low, high) with low < high")
        elif self.relation != "equals":
            _checks.number("bound", self.bound)

    def holds(self, measured) -> bool:
        """Whether ``measured`` (an Effect; for "equals" any value) supports the statement."""
        if self.relation == "equals":
            return measured == self.bound
        low, high = (measured.low, measured.high)
        if self.relation == "within":
            return self.bound[0] <= low and high <= self.bound[1]
        return low > self.bound if self.relation == "above" else high < self.bound


@dataclass(frozen=True)
class Claim:
    """A sentence of the article, the contrast that measures it, and the verdict so far."""

    id: str
    sentence: str
    notebook: str
    contrast: str = ""
    verdict: str | None = None
    because: str = ""
    findings: tuple[Finding, ...] = field(default=(), repr=False)

    def __post_init__(self):
        """A verdict is one of VERDICTS, and rests on findings."""
        if self.verdict is not None:
            _checks.choice("verdict", self.verdict, VERDICTS)
            if not self.findings:
                _checks.fail("findings", self.findings, f"{self.id} has a verdict without any")


@dataclass(frozen=True)
class Verdict:
    """A settled claim; its text holds no measured digits, so that it can be compared."""

    claim: Claim
    measured: dict

    def __str__(self) -> str:
        """One line per claim and one per finding."""
        seeds = sorted({v.n for v in self.measured.values() if isinstance(v, Effect)})
        count = f" ({' and '.join(map(str, seeds))} seeds)" if seeds else ""
        lines = [f"{self.claim.id}: {self.claim.verdict}{count}. Claim: {self.claim.sentence}"]
        lines += [f"  measured: {finding.statement}" for finding in self.claim.findings]
        return "\n".join(lines)


def settle(claim_id: str, **measured) -> Verdict:
    """The verdict on a claim from its measured findings; ``ClaimFailed`` if they say otherwise.

    One keyword for each finding of the claim: an :class:`Effect`, or the plain value of an exact
    finding. ``ValueError`` for an unknown claim, a missing or an unknown finding.
    """
    claim = by_id(claim_id)
    if claim.verdict is None:
        _checks.fail("claim_id", claim_id, "has no verdict yet: it has not been measured")
    names = [finding.name for finding in claim.findings]
    if set(names) != set(measured):
        _checks.fail("measured", sorted(measured), f"{claim_id} needs exactly {', '.join(names)}")
    for finding in claim.findings:
        value = measured[finding.name]
        if finding.relation != "equals" and not isinstance(value, Effect):
            _checks.fail(finding.name, value, "must be an Effect: an estimate with its interval")
        if not finding.holds(value):
            raise ClaimFailed(
                f"{claim_id} ({claim.sentence}): the verdict {claim.verdict!r} rests on "
                f"{finding.statement!r}, but {finding.name} was measured as {value} and is not "
                f"{finding.relation} {finding.bound}."
            )
    return Verdict(claim, measured)


def by_id(claim_id: str) -> Claim:
    """The claim with this id."""
    found = {claim.id: claim for claim in LEDGER}
    return found[_checks.choice("claim_id", claim_id, found)]


def markdown_table() -> str:
    """The ledger as the Markdown table of the README."""
    rows = ["| | the article says | measured here | in |", "|---|---|---|---|"]
    for claim in LEDGER:
        verdict = f"**{claim.verdict}**: {claim.because}" if claim.verdict else "not measured yet"
        link = f"[{claim.notebook[:2]}](notebooks/{claim.notebook}.ipynb)"
        where = link if claim.verdict else claim.notebook[:2]
        rows.append(f"| {claim.id} | {claim.sentence} | {verdict} | {where} |")
    return "\n".join(rows) + "\n"


LEDGER: tuple[Claim, ...] = (
    Claim(
        "C1",
        "In the demo the training loss falls clearly faster with the staircase than without.",
        "02_step_decay",
        "varied: staircase or constant from 0.01; fixed: all else; 200 paired seeds",
        "contradicted",
        "with paired seeds the staircase ends higher; single pairs of runs often mislead",
        (
            Finding(
                "replica",
                "the staircase ends with the higher training loss, same seeds",
                "above",
                0,
            ),
            Finding(
                "single_pair",
                "yet over a quarter and under half of single unpaired runs show it lower",
                "within",
                (0.25, 0.5),
            ),
            Finding(
                "continued", "a second fit that continues the first model ends lower", "below", 0
            ),
        ),
    ),
    Claim(
        "C2",
        "The rate is 1e-2 at the start and 4e-3 at the tenth epoch.",
        "02_step_decay",
        "recorded during fit, one significant digit",
        "supported",
        "the rates applied in fit are these",
        (
            Finding("first", "the first epoch trains at 1e-2", "equals", 0.01),
            Finding("tenth", "the tenth epoch trains at 4e-3", "equals", 0.004),
        ),
    ),
    Claim(
        "C3",
        "Decaying the rate improves the result and cuts training time.",
        "02_step_decay",
        "varied: schedule; tuned: peak, 12 trials each; 40 paired fresh seeds",
        "supported with conditions",
        "with tuned peaks, yes, on the demo with noisy and with exact gradients, and with wrong "
        "labels in half the steps; not at the article's own rate",
        (
            Finding(
                "untuned",
                "at the article's own rate annealing raises the training loss",
                "above",
                0,
            ),
            Finding(
                "demo", "demo, tuned: linear decay ends lower than a constant rate", "below", 0
            ),
            Finding(
                "full_batch",
                "demo, tuned, exact gradients (no batch noise): linear decay ends lower too",
                "below",
                0,
            ),
            Finding(
                "noisy_labels",
                "digits with wrong labels, tuned: linear decay ends lower",
                "below",
                0,
            ),
            Finding(
                "clean_digits",
                "clean digits, tuned: the difference is within 10 %",
                "within",
                (-0.1, 0.1),
            ),
            Finding(
                "half_time",
                "wrong labels: linear with half the steps beats constant with all",
                "below",
                0,
            ),
        ),
    ),
    Claim(
        "C4",
        "A fairly large early rate generalises better.",
        "06_warmup",
        "varied: the early rate; held-out values read at equal training loss; 20 paired seeds",
        "supported with conditions",
        "at equal training loss a large rate, then a small one, is a fraction of a point ahead; "
        "with wrong labels a rate that stays large is not",
        (
            Finding(
                "noisy_accuracy",
                "wrong labels, equal training loss: large then small is more accurate than small",
                "above",
                0,
            ),
            Finding("noisy_loss", "and has the lower held-out loss", "below", 0),
            Finding(
                "clean_accuracy",
                "clean labels, equal training loss: large then small is more accurate than small",
                "above",
                0,
            ),
            Finding("clean_loss", "and has the lower held-out loss", "below", 0),
            Finding(
                "large_constant",
                "wrong labels: a rate that stays large is not a fifth of a point ahead of small",
                "below",
                0.2,
            ),
        ),
    ),
    Claim(
        "C5",
        "A lower rate reduces stochastic noise and oscillation at the optimum.",
        "02_step_decay",
        "varied: the rate; closed form beside measurement; a drop against none",
        "supported",
        "the noise floor follows the closed form; a drop lowers the loss at once",
        (
            Finding(
                "floor",
                "on the noisy bowl the floor at rate 0.1 is below the floor at 0.4",
                "below",
                0,
            ),
            Finding(
                "formula",
                "the measured floor is within 5 % of the closed form",
                "within",
                (0.95, 1.05),
            ),
            Finding(
                "drop",
                "least squares: two epochs after a tenfold drop the loss is lower than without",
                "below",
                0,
            ),
        ),
    ),
    Claim(
        "C6",
        "The staircase works nicely in practice.",
        "02_step_decay",
        "varied: schedule; tuned: peak and knobs, 12 trials each; 40 paired fresh seeds",
        "supported with conditions",
        "it beats a constant rate on least squares and with wrong labels; how it stands to linear "
        "decay depends on its drops and on the problem",
        (
            Finding(
                "least_squares",
                "least squares: tuned step decay ends lower than constant",
                "below",
                0,
            ),
            Finding(
                "noisy_labels",
                "digits with wrong labels: tuned step decay ends lower than constant",
                "below",
                0,
            ),
            Finding(
                "shallow_drops",
                "least squares: with three drops to a half it ends above linear decay",
                "above",
                0,
            ),
            Finding(
                "deep_drops",
                "least squares: with three drops to a fifth it is within 10 % of linear decay",
                "within",
                (-0.1, 0.1),
            ),
            Finding(
                "deep_drops_demo",
                "demo: with the same three it ends above linear decay",
                "above",
                0,
            ),
        ),
    ),
    Claim(
        "C7",
        "Exponential decay slows every step and is smooth.",
        "03_exponential_decay",
        "formula; varied: end value, shape; tuned: peak; 24 paired fresh seeds",
        "supported",
        "by its formula; yet at its own peak and the same end a straight line ends lower",
        (
            Finding("falls", "the rate falls at every step", "equals", True),
            Finding("smooth", "every step multiplies it by the same factor", "equals", True),
            Finding("bounded", "with a fixed factor the distance stays bounded", "equals", True),
            Finding(
                "low_end", "wrong labels: an end at one per cent beats a constant rate", "below", 0
            ),
            Finding(
                "article_matched",
                "demo: exponential ends above linear decay to the same end",
                "above",
                0,
            ),
            Finding(
                "noisy_labels_matched",
                "wrong labels: exponential ends above linear decay to the same end",
                "above",
                0,
            ),
        ),
    ),
    Claim(
        "C8",
        "Raising the rate in cycles hurts in the short term and can generalise better.",
        "04_cyclical",
        "varied: schedule; tuned: peak, 7 trials each; 24 paired fresh seeds",
        "supported with conditions",
        "each rise costs loss at once; the end is a little lower with wrong labels, far higher "
        "on least squares",
        (
            Finding("harm", "wrong labels: the epoch after a restart is worse", "above", 0),
            Finding("recovers", "the end of the run is better than before the restart", "below", 0),
            Finding(
                "restarts_constant",
                "wrong labels: warm restarts end below a constant rate",
                "below",
                0,
            ),
            Finding(
                "restarts_linear", "wrong labels: warm restarts end below linear decay", "below", 0
            ),
            Finding(
                "least_squares",
                "least squares: warm restarts end above linear decay",
                "above",
                0,
            ),
            Finding(
                "snapshots",
                "wrong labels: the snapshot ensemble ends above one linear decay",
                "above",
                0,
            ),
        ),
    ),
    Claim(
        "C9",
        "Adaptive methods are often worse than SGD on unseen data; annealed SGD beats them.",
        "05_adaptive_optimizers",
        "varied: SGD or Adam x constant or linear; tuned: peak, 7 trials each; 24 fresh seeds",
        "contested",
        "no difference on the digits, Adam ahead on a deep network and on rare classes; true of a "
        "problem built for it, in full batches",
        (
            Finding(
                "full_batch",
                "constructed problem, full batches: SGD is right on all unseen samples, Adam on "
                "none of the minority",
                "equals",
                {"SGD": 1.0, "Adam": 0.6},
            ),
            Finding(
                "batches", "in batches of 20 both are right on all unseen samples", "equals", True
            ),
            Finding("wilson_loss", "though Adam's squared error ends above SGD's", "above", 1),
            Finding(
                "digits_accuracy",
                "digits: Adam constant and SGD linear are within one per cent of accuracy",
                "within",
                (-0.01, 0.01),
            ),
            Finding("article", "demo, both constant: Adam ends lower", "below", 0),
            Finding(
                "deep", "deep network: SGD linear ends above Adam with a constant rate", "above", 0
            ),
            Finding("zipf", "rare classes, both linear: Adam ends lower", "below", 0),
        ),
    ),
    Claim(
        "C10",
        "AdaGrad, AdaDelta, RMSprop and Adam converge quickly.",
        "05_adaptive_optimizers",
        "varied: optimizer, default or tuned rate (7 trials); steps to a held-out loss; 24 seeds",
        "supported with conditions",
        "at tuned rates Adam and AdaDelta arrive first; at Keras's defaults none arrives",
        (
            Finding("adam", "digits: tuned Adam needs fewer steps than tuned SGD", "below", 0),
            Finding("adadelta", "so does tuned AdaDelta", "below", 0),
            Finding("rmsprop", "tuned RMSprop is at most a tenth slower", "below", 0.1),
            Finding("adagrad", "tuned AdaGrad is at most a tenth slower", "below", 0.1),
            Finding(
                "never_at_default",
                "at Keras's default rates none arrives within 20 epochs",
                "equals",
                [f"{name}, default" for name in ("adadelta", "adagrad", "adam", "rmsprop", "sgd")],
            ),
        ),
    ),
    Claim(
        "C11",
        "Switching from Adam to SGD, and loss-based rates, are effective.",
        "05_adaptive_optimizers",
        "varied: method; tuned: peak, 7 trials each; 24 fresh seeds; each against its rival",
        "supported with conditions",
        "loss-based rates beat a constant rate, not a linear decay; switching gains nothing",
        (
            Finding("swats", "demo: SWATS ends no lower than Adam", "above", -0.05),
            Finding("adabound", "demo: AdaBound ends above Adam", "above", 0),
            Finding("plateau", "demo: the plateau rule ends below a constant rate", "below", 0),
            Finding("polyak", "demo: Polyak's step ends no higher than plain SGD", "below", 0.1),
            Finding(
                "hypergradient", "demo: hypergradient descent ends below plain SGD", "below", 0
            ),
            Finding(
                "polyak_linear", "but Polyak's step ends above SGD with linear decay", "above", 0
            ),
            Finding("hypergradient_linear", "and so does hypergradient descent", "above", 0),
        ),
    ),
    Claim(
        "C12",
        "Warmup prevents instability and allows a larger rate.",
        "06_warmup",
        "varied: warmup, peak, network, optimizer; 20 paired seeds at every peak",
        "supported with conditions",
        "for a transformer with Adam and with SGD, for a deep plain network only with Adam; hardly "
        "a regulariser",
        (
            Finding("failures", "transformer, Adam, peak 0.04: fewer runs fail", "below", 0),
            Finding("adam_usable", "transformer, Adam: more peaks are usable", "above", 0),
            Finding("adam_peak", "transformer, Adam: the best peak is higher", "above", 0),
            Finding(
                "adam_own_peak", "transformer, Adam, each at its own peak: ends lower", "below", 0
            ),
            Finding("sgd_usable", "transformer, SGD: more peaks are usable", "above", 0),
            Finding(
                "sgd_own_peak", "transformer, SGD, each at its own peak: ends lower", "below", 0
            ),
            Finding(
                "deep_adam_own_peak",
                "deep plain network, Adam, each at its own peak: ends lower",
                "below",
                0,
            ),
            Finding(
                "deep_sgd_usable",
                "deep plain network, SGD: the usable range changes by less than a factor of two",
                "within",
                (-1, 1),
            ),
            Finding(
                "digits_equal",
                "digits with wrong labels, equal training loss: held-out loss within 5 per cent",
                "within",
                (-0.05, 0.05),
            ),
            Finding(
                "deep_equal",
                "deep plain network, Adam, equal training loss: lower held-out loss",
                "below",
                0,
            ),
        ),
    ),
    Claim(
        "C13",
        "Too low a rate is slow, too high brings trouble; the best depends on model and data.",
        "01_learning_rate",
        "varied: the constant rate; fixed: SGD, steps, batches; 40 paired seeds, 9 rates",
        "supported",
        "both ends of the grid lose to the best rate, and the best rates of two networks differ",
        (
            Finding("article_low", "demo: the lowest rate ends above the best one", "above", 0),
            Finding("article_high", "demo: the highest rate ends above the best one", "above", 0),
            Finding("digits_low", "digits: the lowest rate ends above the best one", "above", 0),
            Finding("digits_high", "digits: the highest rate ends above the best one", "above", 0),
            Finding(
                "decades_apart", "the best rate is higher on digits than on the demo", "above", 0
            ),
            Finding(
                "edge",
                "on a bowl, training falls below rate x curvature = 2, grows above",
                "equals",
                True,
            ),
        ),
    ),
    Claim(
        "C14",
        "With the scheduler the optimizer's own rate is ignored.",
        "02_step_decay",
        "executable proof of both ways to set a rate in Keras",
        "supported with conditions",
        "a number is overwritten every epoch; a schedule object makes Keras refuse",
        (
            Finding(
                "number_ignored",
                "a rate given as a number is overwritten by the callback",
                "equals",
                True,
            ),
            Finding(
                "object_refused", "with a schedule object Keras raises TypeError", "equals", True
            ),
        ),
    ),
    Claim(
        "C15",
        "Hand-crafted schedules remain essential.",
        "05_adaptive_optimizers",
        "varied: method; tuned: peak, 7 trials each; four horizons; 24 paired fresh seeds",
        "supported with conditions",
        "against a constant rate, yes; Schedule-Free keeps up with planned decay, but not beyond "
        "the horizon it was tuned for",
        (
            Finding("average", "Schedule-Free at its average ends below its y", "below", 0),
            Finding("free_steady", "and below Adam at a constant rate, 16 epochs", "below", 0),
            Finding(
                "free_planned_8",
                "8 epochs: within 5 % of linear decay planned for them",
                "within",
                (-0.05, 0.05),
            ),
            Finding("free_planned_16", "16 epochs: at most a tenth above it", "below", 0.1),
            Finding("free_planned_32", "32 epochs: above it", "above", 0),
            Finding(
                "steady_planned_8", "a constant rate ends above planned decay, 8 epochs", "above", 0
            ),
        ),
    ),
)
