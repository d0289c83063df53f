"""How does a network read pictures of other channels than it was trained on? Its first convolution is adapted.

One channel takes the sum of the weights, which answers a grey picture as three equal channels do; more take those that
there are in turn, scaled so that what comes out is as large as before.
"""

from torch import nn

from whet.errors import ModelError


def first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """The name of the convolution that reads pictures, and itself; None where there is none."""
    found = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
    return next(found, None)


def read_channels(model: nn.Module, channels: int, where: str) -> None:
    """Let a network read so many channels, in place.

    Raises:
        ModelError: it has no plain convolution that reads pictures.
    """
    found = first_convolution(model)
    if found is None or found[1].groups != 1:
        raise ModelError(
            f"The model's first layer is no plain convolution, so it cannot read {channels} channels.",
            where=where,
            fix="choose a model that reads so many, or leave modality.channels out",
        )
    convolution, own = found[1], found[1].in_channels
    if own == channels:
        return
    weight = convolution.weight.detach()
    adapted = weight.sum(1, keepdim=True) if channels == 1 else weight[:, [n % own for n in range(channels)]]
    adapted = adapted * (own / channels if channels > 1 else 1.0)
    convolution.weight, convolution.in_channels = nn.Parameter(adapted.contiguous()), channels
    for part in model.modules():  # what families compare pictures with
        if getattr(part, "num_channels", None) == own:
            part.num_channels = channels  # type: ignore[assignment]
    config = getattr(model, "config", None)
    if config is not None:
        config.num_channels = channels
