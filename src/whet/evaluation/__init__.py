"""How good it is: metrics, intervals, paired tests, the verdict."""
