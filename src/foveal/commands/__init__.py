"""The commands, one a module: each has a ``run(arguments)``."""
