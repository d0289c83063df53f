"""Which class does a name stand for? The only place where a name becomes a class.

Literal tables of strings, loaded lazily, plus the entry-point group ``whet.members`` through which other
packages add rows (entry name ``kind.name``, value ``module:attribute``). Plan files hold names, never import
paths. A new member is one file and one row here.
"""

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NamedTuple

from whet.errors import ConfigError, closest

FEW = 6
"""Members of a kind that an error names all."""


class Member(NamedTuple):
    """Where a member lives (``module:attribute``), what it is in a phrase, and how it is written in a sentence.

    ``modality`` names the one kind of input that it is for; empty where it is for any. A learner of one kind is a
    baseline of every run on that kind, and augmentations of a kind are what rows of it are asked about.
    """

    path: str
    summary: str
    title: str = ""
    modality: str = ""


READERS = {
    "csv": Member("whet.data.read_csv:read_csv", "comma, semicolon, tab or pipe separated text, plain or gzip"),
    "json": Member("whet.data.read_json:read_json", "a list of objects, or one object a line, plain or gzip"),
    "parquet": Member("whet.data.read_arrow:read_parquet", "Parquet"),
    "arrow": Member("whet.data.read_arrow:read_arrow", "Arrow IPC file or stream"),
    "folder": Member("whet.data.read_folder:read_folder", "a folder with train, valid and test files"),
    "class-folders": Member("whet.data.read_class_folders:read_class_folders", "a folder of files for each class"),
    "objects": Member("whet.data.read_objects:read_objects", "frames, datasets and lists of dicts in memory"),
}

CHECKS = {
    "missing": Member("whet.data.check_missing:check_missing", "rows without an input or a target"),
    "duplicates": Member("whet.data.check_duplicates:check_duplicates", "equal and nearly equal inputs"),
    "conflicts": Member("whet.data.check_conflicts:check_conflicts", "one input under two targets"),
    "leakage": Member("whet.data.check_leakage:check_leakage", "inputs or groups on two sides of a split"),
    "classes": Member("whet.data.check_classes:check_classes", "rare, lopsided and unseen classes"),
    "markup": Member(
        "whet.data.check_markup:check_markup", "HTML, control characters and damaged text", modality="text"
    ),
    "lengths": Member("whet.data.check_lengths:check_lengths", "very long and very short texts", modality="text"),
    "pictures": Member(
        "whet.modalities.check_pictures:check_pictures",
        "blank and long images, mixed sizes, telling marks",
        modality="image",
    ),
    "leaking-columns": Member("whet.data.check_columns:check_columns", "other columns that give the target away"),
}

MODALITIES = {
    "text": Member("whet.modalities.text:Text", "one or two pieces of text to token ids"),
    "image": Member("whet.modalities.image:Image", "a picture to pixels"),
}

AUGMENTATIONS = {
    "crop": Member("whet.modalities.augmentations.crop:Crop", "a part, sized up", modality="image"),
    "flip": Member("whet.modalities.augmentations.flip:Flip", "left and right exchanged", modality="image"),
    "flip-vertical": Member(
        "whet.modalities.augmentations.flip:FlipVertical", "up and down exchanged", modality="image"
    ),
    "rotate": Member("whet.modalities.augmentations.rotate:Rotate", "turned a little", modality="image"),
    "colour": Member("whet.modalities.augmentations.colour:Colour", "brightness, contrast, colour", modality="image"),
    "blur": Member("whet.modalities.augmentations.blur:Blur", "out of focus", modality="image"),
    "noise": Member("whet.modalities.augmentations.noise:Noise", "grain", modality="image"),
    "erase": Member("whet.modalities.augmentations.erase:Erase", "a rectangle in the way", modality="image"),
    "trivial": Member(
        "whet.modalities.augmentations.trivial:TrivialAugment",
        "one of fourteen operations, of any strength",
        "TrivialAugment",
        modality="image",
    ),
    "rand": Member(
        "whet.modalities.augmentations.rand:RandAugment", "two of fourteen operations", "RandAugment", modality="image"
    ),
}

BACKBONES = {
    "text-encoder": Member("whet.backbones.text_encoder:TextEncoder", "a transformers encoder with pooling and head"),
    "image-encoder": Member("whet.backbones.image_encoder:ImageEncoder", "a transformers image classifier"),
    "convnet": Member("whet.backbones.convnet:ConvNet", "a bare state dict of a convolutional network"),
    "own-module": Member("whet.backbones.own_module:OwnModule", "any torch.nn.Module, given as an object"),
}

ARCHITECTURES = {
    "resnet": Member("whet.backbones.convnets.resnet:ResNet", "ResNet, wide ResNet and ResNeXt", "ResNet"),
    "cifar-resnet": Member(
        "whet.backbones.convnets.cifar_resnet:CifarResNet", "the small ResNets of CIFAR-10", "CIFAR ResNet"
    ),
    "vgg": Member("whet.backbones.convnets.vgg:VGG", "VGG, with norms or without", "VGG"),
    "mobilenet-v2": Member(
        "whet.backbones.convnets.mobilenet_v2:MobileNetV2", "MobileNetV2 of any width", "MobileNetV2"
    ),
    "mobilenet-v3": Member(
        "whet.backbones.convnets.mobilenet_v3:MobileNetV3", "MobileNetV3, large and small", "MobileNetV3"
    ),
    "squeezenet": Member("whet.backbones.convnets.squeezenet:SqueezeNet", "SqueezeNet 1.0 and 1.1", "SqueezeNet"),
}

TASKS = {
    "classification": Member("whet.tasks.classification:Classification", "one of several classes a row"),
    "multi-label": Member("whet.tasks.multi_label:MultiLabel", "any number of labels a row"),
    "regression": Member("whet.tasks.regression:Regression", "one number a row"),
}

METHODS = {
    "probe": Member("whet.methods.probe:Probe", "a convex head on frozen features, solved"),
    "top-layers": Member("whet.methods.top_layers:TopLayers", "the last blocks and the head, from the probe's head"),
    "full": Member("whet.methods.full:Full", "every weight, from the probe's head"),
    "gradual": Member("whet.methods.gradual:Gradual", "blocks thawed group by group, from the top"),
    "bias-only": Member("whet.methods.bias_only:BiasOnly", "the biases alone (BitFit)"),
    "lora": Member("whet.methods.lora:LoRA", "a low-rank update beside frozen linear layers", "LoRA"),
    "adapter": Member("whet.methods.adapter:Adapter", "any adapter of the peft library, by its config"),
    "l2-sp": Member("whet.methods.l2_sp:L2SP", "every weight, with decay towards the start", "L2-SP"),
    "reinit": Member("whet.methods.reinit:Reinit", "every weight, after the top blocks were drawn anew"),
    "contrastive": Member("whet.methods.contrastive:Contrastive", "features contrasted by class, then a probe"),
    "norm-only": Member("whet.methods.norm_only:NormOnly", "the scales and shifts of norms alone"),
}

OPTIMIZERS = {
    "adamw": Member("whet.training.optimizers.adamw:AdamW", "two running moments, decoupled decay (fused)", "AdamW"),
    "sgd": Member("whet.training.optimizers.sgd:SGD", "momentum along the gradient, Nesterov's by default", "SGD"),
    "adafactor": Member(
        "whet.training.optimizers.adafactor:Adafactor", "a factored second moment, little memory", "Adafactor"
    ),
    "muon": Member("whet.training.optimizers.muon:Muon", "orthogonal updates of matrices, AdamW for the rest", "Muon"),
    "schedule-free": Member(
        "whet.training.optimizers.schedule_free:ScheduleFree", "AdamW whose average answers; no schedule"
    ),
}

AVERAGES = {
    "none": Member("whet.training.average:NoAverage", "the best weights of one moment"),
    "ema": Member("whet.training.averages.ema:EMA", "a moving average of every update", "EMA"),
    "swa": Member("whet.training.averages.swa:SWA", "the mean over the last steps", "SWA"),
    "soup": Member("whet.training.averages.soup:Soup", "the mean of some of the best checkpoints"),
    "wise-ft": Member("whet.training.averages.wise_ft:WiseFT", "a mixture of the start and what was tuned", "WiSE-FT"),
}

LEARNERS = {
    "majority": Member("whet.learners.majority:Majority", "always the commonest answer"),
    "tfidf": Member(
        "whet.learners.tfidf:TfidfLinear", "TF-IDF features and a linear model", "TF-IDF + linear", modality="text"
    ),
    "frozen-probe": Member("whet.learners.frozen_probe:FrozenProbe", "the probe on the untuned model", "frozen probe"),
    "earlier": Member("whet.learners.earlier:Earlier", "the model that a run goes on from", "the earlier model"),
}

METRICS = {
    "accuracy": Member("whet.evaluation.classification:Accuracy", "share of rows that are right"),
    "macro-f1": Member("whet.evaluation.classification:MacroF1", "F1 averaged over classes", "macro-F1"),
    "micro-f1": Member("whet.evaluation.classification:MicroF1", "F1 over all decisions", "micro-F1"),
    "exact-match": Member(
        "whet.evaluation.classification:ExactMatch", "share of rows with every label right", "exact match"
    ),
    "auc": Member("whet.evaluation.ranking:AUC", "area under the ROC curve", "AUC"),
    "sensitivity-at-95-specificity": Member(
        "whet.evaluation.ranking:SensitivityAtSpecificity",
        "share of the class that is found where 95% of the others are left alone",
        "sensitivity at 95% specificity",
    ),
    "log-loss": Member("whet.evaluation.classification:LogLoss", "mean negative log-likelihood, nats"),
    "calibration-error": Member(
        "whet.evaluation.calibration:CalibrationError", "debiased expected calibration error", "calibration error"
    ),
    "mae": Member("whet.evaluation.regression:MeanAbsoluteError", "mean absolute error", "MAE"),
    "rmse": Member("whet.evaluation.regression:RootMeanSquaredError", "root mean squared error", "RMSE"),
    "r2": Member("whet.evaluation.regression:R2", "share of variance explained", "R²"),
    "spearman": Member("whet.evaluation.regression:Spearman", "rank correlation", "Spearman"),
}

TRACKERS = {
    "csv": Member("whet.trackers.csv_log:CsvLog", "every step and evaluation as a row of tracks/log.csv", "CSV log"),
    "tensorboard": Member("whet.trackers.tensorboard:TensorBoard", "curves for TensorBoard", "TensorBoard"),
    "energy": Member("whet.trackers.energy:Energy", "electricity and carbon, through codecarbon"),
}

TABLES: dict[str, dict[str, Member]] = {
    "reader": READERS,
    "check": CHECKS,
    "modality": MODALITIES,
    "augmentation": AUGMENTATIONS,
    "backbone": BACKBONES,
    "architecture": ARCHITECTURES,
    "task": TASKS,
    "method": METHODS,
    "optimizer": OPTIMIZERS,
    "average": AVERAGES,
    "learner": LEARNERS,
    "metric": METRICS,
    "tracker": TRACKERS,
}


def members(kind: str) -> dict[str, Member]:
    """Every member of one kind, ours first, then those that other packages registered."""
    found = dict(TABLES[kind])
    for entry in registered():
        entry_kind, _, name = entry.name.partition(".")
        if entry_kind == kind and name not in found:
            package = entry.dist.name if entry.dist else "another package"
            found[name] = Member(entry.value, f"from {package}")
    return found


@cache
def registered() -> tuple[EntryPoint, ...]:
    """What other packages registered; looked up once, since that reads the metadata of every installed package."""
    return tuple(entry_points(group="whet.members"))


def find(kind: str, name: str) -> Any:
    """The class or function that ``name`` stands for.

    Raises:
        ConfigError: no member of that kind has this name.
    """
    table = members(kind)
    if name not in table:
        near = closest(name, list(table))
        if not near or len(table) <= FEW:
            near += [known for known in table if known not in near]
        raise ConfigError(
            f"There is no {kind} named {name!r}.",
            where=kind,
            fix="use " + " or ".join(repr(known) for known in near),
        )
    module, _, attribute = table[name].path.partition(":")
    return getattr(import_module(module), attribute)


def by_class(kind: str, attribute: str, package: str) -> Any:
    """A member by the name of its class, as an attribute of its package: ``whet.methods.TopLayers``.

    Raises:
        AttributeError: no member of that kind has a class of this name.
    """
    for name, member in members(kind).items():
        if member.path.partition(":")[2] == attribute:
            return find(kind, name)
    raise AttributeError(f"module {package!r} has no attribute {attribute!r}")


def title(kind: str, name: str) -> str:
    """How a member is written in a sentence; the name itself where its row says nothing else."""
    member = members(kind).get(name)
    return member.title if member and member.title else name


def name_of(kind: str, thing: object) -> str:
    """The catalog name of a member, given its class or an instance of it."""
    target = thing if isinstance(thing, type) else type(thing)
    path = f"{target.__module__}:{target.__qualname__}"
    for name, member in members(kind).items():
        if member.path == path:
            return name
    raise ConfigError(
        f"{target.__name__} is not in the catalog, so a plan file cannot name it.",
        where=kind,
        fix="register it under the entry-point group 'whet.members'",
    )
