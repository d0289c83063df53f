"""Every weight trains, and decays towards where it started instead of towards zero.

Source: Li, Grandvalet and Davoine 2018, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks",
arXiv:1802.01483 (L2-SP). Theirs is a penalty in the loss; ours is decoupled from the gradient, as weight decay is in
AdamW (arXiv:1711.05101). The new head has ordinary weight decay.
"""

from dataclasses import dataclass, replace

from whet.backbones.backbone import Backbone
from whet.errors import ConfigError
from whet.methods.method import START, Descend, InPlace, Solve, Stage, check_rates, layerwise
from whet.numeric import require_numbers


@dataclass(frozen=True, kw_only=True)
class L2SP(InPlace):
    """Full tuning that stays near the pre-trained weights; for few rows, or where forgetting hurts.

    Args:
        strength: Share of its distance that a weight gives back per update and unit of learning rate.
        decay: Factor on the learning rate from each block to the one below it.
        learning_rate: Of the top block.
        epochs: Passes over the training rows at most.
        solve: How the head that it starts from is fitted.
    """

    strength: float = 10.0
    decay: float = 0.9
    learning_rate: float = 2e-4
    epochs: int = 8
    solve: Solve = START

    def __post_init__(self) -> None:
        require_numbers(self, "method")
        check_rates(self.decay, self.learning_rate, self.epochs)
        if not self.strength > 0:
            raise ConfigError(
                f"strength cannot be {self.strength!r}.",
                where="method.strength",
                fix="use a value above 0, or the method 'full' for none",
            )

    def stages(self, backbone: Backbone) -> list[Stage]:
        groups = tuple(replace(group, pull=self.strength) for group in layerwise(backbone, -1, self.decay))
        return [Stage(name="probe", fit=self.solve), Stage(name="l2-sp", fit=Descend(), groups=groups)]
