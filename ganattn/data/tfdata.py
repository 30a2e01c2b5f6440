"""The tf.data pipeline over encoded files: images, label maps and instance maps.

Its graph holds no randomness: which example, which crop and which mirroring come in as numbers.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ganattn.data import images
from ganattn.data.edges import smooth_edges
from ganattn.data.examples import FileExamples, Preprocessing
from ganattn.data.sampling import Draws
from ganattn.errors import DataError

BLOCK = 128  # examples whose draws are handed to TensorFlow together
Tensor = Any


class TfData:
    """Decodes, resizes and augments in parallel; needs TensorFlow, which is imported on first use.

    train: see `DataSet`; every source is a `FileExamples`. share: examples of a batch that belong
    to this process. threads: 0 lets tf.data choose.
    """

    def __init__(
        self, train: Mapping[str, Any], preprocessing: Preprocessing, share: int, threads: int
    ):
        self._train, self._preprocessing = train, preprocessing
        self._share, self._threads = share, threads

    def stream(self, draws: Iterator[Mapping[str, Draws]]) -> Iterator[dict[str, np.ndarray]]:
        """The batch of each step's draws; see `Batches` for its arrays."""
        tf = import_tensorflow()
        decoding_error = tf.errors.OpError  # bound now: a late exit finds no module
        spec = (
            tf.TensorSpec((None,), tf.int64),
            tf.TensorSpec((None,), tf.bool),
            tf.TensorSpec((None, 2), tf.int64),
        )
        dataset = tf.data.Dataset.from_generator(
            lambda: self._blocks(draws), output_signature=dict.fromkeys(self._train, spec)
        )
        loaders = {
            domain: {
                name: (_image_loader if source.ids is None else _ids_loader)(
                    tf, source, tf.constant(list(source.content)), self._preprocessing
                )
                for name, source in sources.items()
            }
            for domain, sources in self._train.items()
        }

        def load(step: Mapping[str, tuple[Tensor, ...]]) -> dict[str, Tensor]:
            example = {}
            for domain, draw in step.items():
                for name, loader in loaders[domain].items():
                    example[name] = loader(*draw)
            return example

        dataset = dataset.unbatch().map(
            load, num_parallel_calls=self._threads or tf.data.AUTOTUNE, deterministic=True
        )
        dataset = dataset.batch(self._share, drop_remainder=True).prefetch(2)
        options = tf.data.Options()
        options.threading.private_threadpool_size = self._threads
        try:
            yield from dataset.with_options(options).as_numpy_iterator()
        except decoding_error as error:
            reason = str(error.message).splitlines()[0]
            raise DataError(
                f"an example cannot be decoded ({reason}): replace or remove the file"
            ) from None

    def _blocks(
        self, draws: Iterator[Mapping[str, Draws]]
    ) -> Iterator[dict[str, tuple[np.ndarray, ...]]]:
        """The draws of many steps at once, since calls into Python cost as much as an image."""
        load, crop, _ = self._preprocessing

        def numbers(draws: Draws) -> tuple[np.ndarray, ...]:
            return draws.example, draws.flip, draws.corners(load, crop)

        while block := list(itertools.islice(draws, -(-BLOCK // self._share))):
            steps = {d: [numbers(step[d]) for step in block] for d in self._train}
            yield {d: tuple(map(np.concatenate, zip(*steps[d], strict=True))) for d in steps}


def import_tensorflow() -> Any:
    """TensorFlow, kept off the accelerators; raises DataError when it is not installed."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise DataError(
            f"reading folders and TFDS needs TensorFlow ({error}): pip install 'ganattn[tf]', or "
            "set config.data.cache=True to read folders without it"
        ) from None
    tf.config.set_visible_devices([], "GPU")
    return tf


def _decode(
    tf: Any, source: FileExamples, content: Tensor, example: Tensor, channels: int
) -> Tensor:
    """(h, w, channels) uint8, or uint16, of a file that TensorFlow decodes as Pillow does."""
    from_files = isinstance(source.content[0], str)
    encoded = tf.io.read_file(content[example]) if from_files else content[example]
    if source.deep:
        return tf.io.decode_png(encoded, channels, tf.uint16)
    # Reads PNG as well. The accurate transform gives Pillow's pixels; the default is off by up to
    # 7 of 255.
    return tf.io.decode_jpeg(encoded, channels, dct_method="INTEGER_ACCURATE")


def _choose(
    tf: Any,
    source: FileExamples,
    example: Tensor,
    plain: Callable[[], Tensor],
    other: Callable[[], Tensor],
) -> Tensor:
    """`plain()` for a file that TensorFlow decodes as Pillow does, `other()` otherwise."""
    if source.plain.all():  # a branch in the graph would cost as much as decoding
        return plain()
    return tf.cond(tf.constant(source.plain)[example], plain, other)


def _image_loader(
    tf: Any, source: FileExamples, content: Tensor, preprocessing: Preprocessing
) -> Callable[..., Tensor]:
    """Images become (height, width, 3) float32 in [-1, 1]."""
    load_size, crop_size, interpolation = preprocessing

    def with_tensorflow(example: Tensor) -> Tensor:
        image = _decode(tf, source, content, example, 3)
        middle = tf.shape(image)[1] // 2
        if source.half is None:
            return image
        return image[:, :middle] if source.half == "left" else image[:, middle:]

    def load(example: Tensor, flip: Tensor, corner: Tensor) -> Tensor:
        image = _choose(
            tf,
            source,
            example,
            lambda: with_tensorflow(example),
            lambda: tf.numpy_function(source.read, [example], tf.uint8, stateful=False),
        )
        image = tf.ensure_shape(image, (None, None, 3))
        image = _resize(tf, image, load_size, interpolation)
        if source.smoothed:
            image = _smooth_edges(tf, image, load_size)
        image = tf.slice(image, tf.concat([corner, [0]], 0), (*crop_size, 3))
        image = _round(tf, image)
        image = tf.cond(flip, lambda: tf.reverse(image, [1]), lambda: image)
        return image / 127.5 - 1

    return load


def _resize(tf: Any, image: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """Like Pillow, smoothed when shrinking; float32 in about [0, 255]."""

    def resized(antialias: bool) -> Tensor:
        return tf.image.resize(image, size, interpolation, antialias=antialias)

    # Smoothing does nothing to an image that grows, but takes twice as long.
    grows = tf.reduce_all(tf.shape(image)[:2] <= size)
    return tf.cond(grows, lambda: resized(False), lambda: resized(True))


def _round(tf: Any, image: Tensor) -> Tensor:
    """float32 to whole numbers in [0, 255]."""
    return tf.clip_by_value(tf.round(image), 0.0, 255.0)


def _smooth_edges(tf: Any, image: Tensor, size: tuple[int, int]) -> Tensor:
    """See `edges.smooth_edges`; (height, width, 3) float32 in about [0, 255] to the same."""
    pixels = tf.cast(_round(tf, image), tf.uint8)
    smooth = tf.numpy_function(smooth_edges, [pixels], tf.uint8, stateful=False)
    return tf.cast(tf.ensure_shape(smooth, (*size, 3)), tf.float32)


def _ids_loader(
    tf: Any, source: FileExamples, content: Tensor, preprocessing: Preprocessing
) -> Callable[..., Tensor]:
    """Ids become (height, width, 1) int32: the nearest pixels, of the crop alone."""
    assert source.ids is not None
    ids = source.ids
    pixels = [
        _pixel_table(tf, source.sizes[:, axis], preprocessing.load[axis], preprocessing.crop[axis])
        for axis in (0, 1)
    ]

    def load(example: Tensor, flip: Tensor, corner: Tensor) -> Tensor:
        rows, columns = pixels[0](example, corner[0]), pixels[1](example, corner[1])
        columns = tf.cond(flip, lambda: tf.reverse(columns, [0]), lambda: columns)

        def pick(array: Tensor) -> Tensor:
            return tf.cast(tf.gather(tf.gather(array, rows), columns, axis=1), tf.int32)

        def with_tensorflow() -> Tensor:
            picked = pick(_decode(tf, source, content, example, 1)[..., 0])
            if ids.void:
                picked = tf.where(picked == images.VOID, ids.classes - 1, picked)
            if ids.classes:  # as Pillow's branch checks: the file may have changed
                tf.debugging.assert_less(picked, ids.classes, f"ids are 0 to {ids.classes - 1}")
            return picked

        def with_pillow() -> Tensor:
            array = tf.numpy_function(source.read, [example], tf.int64, stateful=False)
            return pick(tf.ensure_shape(array, (None, None)))

        result = _choose(tf, source, example, with_tensorflow, with_pillow)
        return result[..., None]

    return load


def _pixel_table(tf: Any, sizes: np.ndarray, load: int, crop: int) -> Callable[..., Tensor]:
    """(example, first) -> the rows, or columns, of a file that a crop of the resized map has."""
    distinct, kinds = np.unique(sizes, return_inverse=True)
    table = tf.constant(np.stack([nearest_pixels(int(size), load) for size in distinct]))
    kind = tf.constant(kinds)
    return lambda example, first: table[kind[example]][first : first + crop]


@functools.lru_cache(maxsize=4096)
def nearest_pixels(size: int, new_size: int) -> np.ndarray:
    """(new_size,) int32: the rows, or columns, that Pillow's NEAREST picks from `size` of them.

    Pillow adds up the distances between the picked pixels in double precision, which decides the
    ties; so does this function.
    """
    steps = np.full(new_size, size / new_size)
    steps[0] /= 2
    return np.add.accumulate(steps).astype(np.int32)
