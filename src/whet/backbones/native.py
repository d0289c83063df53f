"""Classifiers of the transformers library with their own head: the body is all before their last linear layer."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from whet.backbones.backbone import HeadedModel
from whet.errors import ModelError


class NativeBody(nn.Module):
    """A classifier of the transformers library whose last linear layer was taken out: returns what went into it.

    Args:
        model: The classifier; its layer called ``head`` is replaced by the identity.
        head: Dotted name of that layer.
    """

    pooled = "as the family's own head reads it"

    def __init__(self, model: nn.Module, head: str) -> None:
        super().__init__()
        self.model = model
        self.head_name = head
        linear = model.get_submodule(head)
        assert isinstance(linear, nn.Linear)
        self.width = linear.in_features
        parent, _, leaf = head.rpartition(".")
        setattr(model.get_submodule(parent), leaf, nn.Identity())

    def forward(self, **inputs: Tensor) -> Tensor:
        features: Tensor = self.model(**inputs).logits
        return features.float()


def last_linear(model: nn.Module, outputs: int, folder: Path) -> str:
    """The name of the classifier's last linear layer with ``outputs`` outputs."""
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and m.out_features == outputs]
    if not names:
        raise ModelError(
            f"The {type(model).__name__} has no linear layer with {outputs} outputs at its end.",
            where=str(folder),
            fix="choose another model, or for text use backbone.head=pooled",
        )
    return str(names[-1])


def with_own_head(classifier: nn.Module, missing: Sequence[str], outputs: int, folder: Path) -> HeadedModel:
    """A packaged classifier as it was tuned, its last linear layer the head.

    Args:
        missing: Tensors that its file lacks.

    Raises:
        ModelError: there are such.
    """
    if missing:
        raise ModelError(
            f"The weights lack {missing[0]!r}.", where=str(folder), fix="restore the model folder from its run"
        )
    name = last_linear(classifier, outputs, folder)
    head = classifier.get_submodule(name)
    body = NativeBody(classifier, name)
    model = HeadedModel(body, body.width, outputs)
    model.head.load_state_dict(head.state_dict())
    return model.eval()
