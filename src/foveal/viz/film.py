"""Scanpaths and games as moving pictures, GIF or MP4, drawn with Pillow."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from foveal.evaluation.agent import Moment
from foveal.io.files import write_file
from foveal.model.attention import RecurrentAttention
from foveal.model.drawn import (
    as_picture,
    enlargement,
    looked_at,
    on_screen,
    outline,
    scale_color,
    viewable,
)
from foveal.names import printable
from foveal.viz.drawing import shorten
from foveal.viz.scanpath import Scanpath, leading_classes, reconstruct
from foveal.viz.theme import LIGHT, Theme, answer_color

FILMS = (".gif", ".mp4")
GLIMPSE, MARGIN, LINE = 104, 12, 18  # pixels of a frame's parts
BELIEF, BELIEF_LINE, BELIEFS = 132, 22, 10  # pixels, pixels, classes at most
LOOK_TIME, ANSWER_TIME = 800, 2000  # milliseconds; the last look stays longer
FRAME_TIME, LAST_TIME = 160, 1200  # the same, in a game
CONTACT_COLUMNS = 6  # frames in a row of a sheet
RATE = 25  # frames a second in an MP4


class Film:
    """Collects the first games of all environments, one of each by turns; `play` calls it.

    It keeps so many ``games``, and ``most_looks`` of each from its first, or all if None.
    """

    def __init__(
        self, agent: RecurrentAttention, games: int, most_looks: int | None = None
    ) -> None:
        self.agent, self.most_looks = agent, most_looks
        self.reels: list[list[Image.Image]] = [[] for _ in range(games)]
        self.over: Counter[int] = Counter()  # games of each environment that have ended

    def __call__(self, moment: Moment) -> None:
        """Keep a frame of each game that is still running."""
        count = len(moment.over)
        for env in moment.played.nonzero()[:, 0].tolist():
            game, ends = self.over[env] * count + env, bool(moment.over[env])
            self.over[env] += ends
            if game >= len(self.reels) or len(self.reels[game]) == self.most_looks:
                continue
            reel, reward = self.reels[game], float(moment.rewards[env])
            text = f"game {game + 1}, look {len(reel) + 1}, action {int(moment.actions[env])}"
            text += f", reward {reward:g}" if reward or ends else ""
            chosen = slice(env, env + 1)
            reel.append(self._frame(moment.images[chosen], moment.locations[chosen], text))

    def save(self, out: Path) -> None:
        """Write the games, one after the other; see `save_film`."""
        times = [
            LAST_TIME if frame is reel[-1] else FRAME_TIME for reel in self.reels for frame in reel
        ]
        save_film([frame for reel in self.reels for frame in reel], times, out)

    def _frame(self, image: Tensor, location: Tensor, text: str) -> Image.Image:
        sensor = self.agent.sensor
        screen = looked_at(image[0], location[0], sensor)
        squares = sensor.squares(location[0], *image.shape[-2:])
        seen = dict(zip(squares, viewable(sensor(image, location)[0]), strict=True))
        glimpses = _glimpse_column(seen, screen.height, "white")
        size = (screen.width + glimpses.width + 3 * MARGIN, screen.height + 2 * MARGIN + LINE)
        frame = Image.new("RGB", (size[0], max(size[1], glimpses.height + 2 * MARGIN)), "white")
        frame.paste(screen, (MARGIN, MARGIN))
        frame.paste(glimpses, (screen.width + 2 * MARGIN, MARGIN))
        ImageDraw.Draw(frame).text((MARGIN, frame.height - LINE - 2), text, fill="black")
        return frame


def film_of(paths: Sequence[Scanpath], theme: Theme = LIGHT) -> tuple[list[Image.Image], list[int]]:
    """A frame for each look of each scanpath, of one size; and how long each stays, in ms."""
    frames = [frame(path, look, theme) for path in paths for look in range(path.num_looks)]
    times = [
        ANSWER_TIME if look == path.num_looks - 1 else LOOK_TIME
        for path in paths
        for look in range(path.num_looks)
    ]
    size = tuple(max(getattr(one, side) for one in frames) for side in ("width", "height"))
    padded = [Image.new("RGB", size, theme.background) for _ in frames]
    for sheet, one in zip(padded, frames, strict=True):
        sheet.paste(one, (0, 0))
    return padded, times


def frame(path: Scanpath, look: int, theme: Theme = LIGHT) -> Image.Image:
    """One look: where it fell, what has been seen by then, what it brought, the belief after it."""
    font = ImageFont.load_default(13)
    image = on_screen(path.image, path.image_size)
    scales = path.scales(look)
    outline(image, {scale: path.square(look, scale) for scale in scales}, path.image_size)
    _draw_fixations(image, path, look)
    seen = reconstruct(path, look + 1)
    unseen = np.isnan(seen)
    known = on_screen(np.nan_to_num(seen), path.image_size)
    hole = on_screen(unseen.astype(np.float32), path.image_size).convert("L")
    known.paste(ImageColor.getrgb(theme.unseen), (0, 0, *known.size), hole)
    this = {scale: path.glimpses[look, scale] for scale in scales}
    glimpses = _glimpse_column(this, image.height, theme.background)
    parts = [(image, "where it looks"), (known, "what it has seen"), (glimpses, "this look")]
    width = sum(part.width + MARGIN for part, _ in parts) + BELIEF + 2 * MARGIN
    lines = min(BELIEFS, len(path.classes))
    height = max(*(part.height for part, _ in parts), lines * BELIEF_LINE) + 3 * LINE + 2 * MARGIN
    result = Image.new("RGB", (width, height), theme.background)
    draw = ImageDraw.Draw(result)
    title = f"{path.name + ', ' if path.name else ''}look {look + 1} of {path.num_looks}"
    draw.text(
        (MARGIN, MARGIN // 2), printable(title), fill=theme.text, font=ImageFont.load_default(15)
    )
    left, top = MARGIN, 2 * LINE + MARGIN
    for part, heading in parts:
        draw.text((left, LINE + MARGIN), heading, fill=theme.faint, font=font)
        result.paste(part, (left, top))
        left += part.width + MARGIN
    draw.text((left, LINE + MARGIN), "belief", fill=theme.faint, font=font)
    _draw_beliefs(draw, path, look, (left, top), theme)
    if look == path.num_looks - 1:
        verdict = printable(path.verdict())
        draw.text((MARGIN, height - LINE - 2), verdict, fill=theme.text, font=font)
    return result


def contact_sheet(frames: Sequence[Image.Image]) -> NDArray[np.uint8]:
    """Frames of one size on one sheet, in rows, at half their size; ``(H, W, 3)`` bytes."""
    shown = [frame.reduce(2) for frame in frames]
    width, height = shown[0].size
    columns = min(CONTACT_COLUMNS, len(shown))
    sheet = Image.new("RGB", (columns * width, -(-len(shown) // columns) * height), "white")
    for number, one in enumerate(shown):
        sheet.paste(one, (number % columns * width, number // columns * height))
    return np.asarray(sheet)


def check_film(out: Path) -> None:
    """Make sure that a film of this name can be written; `ImportError` if it needs PyAV."""
    if out.suffix.lower() != ".mp4":
        return
    try:
        import av  # noqa: F401, PLC0415 (an extra)
    except ImportError:
        raise ImportError(
            'an MP4 needs PyAV: pip install "foveal[video]". Or write a .gif.'
        ) from None


def save_film(frames: Sequence[Image.Image], times: Sequence[int], out: Path) -> None:
    """Write frames as a GIF, which repeats, or an MP4, by the file's suffix, in one step.

    Frames are of one size, times in milliseconds. Raises `ImportError` as `check_film`.
    """
    check_film(out)
    if out.suffix.lower() == ".mp4":
        write_file(out, _as_mp4(frames, times))
        return
    first, *rest = (frame.quantize(64) for frame in frames)
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=list(times), loop=0)
    write_file(out, buffer.getvalue())


def _as_mp4(frames: Sequence[Image.Image], times: Sequence[int]) -> bytes:
    import av  # noqa: PLC0415 (an extra)

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "18"})
        # Every player shows this colour format, which has one colour for 2 x 2 pixels.
        stream.pix_fmt = "yuv420p"
        stream.width, stream.height = (-(-side // 2) * 2 for side in frames[0].size)
        for frame, time in zip(frames, times, strict=True):
            sheet = Image.new("RGB", (stream.width, stream.height), frame.getpixel((0, 0)))
            sheet.paste(frame, (0, 0))
            picture = np.asarray(sheet)
            for _ in range(max(1, round(time * RATE / 1000))):
                shown = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(shown))
        container.mux(stream.encode())
    return buffer.getvalue()


def _draw_fixations(screen: Image.Image, path: Scanpath, look: int) -> None:
    draw, zoom = ImageDraw.Draw(screen), enlargement(screen, path.image_size)
    points = [(x * zoom, y * zoom) for x, y in path.centers[: look + 1].tolist()]
    colors = [answer_color(path.answer_at(number)) for number in range(len(points))]
    for number, color in enumerate(colors[1:], start=1):
        draw.line(points[number - 1 : number + 1], fill=color, width=2)
    font = ImageFont.load_default(11)
    for number, (x, y) in enumerate(points, start=1):
        several = path.looks_an_answer > 0
        ring = colors[number - 1] if several else "black"
        draw.circle((x, y), 8, fill="white", outline=ring, width=1 + several)
        draw.text((x, y), str(number), fill="black", font=font, anchor="mm")


def _glimpse_column(
    glimpses: Mapping[int, NDArray[np.float32]], height: int, background: str
) -> Image.Image:
    """The ``(G, G)`` or ``(G, G, 3)`` of a look by scale, in as many columns as they need."""
    fitting = max(1, (height + MARGIN) // (GLIMPSE + MARGIN))
    columns = -(-len(glimpses) // fitting)
    rows = -(-len(glimpses) // columns)
    step = GLIMPSE + MARGIN
    sheet = Image.new("RGB", (columns * step - MARGIN, rows * step - MARGIN), background)
    for place, (scale, pixels) in enumerate(glimpses.items()):
        seen = as_picture(pixels).convert("RGB")
        seen = seen.resize((GLIMPSE, GLIMPSE), Image.Resampling.NEAREST)
        edge = (0, 0, GLIMPSE - 1, GLIMPSE - 1)
        ImageDraw.Draw(seen).rectangle(edge, outline=scale_color(scale), width=2)
        sheet.paste(seen, (place // rows * step, place % rows * step))
    return sheet


def _draw_beliefs(
    draw: ImageDraw.ImageDraw, path: Scanpath, look: int, corner: tuple[int, int], theme: Theme
) -> None:
    """Bars of the classes, in their own order: those that matter most in the end."""
    left, top = corner
    known, wanted = path.known(look), path.wanted(look)
    font = ImageFont.load_default(13)
    for line, index in enumerate(sorted(leading_classes(path, path.num_looks - 1, BELIEFS))):
        chance, y = float(path.probabilities[look, index]), top + line * BELIEF_LINE
        color = theme.right if index == known else theme.wrong
        bar = (left, y, left + max(1, round(chance * (BELIEF - 1))), y + BELIEF_LINE - 5)
        draw.rectangle(bar, fill=color)
        text = f"{shorten(path.classes[index], 16)}{' (right)' if index == wanted else ''}"
        draw.text((left + 4, y), text, fill=theme.text, font=font)
