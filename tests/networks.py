"""Small convolutional networks of every architecture, as bare files of tensors hold them."""

import torch
from torch import Tensor

from whet.backbones.convnets.architecture import Architecture
from whet.backbones.convnets.cifar_resnet import CifarResNet
from whet.backbones.convnets.mobilenet_v2 import MobileNetV2
from whet.backbones.convnets.mobilenet_v3 import Inverted, MobileNetV3
from whet.backbones.convnets.resnet import ResNet, Stage
from whet.backbones.convnets.squeezenet import SqueezeNet
from whet.backbones.convnets.vgg import VGG

V2 = tuple((4 * n, 4 + 4 * (n // 4)) for n in range(1, 18))
V3 = tuple(Inverted(8 + 4 * n, 8 + 4 * (n // 4), 3 if n % 2 else 5, 4 if n % 3 else 0) for n in range(1, 12))
TINY: dict[str, Architecture] = {
    "resnet": ResNet(8, 7, 3, False, (Stage(2, 8, 8, projected=False), Stage(2, 16, 16))),
    "resnet-small-pictures": ResNet(8, 3, 1, False, (Stage(1, 8, 8, projected=False), Stage(1, 16, 16))),
    "bottleneck": ResNet(8, 7, 3, True, (Stage(2, 4, 16), Stage(2, 8, 32))),
    "resnext": ResNet(8, 7, 3, True, (Stage(1, 8, 16, 4), Stage(2, 16, 32, 4))),
    "cifar-resnet": CifarResNet((2, 2, 2), (8, 16, 32)),
    "vgg": VGG(3, ((4,), (8, 8)), False, (16, 12)),
    "vgg-norms": VGG(3, ((4, 4), (8,)), True, (16, 12)),
    "mobilenet-v2": MobileNetV2(3, 4, V2, 32),
    "mobilenet-v3": MobileNetV3(3, 8, V3, 32, 40),
    "squeezenet-1.0": SqueezeNet("1_0", 8, 3, ((4, 8, 8),) * 8),
    "squeezenet-1.1": SqueezeNet("1_1", 8, 3, ((4, 8, 8),) * 8),
}


def tensors_of(architecture: Architecture, classes: int = 5) -> dict[str, Tensor]:
    """Random weights and statistics under the names that such files have."""
    torch.manual_seed(0)
    body = architecture.body()
    body.train()
    with torch.no_grad():
        side = 64
        for _ in range(2):
            width = body(torch.randn(4, next(iter(body.parameters())).shape[1], side, side)).shape[1]
    head = {
        f"{architecture.head}.weight": torch.randn(classes, width),
        f"{architecture.head}.bias": torch.randn(classes),
    }
    return {name: tensor.clone() for name, tensor in body.state_dict().items()} | head
