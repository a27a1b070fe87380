"""How good a model is: a classifier's error, what an agent earns."""
