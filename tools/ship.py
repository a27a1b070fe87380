"""Put a finished row's weights into the package, as the pretrained model NAME.

    python tools/ship.py cluttered-60-ram-8 cluttered-60

Of several seeds it takes the one that validated best. Reads results/ROW.json and the
run directory of `foveal reproduce`; writes src/foveal/pretrained/NAME.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from foveal.io.files import changed, read_json, write_file, write_json
from foveal.io.models import CONFIG_FILE, PRETRAINED, WEIGHTS_FILE
from foveal.runs.paper.rows import ROWS, Row
from foveal.runs.recipes import AgentConfig
from foveal.tasks import DESCRIPTIONS

RESULTS, RUNS = Path("results"), Path("runs/reproduce")
LARGEST = 3_000_000  # bytes of weights


def ship(row_name: str, name: str) -> None:
    row, result = ROWS[row_name], read_json(RESULTS / f"{row_name}.json")
    better = min if row.measure == "error" else max
    best = better(result["runs"], key=lambda run: run[f"validation_{row.measure}"])
    source = RUNS / row_name / f"seed-{best['seed']}"
    target = PRETRAINED / name
    size = (source / WEIGHTS_FILE).stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{source}: {size:,} bytes of weights; at most {LARGEST:,} are shipped.")
    target.mkdir(parents=True, exist_ok=True)
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copyfile(source / file, target / file)
    slim = {key: value for key, value in best.items() if key != "validation_curve"}
    write_json(target / "result.json", slim)
    make_card = _card if row.measure == "error" else _agent_card
    card = make_card(row, name, best, _controls(row))
    write_file(target / "README.md", card.encode())
    print(f"{target}: {row.measure} {best[row.measure]:.2f} %, {size:,} bytes")


def _controls(shipped: Row) -> list[str]:
    lines = []
    for row in ROWS.values():
        path = RESULTS / f"{row.name}.json"
        if row.task == shipped.task and row.config.model.policy != "learned" and path.exists():
            lines.append(f"{row.title}: {read_json(path)[row.measure]:.2f} %")
    return lines


def _agent_card(row: Row, name: str, run: dict[str, Any], controls: list[str]) -> str:
    assert isinstance(row.config, AgentConfig)
    training, model = row.config.training, row.config.model
    low, high = run["interval"]
    where = f"commit {run['commit']}, {run['hardware']}, {run['seconds'] / 60:.0f} minutes"
    success = (
        f"{run['success_rate']:.2f} % of {run['episodes']:,} fresh games "
        f"(95 % interval {low:.2f} to {high:.2f})"
    )
    recipe = f"{training.optimizer}, rate {training.lr:g} falling to 0, {training.num_envs:,} games"
    return f"""\
# {name}

A recurrent attention model (Mnih et al. 2014) that plays {row.config.env.env}: it looks at a part
of the screen, and chooses its action and its next look from what it remembers.

| | |
|---|---|
| task | {row.config.env.env}, from nothing but the reward at the end |
| success | {success}; the paper about {row.paper:.0f} % |
| protocol | {run["protocol"]} |
| mean distance of the last 8 looks from the ball | {run["ball_distance"]:.2f} pixels |
| the same network without a learned gaze | {"; ".join(controls) or "not measured yet"} |
| retina | {model.glimpse_size} x {model.glimpse_size}, {model.num_scales} scale(s) |
| core | {model.core}, {model.core_size} units |
| recipe | {recipe} |
| decisions seen | {run["decisions_seen"]:,} |
| seed | {run["seed"]} |
| parameters | {run["parameters"]:,} |
| made by | `{run["command"]}`, {where} |

`foveal play {name} --episodes {run["episodes"]} --seed 2014` repeats the success rate;
`foveal play {name} --gif play.gif` shows it. Trained on one size of one game. Apache License 2.0.
"""


def _card(row: Row, name: str, run: dict[str, Any], controls: list[str]) -> str:
    training, model = row.config.training, row.config.model
    low, high = run["interval"]
    error = f"{run['error']:.2f} % (95 % interval {low:.2f} to {high:.2f})"
    recipe = f"{training.optimizer}, rate {training.lr:g} falling to 0"
    recipe += f", batches of {training.batch_size}"
    moved = changed(row.config.task.augmentation)
    if moved:
        amounts = ", ".join(f"{kind} {amount:g}" for kind, amount in moved.items())
        recipe += f"; digits transformed anew each time: {amounts}"
    where = f"commit {run['commit']}, {run['hardware']}, {run['seconds'] / 60:.0f} minutes"
    compared = "; ".join(controls) or "not measured yet"
    return f"""\
# {name}

A recurrent attention model (Mnih et al. 2014): {row.title}, {DESCRIPTIONS[row.task]}.

| | |
|---|---|
| task | {row.task}, MNIST digits |
| split | 50,000 training, 10,000 validation, 10,000 test images |
| test error | {error}; the paper {row.paper:.2f} % |
| validation error | {run["validation_error"]:.2f} % |
| protocol | {run["protocol"]} |
| the same network without a learned gaze | {compared} |
| retina | {model.glimpse_size} x {model.glimpse_size}, {model.num_scales} scale(s) |
| core | {model.core}, {model.core_size} units |
| recipe | {recipe} |
| images seen | {run["images_seen"]:,} |
| seed | {run["seed"]} |
| parameters | {run["parameters"]:,} |
| made by | `{run["command"]}`, {where} |

```python
from foveal import RecurrentAttention

model = RecurrentAttention.from_pretrained("{name}")
```

`foveal evaluate {name}` repeats the test error. Trained on handwritten digits alone; it says
nothing sensible about other images. Apache License 2.0.
"""


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ROWS:
        raise SystemExit(f"usage: python tools/ship.py ROW NAME, with ROW one of {', '.join(ROWS)}")
    ship(*sys.argv[1:])
