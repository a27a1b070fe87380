"""``foveal look``: what a model looked at, as a picture, a film, a page or maps."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from foveal.commands.console import complain, print_json, say, working
from foveal.commands.flags import check_suffix, choose_device
from foveal.commands.shown import check_same_answers, load_model, task_shown
from foveal.evaluation.classifier import (
    EVALUATION_SEED,
    check_answers,
    judging,
    observe,
    rollouts,
)
from foveal.evaluation.stopping import Rule, StopRule, look_until_sure, looks_taken, rule_of
from foveal.model.attention import RecurrentAttention
from foveal.model.config import check_looks
from foveal.model.rollout import Rollout, ended, right_answers
from foveal.names import SEEDS, check_value
from foveal.randomness import OneForAll
from foveal.runs.saved import Saved
from foveal.scene import Scene
from foveal.scene.pictures import scene_of_pictures
from foveal.scene.preparation import Door
from foveal.tasks.folder.pictures import open_picture
from foveal.tasks.task import Task
from foveal.viz.drawing import PICTURES, draw_sheet, save_picture
from foveal.viz.film import FILMS, check_film, film_of, save_film
from foveal.viz.maps import draw_maps
from foveal.viz.page import save_page
from foveal.viz.scanpath import Label, Scanpath, follow, label_of, scanpath_of
from foveal.viz.theme import THEMES, Theme

PAGES = (".html", ".htm")
MOST_IMAGES = 100  # in one file
SAMPLES = 3  # scanpaths of the sampled policy for each image of a page
MORE_LOOKS = 4  # than in training, in the curve of the maps


def look(
    model: tyro.conf.Positional[str],
    image: tyro.conf.Positional[tuple[Path, ...]] = (),
    out: Path | None = None,
    count: int = 1,
    index: int = 0,
    wrong: bool = False,
    sampled: bool = False,
    maps: Path | None = None,
    theme: Literal["light", "dark"] = "light",
    task: str | None = None,
    digits: str | None = None,
    canvas_size: int | None = None,
    num_clutter: int | None = None,
    num_glimpses: int | None = None,
    stop: StopRule = "none",
    threshold: float | None = None,
    fit: bool = False,
    invert: bool = False,
    seed: int | None = None,
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Show where a model looked, what it saw there, and what it believed after each look.

    The suffix of --out chooses the form. A sheet (.png, .svg, .pdf) has the image with numbered
    fixations and the squares of every scale, each glimpse as the model saw it, and its belief. A
    film (.gif, .mp4) shows look after look, beside what has been seen by then. A page (.html) is
    one file to step through in a browser, without a network. Examples:

    foveal look cluttered-60 --count 6 --out sheet.pdf

    foveal look cluttered-60 --wrong --count 20 --out errors.html

    foveal look cluttered-60 mine.png --out mine.gif

    foveal look cluttered-60 --maps maps.png

    Args:
        model: a run directory, a saved model, or the name of a pretrained one (foveal models).
        image: image files, large ones read only where it looks (as by foveal predict); images of
            the task's test split if none is given.
        out: the file to write; look.png if not given, and no maps are.
        count: how many test images.
        index: which test image, the first of them.
        wrong: only test images that the model gets wrong, from --index on.
        sampled: follow a sample of the policy, as in training, instead of its mean; a page has
            both.
        maps: a picture (.png, .svg, .pdf) of where the first, the second and each later look
            falls over the whole test split, and of the error against the number of looks.
        theme: light or dark surroundings of pictures and films; a page follows the browser's.
        task: the task whose test images to show; the one it was trained on if not given.
        digits: mnist, uci, or a path; the model's own if not given.
        canvas_size: pixels a side of the task's canvases; as in training if not given.
        num_clutter: pieces of other digits on each; as in training if not given.
        num_glimpses: looks at the image; as in training if not given.
        stop: show no more looks than it takes until it stops: confident, when the belief in one
            class is as high as --threshold; learned, when the model's own stop says so.
        threshold: above 0 and below 1, such as 0.99, which alone is a confident stop; of a learned
            stop 0.5 if not given.
        fit: scale larger image files down to the size of those that the model was trained on.
        invert: make dark light in image files, for ink on paper.
        seed: of the first locations and the samples; if not given, that of foveal evaluate for test
            images, and that of foveal predict for files.
        device: cpu, cuda or auto.
        json: print answer and locations as one JSON object an image, each on a line; of a file that
            is scaled down by --fit in pixels of what is shown, where foveal predict has the file's.
    """
    if out is None and maps is None:
        out = Path("look.png")
    changes = {"digits": digits, "canvas_size": canvas_size, "num_clutter": num_clutter}
    _check(out, maps, count, image)
    check_looks(num_glimpses)
    if seed is None:
        seed = 0 if image else EVALUATION_SEED
    check_value("seed", seed, int, SEEDS)
    of_tests = [maps, task, *changes.values()]
    if image and (wrong or index or count > 1 or any(flag is not None for flag in of_tests)):
        raise ValueError(
            "--task, --digits, --canvas-size, --num-clutter, --count, --index, --wrong and --maps "
            "are about the task's test images. Leave them out, or the image files."
        )
    if out is None and (wrong or sampled or index or count > 1):
        raise ValueError(
            "--count, --index, --wrong and --sampled are of single images, and --maps of all. Pass "
            "--out for a picture of those, or leave them out."
        )
    if not image and (fit or invert):
        raise ValueError("--fit and --invert are for image files. Name some, or leave them out.")
    if maps is not None and (stop != "none" or threshold is not None):
        raise ValueError("--maps has the error after each look. Leave out --stop and --threshold.")
    torch_device = choose_device(device)
    saved = load_model(model, torch_device, "look", plays=False)
    network, data = saved.looking, None
    rule = rule_of(network, stop, threshold)
    if not image:
        data = task_shown(saved, torch_device, task=task, changes=changes)
        check_same_answers(saved, data)
        last = data.size("test") - 1
        if not 0 <= index <= last:
            raise ValueError(f"--index must be 0 to {last}; got {index}.")
    door = Door(network.about, fit, invert, partial(complain, "look"), model=model)
    looking = _Looking(saved, network, data, num_glimpses, seed, rule)
    if out is not None:
        with working("looking", quiet=json):
            tests = looking.at_tests(index, count, wrong)
            cases = looking.at_files(image, door) if image else tests
            samples = SAMPLES if out.suffix.lower() in PAGES else int(sampled)
            followed = [looking.follow(case, samples) for case in cases]
        if not followed:
            raise ValueError(
                f"the model gets none of the test images from --index {index} on wrong. "
                "Leave out --wrong to see those that it gets right."
            )
        _write(followed, out, THEMES[theme], f"Where {model} looks")
        told = [paths[int(sampled)] for paths in followed]
        each = [path.num_looks / network.config.max_answers for path in told]
        _tell(told, list(map(network.count_pixels_read, each)), out, json)
    if maps is not None:
        with working("looking at the whole test split", quiet=json):
            _write_maps(looking, model, maps, THEMES[theme], json)


def _check(out: Path | None, maps: Path | None, count: int, images: Sequence[str | Path]) -> None:
    if out is not None and out.suffix.lower() not in PAGES:
        check_suffix("--out", out, (*PICTURES, *FILMS, PAGES[0]))
        check_film(out)
    check_suffix("--maps", maps, PICTURES)
    if out is not None and out == maps:
        raise ValueError(f"--out and --maps are two pictures; both are {out}. Name another.")
    for image in map(Path, images):
        if out is not None and out.exists() and image.exists() and out.samefile(image):
            raise ValueError(
                f"{out} is to be looked at, and would be written over. Pass another --out."
            )
    if not 1 <= count <= MOST_IMAGES:
        raise ValueError(f"--count must be 1 to {MOST_IMAGES}; got {count}.")


@dataclass(frozen=True)
class _Case:
    """One image to be shown, and the row of a rollout that has it."""

    scene: Scene
    label: Label | None
    name: str
    rollout: Rollout
    row: int
    number: int


@dataclass(frozen=True)
class _Looking:
    """A model, what it looks at, and how."""

    saved: Saved
    network: RecurrentAttention
    data: Task | None
    num_glimpses: int | None
    seed: int
    rule: Rule | None

    def at_tests(self, index: int, count: int, wrong: bool) -> Iterator[_Case]:
        """Test images from ``index`` on, in the rollouts that `foveal evaluate` counts."""
        assert self.data is not None
        first, found = 0, 0
        end, ordered = self.network.config.end, self.data.ordered
        looks: dict[str, Any] = {"num_glimpses": self.num_glimpses, "seed": self.seed}
        with contextlib.closing(rollouts(self.network, self.data, "test", **looks)) as batches:
            for scene, labels, rollout in batches:
                given = ended(rollout.answers, end)
                if self.rule is not None:
                    last = looks_taken(rollout, self.rule)[:, None] - 1
                    given = rollout.step_logits.argmax(-1).gather(1, last)
                wanted = right_answers(labels, rollout.answer_logits, end, ordered=ordered)
                missed = (given != wanted.view(len(labels), -1)).any(1).tolist()
                for row in range(max(0, index - first), len(labels)):
                    if missed[row] or not wrong:
                        name = f"test image {first + row}"
                        label = label_of(wanted[row], end)
                        yield _Case(scene, label, name, rollout, row, first + row)
                        found += 1
                    if found == count:
                        return
                first += len(labels)

    def at_files(self, files: Sequence[Path], door: Door) -> Iterator[_Case]:
        """Image files, looked at as `foveal predict` does; large ones stay open."""
        for number, file in enumerate(files):
            picture = door(open_picture(file, self.network.config.num_channels), str(file))
            looks, generator = self.num_glimpses, OneForAll()
            with scene_of_pictures([picture], self.device) as scene:
                if self.rule is not None:  # a file is read no further
                    how = self.rule._asdict() | {"generator": generator.manual_seed(self.seed)}
                    sure = look_until_sure(self.network, scene, num_glimpses=looks, **how)
                    looks = int(sure.looks)
                generator.manual_seed(self.seed)
                with judging(self.network):
                    rollout = self.network(scene, num_glimpses=looks, generator=generator)
                check_answers(rollout.step_logits)
                yield _Case(scene, None, file.name, rollout, 0, number)

    def follow(self, case: _Case, samples: int) -> list[Scanpath]:
        """The mean policy's scanpath, and so many sampled ones from the same first location."""
        run, classes = self.saved.run, (self.data or self.saved).classes
        about: dict[str, Any] = {"classes": classes, "label": case.label, "name": case.name}
        about["rule"] = self.rule
        mean = scanpath_of(self.network, case.scene, case.rollout, case.row, **about)
        generator = torch.Generator(self.device).manual_seed(self.seed + case.number)
        sampled = [
            follow(
                self.network,
                case.scene.only(case.row),
                **about,
                num_glimpses=self.num_glimpses,
                first_location=case.rollout.locations[case.row, 0],
                sampled=True,
                # As exploration was at the end of training.
                location_std=run.training.final_location_std or None if run else None,
                generator=generator,
            )
            for _ in range(samples)
        ]
        return [mean, *sampled]

    @property
    def device(self) -> torch.device:
        return self.network.action_head.weight.device


def _write(followed: Sequence[Sequence[Scanpath]], out: Path, theme: Theme, title: str) -> None:
    paths = [each[-1] for each in followed]  # the sampled one where that was asked for
    if out.suffix.lower() in PAGES:
        save_page(followed, title, out)
    elif out.suffix.lower() in FILMS:
        save_film(*film_of(paths, theme), out)
    else:
        save_picture(draw_sheet(paths, theme), out)


def _tell(paths: Sequence[Scanpath], pixels: Sequence[int], out: Path, json: bool) -> None:
    for path, read in zip(paths, pixels, strict=True):
        if json:
            print_json(
                image=path.name,
                answer=path.names(path.answers),
                label=None if path.label is None else path.names(path.label),
                probabilities=path.probabilities[-1].tolist(),
                locations=path.centers.tolist(),
                sizes=path.sizes,
                pixels_read=read,
                out=str(out),
            )
        elif len(paths) == 1:
            say(f"{out}: {path.num_looks} looks, {path.verdict()}")
    if len(paths) > 1 and not json:
        known = [path for path in paths if path.label is not None]
        right = sum(path.right is True for path in known)
        score = f", {right} of {len(known)} right" if known else ""
        counts = sorted({path.num_looks for path in paths})
        looks = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        say(f"{out}: {len(paths)} images, {looks} looks at each{score}")


def _write_maps(looking: _Looking, model: str, maps: Path, theme: Theme, json: bool) -> None:
    assert looking.data is not None
    config, asked = looking.network.config, looking.num_glimpses
    usual, answers = config.num_glimpses, config.max_answers
    # What is remembered of more looks at one answer would change those that follow.
    more = MORE_LOOKS if answers == 1 else 0
    looks = usual + more if asked is None else asked
    found = observe(looking.network, looking.data, "test", num_glimpses=looks, seed=looking.seed)
    title = f"Where {model} looks, over {len(found.locations):,} test images"
    shown = answers * (usual if asked is None else asked)
    figure = draw_maps(found, looking.data.image_size, title=title, num_maps=shown, theme=theme)
    save_picture(figure, maps)
    results = found.evaluations
    if json:
        print_json(
            error=[result.error for result in results],
            interval=[list(result.interval) for result in results],
            count=len(found.locations),
            maps=str(maps),
        )
        return
    errors = ", ".join(f"{result.error:.2f}" for result in results)
    each = " at each answer" if answers > 1 else ""
    say(f"{maps}: test error after 1 to {len(results)} looks{each}: {errors} %")
