"""The field's methods, one short file each: the formula, a pure loss, then what `train.fit` takes.

    fit(student, data, recipe, loss=methods.DKD(), soft_targets=targets)                   # logits
    fit(student, data, recipe, loss=methods.SP(["3"], ["3"]), teacher=teacher)             # layers

Hinton's own is `losses.Distillation`. A new method on logits is one file with a callable
`(logits, teacher_logits, labels) -> scalar`; one on layers is a subclass of `FeatureMethod` with a
`compare`. Neither needs a change elsewhere.
"""

from .attention import AttentionTransfer
from .dist import DIST
from .dkd import DKD
from .fitnet import FitNet
from .logit_mse import LogitMSE
from .nst import NST
from .parts import FeatureMethod
from .pkt import PKT
from .reverse_kl import ReverseKL
from .rkd import RKD
from .sp import SP
from .standardised import StandardisedDistillation
from .teacher_free import TeacherFree
from .vid import VID

__all__ = [
    "AttentionTransfer", "DIST", "DKD", "FeatureMethod", "FitNet", "LogitMSE", "NST", "PKT", "RKD", "ReverseKL", "SP",
    "StandardisedDistillation", "TeacherFree", "VID",
]  # fmt: skip
