"""Two domains from TensorFlow Datasets: a builder with splits trainA trainB, testA testB."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ganattn.data.batches import Pipeline
from ganattn.data.images import is_plain
from ganattn.data.in_memory import Memory
from ganattn.data.sampling import DOMAINS
from ganattn.data.tfdata import Encoded, Pictures, import_tensorflow
from ganattn.errors import DataError

SCENE_FEATURES = {
    "label": ("annotation", "segmentation_label", "segmentation_mask"),
    "image": ("image", "image_left"),
}


def create(name: str, data: ConfigDict) -> Pipeline:
    """The pipeline over the builder `name` (or a prepared builder's folder).

    Encoded pictures are held in memory. Nothing is downloaded unless `data.download` is set. Raises
    DataError when the data set is not there, cannot be downloaded, or has other splits.
    """
    import_tensorflow()
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(f"TFDS is not installed ({error}): pip install 'ganattn[tf]'") from None
    builder = _builder(tfds, name, data)
    missing = [
        f"train{d.upper()}" for d in DOMAINS if f"train{d.upper()}" not in builder.info.splits
    ]
    if missing:
        raise DataError(
            f"TFDS {name} has no split {', '.join(missing)}: use one with trainA and trainB, "
            "such as cycle_gan/horse2zebra"
        )
    train = {d: _read(tfds, builder, f"train{d.upper()}") for d in DOMAINS}
    test = {
        d: _read(tfds, builder, f"test{d.upper()}")
        for d in DOMAINS
        if f"test{d.upper()}" in builder.info.splits
    }
    encoded = Encoded(train, test, data)
    return Memory(encoded.decoded(), data) if data.cache else encoded


def read_pictures(name: str, data: ConfigDict) -> dict[str, Pictures]:
    """{"train"} or {"train", "test"} of a builder with a split train and a feature image.

    Raises DataError as `create` does.
    """
    import_tensorflow()
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(f"TFDS is not installed ({error}): pip install 'ganattn[tf]'") from None
    builder = _builder(tfds, name, data)
    if "train" not in builder.info.splits or "image" not in builder.info.features:
        raise DataError(
            f"TFDS {name} has no split train with a feature image: use one such as celeb_a_hq/128"
        )
    splits = [split for split in ("train", "test") if split in builder.info.splits]
    return {split: _read(tfds, builder, split) for split in splits}


def read_scenes(name: str, data: ConfigDict) -> dict[str, dict[str, list[bytes]]]:
    """{"train", "test"}: encoded "label" and "image" of a builder for semantic segmentation.

    Raises DataError as `create` does, and for a builder without label maps.
    """
    import_tensorflow()
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(f"TFDS is not installed ({error}): pip install 'ganattn[tf]'") from None
    builder = _builder(tfds, name, data)
    features = builder.info.features
    keys = {
        kind: next((known for known in names if known in features), None)
        for kind, names in SCENE_FEATURES.items()
    }
    splits = {"train": ("train",), "test": ("test", "validation")}
    parts = {
        part: next((n for n in names if n in builder.info.splits), None)
        for part, names in splits.items()
    }
    if None in keys.values() or parts["train"] is None:
        raise DataError(f"TFDS {name} has no split train with pictures and label maps")
    decoders = {key: tfds.decode.SkipDecoding() for key in keys.values()}
    found = {}
    for part, split in parts.items():
        if split is not None:
            examples = list(tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders)))
            found[part] = {kind: [bytes(e[key]) for e in examples] for kind, key in keys.items()}
    return found


def _builder(tfds: Any, name: str, data: ConfigDict) -> Any:
    try:
        if Path(name).is_dir():
            return tfds.builder_from_directory(name)
        builder = tfds.builder(name)
        if data.download:
            builder.download_and_prepare()
        elif not Path(str(builder.data_dir)).is_dir():
            raise DataError(
                f"TFDS {name} is not in {builder.data_dir}: set config.data.download=True, or "
                "TFDS_DATA_DIR to where it is"
            )
        return builder
    except tfds.core.DatasetNotFoundError:
        raise DataError(
            f"TFDS knows no data set {name!r}: see tensorflow.org/datasets/catalog"
        ) from None
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"TFDS {name} could not be downloaded ({reason[:200]}): download the pictures yourself "
            "and train with config.data.source=folder"
        ) from None


def _read(tfds: Any, builder: Any, split: str) -> Pictures:
    decoders = {"image": tfds.decode.SkipDecoding()}
    examples = tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders))
    content = [bytes(example["image"]) for example in examples]
    if not content:
        raise DataError(f"split {split} of TFDS {builder.info.full_name} is empty")
    return Pictures(content, np.array([is_plain(io.BytesIO(each)) for each in content]))
