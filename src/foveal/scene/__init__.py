"""What can be looked at: images in memory, sparse ones, files that are read where one looks.

Whatever is looked at becomes a `Scene` at the door, by `as_scene`, and nobody asks what it was.
"""

from collections.abc import Sequence

from torch import Tensor

from foveal.geometry import PaddedImages
from foveal.scene.dense import DenseScene
from foveal.scene.scene import Scene
from foveal.scene.sources import PatchSource, SourceScene

# (B, C, H, W), or padded where they differ in size, or read where they are looked at.
Images = Scene | Tensor | PaddedImages | Sequence[PatchSource]


def as_scene(images: Images) -> Scene:
    """Images of any kind as a scene; raises `ValueError` if a shape or type is not as below.

    Args:
        images: ``(B, C, H, W)`` float in [0, 1]; images of different sizes in one tensor
            (`foveal.geometry.pad_images`); B sources of any sizes, of which only what is looked at
            is read (see `foveal.scene.files`); or a scene, which is returned.
    """
    if isinstance(images, Scene):
        return images
    if isinstance(images, PaddedImages):
        return DenseScene(images.pixels, images.sizes)
    return DenseScene(images) if isinstance(images, Tensor) else SourceScene(images)


def scene_of(image: Scene | Tensor | PatchSource) -> Scene:
    """One image as a scene: ``(C, H, W)`` float (or `ValueError`), a source, or a scene of one."""
    if isinstance(image, Scene):
        return image
    if not isinstance(image, Tensor):
        return SourceScene([image])
    if image.ndim != 3:
        raise ValueError(f"image must be (C, H, W); got {tuple(image.shape)}.")
    return DenseScene(image[None])


__all__ = ["DenseScene", "Images", "PatchSource", "Scene", "SourceScene", "as_scene", "scene_of"]
