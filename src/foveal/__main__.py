"""``python -m foveal``: the command, where no script is installed."""

from foveal.cli import run_and_exit

run_and_exit()
