"""How it moves: loop, replay, cache, solver, optimizer, schedule, precision, checkpoints."""
