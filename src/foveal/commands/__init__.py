"""The commands, one a module: a function of its name, or ``run(arguments)``."""
