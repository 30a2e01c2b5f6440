"""Training: the loop, its hooks, saving, evaluation and preemption."""
