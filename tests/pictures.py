"""Generated pictures of shapes, folders of them, and tiny models of pictures with random weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

SHAPES = ("disc", "square", "cross")


def picture(shape: str, seed: int, side: int = 32) -> Image.Image:
    """A shape of a random colour, place and size on a noisy ground."""
    draw = np.random.default_rng([seed, SHAPES.index(shape)])
    ground = draw.integers(0, 90, 3) + draw.integers(0, 25, (side, side, 3))
    image = Image.fromarray(ground.astype(np.uint8))
    pen, size = ImageDraw.Draw(image), int(draw.integers(side // 4, side // 2))
    left, top = (int(draw.integers(0, side - size)) for _ in range(2))
    colour = tuple(int(part) for part in draw.integers(150, 255, 3))
    box = (left, top, left + size, top + size)
    if shape == "disc":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    else:
        pen.line((left, top + size // 2, left + size, top + size // 2), fill=colour, width=3)
        pen.line((left + size // 2, top, left + size // 2, top + size), fill=colour, width=3)
    return image


def class_folders(folder: Path, each: int = 40, start: int = 0) -> Path:
    """A folder a shape."""
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True)
        for number in range(each):
            picture(shape, start + number).save(folder / shape / f"{number:03d}.png")
    return folder


def tiny_image_model(folder: Path, kind: str = "resnet", side: int = 32, **settings: Any) -> Path:
    """A classifier of the transformers library with random weights, its running statistics taken from noise."""
    import transformers

    from whet.backbones.text_layout import quiet_transformers

    configs: dict[str, tuple[str, dict[str, Any]]] = {
        "resnet": ("ResNet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 2], "layer_type": "basic"}),
        "mobilenet_v2": ("MobileNetV2", {"depth_multiplier": 0.1, "classifier_dropout_prob": 0.0}),
        "convnext": ("ConvNext", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}),
        "vit": (
            "ViT",
            {
                "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32,
                "patch_size": 8,
            },
        ),
        "swin": ("Swin", {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}),
    }  # fmt: skip
    name, shape = configs[kind]
    sized = {"image_size": side} if kind in ("vit", "swin", "mobilenet_v2", "convnext") else {}
    torch.manual_seed(0)
    with quiet_transformers():
        config = getattr(transformers, f"{name}Config")(**(shape | sized | settings))
        model = getattr(transformers, f"{name}ForImageClassification")(config)
        model.train()
        with torch.no_grad():
            for _ in range(3):
                model(torch.randn(16, 3, side, side))
        model.eval().save_pretrained(folder)
    processor = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": side, "width": side},
        "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder
