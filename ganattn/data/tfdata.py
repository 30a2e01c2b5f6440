"""The tf.data pipeline over encoded pictures: files, or the bytes of files in memory.

Its graph holds no randomness: which picture, which crop and which mirroring come in as numbers.
"""

import dataclasses
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ganattn.data.batches import Tests, numbered
from ganattn.data.images import read_labels, read_rgb, resize, to_float
from ganattn.data.sampling import Draws
from ganattn.errors import DataError

BLOCK = 128  # examples whose draws are handed to TensorFlow together


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Encoded pictures of one domain.

    content: paths, or bytes. plain: which of them TensorFlow decodes as Pillow does; the others go
    through Pillow. half: "left" or "right" where a file holds two pictures side by side. palette:
    (ids, 3) uint8, the colours of files that hold label ids.
    """

    content: Sequence[str] | Sequence[bytes]
    plain: np.ndarray
    half: str | None = None
    palette: np.ndarray | None = None

    def read(self, index: int) -> np.ndarray:
        """(h, w, 3) uint8, upright; of a file with two pictures the half that is meant."""
        content = self.content[index]
        file = io.BytesIO(content) if isinstance(content, bytes) else Path(content)
        picture = read_rgb(file) if self.palette is None else read_labels(file, self.palette)
        return self.cut(picture)

    def names(self) -> list[str]:
        """The stems of the files, or numbers."""
        if isinstance(self.content[0], bytes):
            return numbered(len(self.content))
        return [Path(str(path)).stem for path in self.content]

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """The half of (h, w, 3) that is meant."""
        if self.half is None:
            return picture
        middle = picture.shape[1] // 2
        return picture[:, :middle] if self.half == "left" else picture[:, middle:]


class Encoded:
    """A `Pipeline` that decodes in parallel; needs TensorFlow, which is imported on first use.

    train, test: domain -> Pictures. paired: see `Pipeline`.
    """

    def __init__(
        self,
        train: Mapping[str, Pictures],
        test: Mapping[str, Pictures],
        data: ConfigDict,
        paired: bool = False,
    ):
        self.paired = paired
        self._train = train
        self._test = {domain: test.get(domain, pictures) for domain, pictures in train.items()}
        self._held_out = set(test)
        self._data = data
        self.sizes = {domain: len(pictures.content) for domain, pictures in train.items()}

    def stream(
        self, draws: Iterator[Mapping[str, Draws]], share: int
    ) -> Iterator[dict[str, np.ndarray]]:
        """See `Pipeline`."""
        tf = import_tensorflow()
        decoding_error = tf.errors.OpError  # bound now: a late exit finds no module
        spec = (
            tf.TensorSpec((None,), tf.int64),
            tf.TensorSpec((None,), tf.bool),
            tf.TensorSpec((None, 2), tf.int64),
        )
        dataset = tf.data.Dataset.from_generator(
            lambda: self._blocks(draws, -(-BLOCK // share)),
            output_signature=dict.fromkeys(self._train, spec),
        )
        load = {domain: self._loader(tf, pictures) for domain, pictures in self._train.items()}
        dataset = dataset.unbatch().map(
            lambda step: {domain: load[domain](*step[domain]) for domain in step},
            num_parallel_calls=self._data.workers or tf.data.AUTOTUNE,
            deterministic=True,
        )
        dataset = dataset.batch(share, drop_remainder=True).prefetch(2)
        options = tf.data.Options()
        options.threading.private_threadpool_size = self._data.workers
        try:
            yield from dataset.with_options(options).as_numpy_iterator()
        except decoding_error as error:
            reason = str(error.message).splitlines()[0]
            raise DataError(f"a picture could not be decoded ({reason}): remove the file") from None

    def test_pictures(self, count: int) -> dict[str, np.ndarray]:
        """See `Pipeline`."""
        side, interpolation = self._data.crop_size, self._data.interpolation
        result = {}
        for domain, test in self._test.items():
            shown = np.resize(np.arange(len(test.content)), count)
            whole = [resize(test.read(int(i)), side, side, interpolation) for i in shown]
            result[domain] = to_float(np.stack(whole))
        return result

    @property
    def tests(self) -> Tests:
        """See `Pipeline`."""
        names = {domain: test.names() for domain, test in self._test.items()}
        return Tests(names, self._test_example, self._held_out >= set(self._train))

    def _test_example(self, domain: str, index: int) -> dict[str, np.ndarray]:
        side, whole = self._data.crop_size, self._test[domain].read(index)
        return {domain: to_float(resize(whole, side, side, self._data.interpolation))}

    def decoded(self) -> dict[str, np.ndarray]:
        """All pictures resized, as `Memory` takes them."""
        side, interpolation = self._data.load_size, self._data.interpolation
        result = {}
        held_out = {domain: self._test[domain] for domain in self._held_out}
        for prefix, domains in (("", self._train), ("test_", held_out)):
            for domain, pictures in domains.items():
                every = [pictures.read(i) for i in range(len(pictures.content))]
                resized = [resize(picture, side, side, interpolation) for picture in every]
                result[f"{prefix}{domain}"] = np.stack(resized)
        return result

    def _blocks(
        self, draws: Iterator[Mapping[str, Draws]], steps: int
    ) -> Iterator[dict[str, tuple[np.ndarray, ...]]]:
        """The draws of many steps at once, since calls into Python cost as much as a picture."""
        load, crop = self._data.load_size, self._data.crop_size
        while block := list(itertools.islice(draws, steps)):
            joined = {
                domain: Draws(
                    *map(np.concatenate, zip(*(step[domain] for step in block), strict=True))
                )
                for domain in self._train
            }
            yield {
                d: (draw.example, draw.flip, draw.corners(load, crop)) for d, draw in joined.items()
            }

    def _loader(self, tf: Any, pictures: Pictures) -> Any:
        """(example, flip, corner) -> (crop, crop, 3) float32, as a graph."""
        data = self._data
        content, plain = tf.constant(list(pictures.content)), tf.constant(pictures.plain)
        from_files = not isinstance(pictures.content[0], bytes)

        def with_tensorflow(example):
            encoded = tf.io.read_file(content[example]) if from_files else content[example]
            # Reads PNG as well. The accurate transform gives Pillow's pixels; the default is off by
            # up to 7 of 255.
            picture = tf.io.decode_jpeg(encoded, 3, dct_method="INTEGER_ACCURATE")
            middle = tf.shape(picture)[1] // 2
            return {
                None: lambda: picture,
                "left": lambda: picture[:, :middle],
                "right": lambda: picture[:, middle:],
            }[pictures.half]()

        def decode(example):
            if pictures.plain.all():  # a branch in the graph would cost as much as decoding
                return with_tensorflow(example)
            return tf.cond(
                plain[example],
                lambda: with_tensorflow(example),
                lambda: tf.numpy_function(pictures.read, [example], tf.uint8, stateful=False),
            )

        def load(example, flip, corner):
            picture = _resize(tf, tf.ensure_shape(decode(example), (None, None, 3)), data)
            size = (data.crop_size, data.crop_size, 3)
            picture = tf.slice(picture, tf.concat([corner, [0]], 0), size)
            picture = tf.clip_by_value(tf.round(picture), 0.0, 255.0)
            picture = tf.cond(flip, lambda: tf.reverse(picture, [1]), lambda: picture)
            return picture / 127.5 - 1

        return load


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


def _resize(tf: Any, picture: Any, data: ConfigDict) -> Any:
    """Like Pillow, smoothed when shrinking; float32 in about [0, 255]."""
    side = data.load_size

    def resized(antialias):
        return tf.image.resize(picture, (side, side), data.interpolation, antialias=antialias)

    # Smoothing does nothing to a picture that grows, but takes twice as long.
    grows = tf.reduce_all(tf.shape(picture)[:2] <= side)
    return tf.cond(grows, lambda: resized(False), lambda: resized(True))
