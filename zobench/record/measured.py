"""The names of what an evaluation and the lens measure, which many columns of a record are made of."""

from zobench.record.schema import Group, Schema, count, number

SIGNED, INFINITE = "−1 to 1", "not a finite number"
GENERATES, OWN_SCORE = "tasks that generate", "`objective=metric` with a function"
_SHARE, _OPTIONS, _TWO = "0 to 1", "tasks with options", "tasks with two options"
_CLASSES = "tasks with options of which one is right"
_BOTH = "tasks with two options, each of them right somewhere"
_GRADIENT = "`lens.gradient=true`"
_NONZERO = "`lens.gradient=true`, unless the gradient is 0 or not finite"

METRICS = Schema(
    Group("What an evaluation measures: `<metric>`", "run/evaluate.py", (
        number("accuracy", "share of right answers", _SHARE, where=_OPTIONS),
        number("accuracy_stderr", "its standard error, √(p(1−p)/n)", _SHARE, where=_OPTIONS),
    )),
    Group("What an evaluation measures: `<metric>`", "run/measures.py", (
        number("macro_f1", "mean F1 of the classes that are right or chosen somewhere", _SHARE, where=_CLASSES),
        number("macro_f1_stderr", "its standard error, by the jackknife", where=_CLASSES),
        number("mcc", "Matthews' correlation of right and chosen classes", SIGNED, where=_CLASSES),
        number("mcc_stderr", "its standard error, by the jackknife", where=_CLASSES),
        number("accuracy_calibrated", "accuracy at the threshold that matches dev's label shares", _SHARE, where=_TWO),
        number("macro_f1_calibrated", "macro_f1 at that threshold", _SHARE, where=_TWO),
        number("mcc_calibrated", "mcc at that threshold", SIGNED, where=_TWO),
        number("auc", "area under the ROC curve of the options' margins", _SHARE, where=_BOTH),
        number("auc_stderr", "its standard error (Hanley and McNeil 1982)", _SHARE, where=_BOTH),
    )),
    Group("What an evaluation measures: `<metric>`", "run/evaluate.py", (
        number("majority", "what always giving the most frequent answer scores in accuracy", _SHARE, where=_CLASSES),
        number("f1", "mean token F1 of the answers", _SHARE, where=GENERATES),
        number("f1_stderr", "its standard error", _SHARE, where=GENERATES),
        number("exact_match", "share of answers that equal a right one", _SHARE, where=GENERATES),
        number("exact_match_stderr", "its standard error", _SHARE, where=GENERATES),
        number("score", "mean of what the function of `objective.score` gives", _SHARE, where=OWN_SCORE),
        number("score_stderr", "its standard error", _SHARE, where=OWN_SCORE),
        number("loss", "mean cross-entropy over the options, or over the answer's tokens", "nats", null=INFINITE),
        count("n", "size of the split", "examples"),
    )),
)  # fmt: skip

READINGS = Schema(
    Group("What the lens measures: `<reading>`; `docs/lens.md` explains them", "zo/lens.py", (
        count("draws", "estimates that were made", where=_GRADIENT),
        count("weights", "trainable weights", where=_GRADIENT),
        number("gradient_norm", "length of the gradient", where=_GRADIENT, null=INFINITE),
        number("cosine", "cosine of the angle between an estimate and the gradient", "−1 to 1", where=_NONZERO),
        number("cosine_stderr", "its standard error, by the jackknife", where=_NONZERO),
        number("gain", "length of the mean estimate along the gradient", "gradients", where=_NONZERO),
        number("gain_stderr", "its standard error", "gradients", where=_NONZERO),
        number("relative_error", "root mean square of `‖ĝ − g‖ / ‖g‖`", where=_NONZERO),
        number("relative_error_stderr", "its standard error", where=_NONZERO),
        number("variance_per_forward", "relative variance that one forward pass buys", where=_NONZERO),
        number("variance_per_forward_stderr", "its standard error", where=_NONZERO),
        number("efficiency", "largest expected decrease per forward pass", "MeZO's", where=_NONZERO),
        number("efficiency_stderr", "its standard error", "MeZO's", where=_NONZERO),
        number("bias", "length of the mean estimate across the gradient, over that along it; signed", where=_NONZERO),
        number("bias_floor", "the bias that one standard error of its square comes to", where=_NONZERO),
        number("precision_error", "difference of `p(ε)` and `p(2ε)`, over `p(2ε)`", null="`p(2ε)` is 0"),
        number("precision_sign", "how often both have one sign", _SHARE),
    )),
)  # fmt: skip
