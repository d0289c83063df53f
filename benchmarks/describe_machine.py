"""What was it measured on? Processor, cores, memory, versions; prints one JSON object."""

import json
import platform
from importlib.metadata import version

import psutil
import torch

from whet.training.machine import processor_features, processor_name, usable_cores

PACKAGES = (
    "whet", "torch", "transformers", "sentence-transformers", "scikit-learn", "accelerate", "tokenizers", "numpy",
)  # fmt: skip


def main() -> None:
    facts = {
        "processor": processor_name(),
        "cores": usable_cores(),
        "features": list(processor_features()),
        "memory": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in PACKAGES},
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
