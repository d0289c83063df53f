"""Do whet's full method and the Trainer move the same tensors? Counts both; prints one JSON object."""

import json
import tempfile
from pathlib import Path

from transformers import AutoModelForSequenceClassification

from whet.backbones.source import find_model
from whet.backbones.text_encoder import TextEncoder
from whet.methods import Full
from whet.modalities.model_folder import transformer_folder

CLASSES = 77


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        model = find_model(None, cache=Path(scratch))
    backbone = TextEncoder(head="native").load(model.folder, outputs=CLASSES, seed=0)
    stage = Full().stages(backbone)[-1]
    names = {name for group in stage.groups for name in group.names} | set(backbone.created)
    sizes = {name: parameter.numel() for name, parameter in backbone.model.named_parameters()}
    peer = AutoModelForSequenceClassification.from_pretrained(transformer_folder(model.folder), num_labels=CLASSES)
    theirs = {name: parameter.numel() for name, parameter in peer.named_parameters()}
    print(
        json.dumps(
            {
                "whet_tensors": len(names),
                "whet_parameters": sum(sizes[name] for name in names),
                "trainer_tensors": len(theirs),
                "trainer_parameters": sum(theirs.values()),
            }
        )
    )


if __name__ == "__main__":
    main()
