"""Settings under which nothing is measured, so that tests of whole runs are quick and the same wherever they run."""

PLAIN = (
    "machinery.threads=1",
    "machinery.precision=float32",
    "machinery.training_precision=float32",
    "backbone.attention=eager",
    "cache=off",
)
