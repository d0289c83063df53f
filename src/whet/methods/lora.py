"""LoRA: a low-rank update beside chosen linear layers; everything else pre-trained stays frozen.

Sources: Hu et al. 2021, "LoRA", arXiv:2106.09685. Variants: rank-stabilised scaling (Kalajdzievski 2023,
arXiv:2312.03732); DoRA (Liu et al. 2024, arXiv:2402.09353); LoRA+, a higher rate for the second matrix (Hayou et al.
2024, arXiv:2402.12354); starts from the principal singular vectors, PiSSA (Meng et al. 2024, arXiv:2404.02948), or from
a QR decomposition, OLoRA (Büyükakyüz 2024, arXiv:2406.01775). peft does the modules. Ours starts from the probe's head.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from whet.backbones.backbone import Backbone
from whet.errors import ConfigError
from whet.methods.adapter import chosen_layers, config_of, insert, inserted, merged
from whet.methods.method import LEAST_STEPS, START, Descend, Place, RateGroup, Size, Solve, Stage, check_rates
from whet.numeric import require_numbers

MANY_PARAMETERS = 300_000_000
"""Above, the ladder climbs it in place of every weight, whose masters, moments and best copies take 32 bytes each."""
STARTS = {"zero": True, "pissa": "pissa", "olora": "olora"}


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Train ``(alpha / rank) * up @ down`` beside linear layers of the blocks; merged into them at the end.

    Args:
        rank: Inner width of the update.
        alpha: Strength of the update, no unit. Keep ``alpha / rank`` fixed when comparing ranks.
        layers: "all-linear" (Biderman et al. 2024, arXiv:2405.09673: attention alone learns less), "attention", or
            names of linear layers within a block.
        rank_stabilized: Scale by ``alpha / sqrt(rank)`` instead.
        directions: Whether magnitudes train apart from directions (DoRA); slower steps.
        start: "zero" changes nothing at first; "pissa" and "olora" rewrite frozen weights, before anything is cached.
        up_rate: Factor on the learning rate of ``up`` (LoRA+); 1 is plain LoRA.
        learning_rate: Of ``down``; that of Hu et al. for small encoders, and best in trials (benchmarks/LOG.md).
        epochs: Passes over the training rows at most.
        solve: How the head that it starts from is fitted.
    """

    rank: int = 16
    alpha: float = 32.0
    layers: tuple[str, ...] = ("all-linear",)
    rank_stabilized: bool = False
    directions: bool = False
    start: Literal["zero", "pissa", "olora"] = "zero"
    up_rate: float = 1.0
    learning_rate: float = 5e-4
    epochs: int = 8
    solve: Solve = START
    stops: ClassVar[bool] = True
    least_steps: ClassVar[int] = LEAST_STEPS
    height: ClassVar[int] = 3

    def __post_init__(self) -> None:
        require_numbers(self, "method")
        check_rates(1.0, self.learning_rate, self.epochs)
        holds = {
            "rank": (self.rank >= 1, "start from 8 or 16; larger ranks may help when there are many examples"),
            "alpha": (self.alpha > 0, "twice the rank is a common choice"),
            "start": (self.start in STARTS, f"use one of {', '.join(STARTS)}"),
            "up_rate": (self.up_rate > 0, "use 1, or 4 to 16 for LoRA+"),
        }
        for name, (fits, fix) in holds.items():
            if not fits:
                raise ConfigError(f"{name} cannot be {getattr(self, name)!r}.", where=f"method.{name}", fix=fix)

    @property
    def starts_equal(self) -> bool:
        return self.start == "zero"

    @classmethod
    def place(cls, size: Size) -> Place | None:
        many = size.parameters > MANY_PARAMETERS
        return Place(f"above {MANY_PARAMETERS // 10**6} million parameters") if many else None

    def prepare(self, backbone: Backbone) -> Backbone:
        settings = {
            "r": self.rank,
            "lora_alpha": self.alpha,
            "use_rslora": self.rank_stabilized,
            "use_dora": self.directions,
            "init_lora_weights": STARTS[self.start],
        }
        return insert(backbone, config_of("LORA", settings, chosen_layers(backbone, self.layers)))

    def stages(self, backbone: Backbone) -> list[Stage]:
        names = inserted(backbone)
        up = tuple(name for name in names if ".lora_B." in name)
        down = tuple(name for name in names if ".lora_B." not in name)
        groups = (RateGroup(names=down), RateGroup(names=up, scale=self.up_rate))
        return [Stage(name="probe", fit=self.solve), Stage(name="lora", fit=Descend(), groups=groups)]

    def finish(self, backbone: Backbone) -> Backbone:
        return merged(backbone)
