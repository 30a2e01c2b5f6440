"""Encoded images out of TensorFlow Datasets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ganattn.data.tfdata import import_tensorflow
from ganattn.errors import DataError

Encoded = dict[str, list[bytes]]


def read(
    data: ConfigDict,
    splits: Mapping[str, tuple[str, ...]],
    features: Mapping[str, tuple[str, ...]],
    remedy: str,
) -> dict[str, Encoded]:
    """{part: {array: the encoded image of every example}} of the builder `data.path`.

    data.path: name of a builder, or the folder of a prepared one. splits: part -> names that its
    split may have; parts other than those named train... may be missing. features: array -> names
    that its feature may have. remedy: what to use in place of an unfit builder. Nothing is
    downloaded unless `data.download` is set. Raises DataError when the data set is missing, cannot
    be downloaded, or lacks a split or feature.
    """
    import_tensorflow()
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(f"TFDS is not installed ({error}): pip install 'ganattn[tf]'") from None
    name = data.path
    builder = _builder(tfds, name, data)
    split_of = _present(splits, builder.info.splits)
    feature_of = _present(features, builder.info.features)
    missing = [f"split {part}" for part in splits if part[:5] == "train" and part not in split_of]
    missing += [f"feature {' or '.join(features[a])}" for a in features if a not in feature_of]
    if missing:
        raise DataError(f"TFDS {name} has no {', no '.join(missing)}: {remedy}")
    decoders = {feature: tfds.decode.SkipDecoding() for feature in feature_of.values()}
    parts: dict[str, Encoded] = {}
    for part, split in split_of.items():
        examples = list(tfds.as_numpy(builder.as_dataset(split=split, decoders=decoders)))
        if not examples:
            raise DataError(f"split {split} of TFDS {builder.info.full_name} is empty: {remedy}")
        parts[part] = {
            array: [bytes(example[feature]) for example in examples]
            for array, feature in feature_of.items()
        }
    return parts


def _present(wanted: Mapping[str, tuple[str, ...]], present: Any) -> dict[str, str]:
    """key -> the first of its names that is present; keys without one are left out."""
    first = {key: next((n for n in names if n in present), None) for key, names in wanted.items()}
    return {key: name for key, name in first.items() if name is not None}


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
                "TFDS_DATA_DIR to the folder that holds it"
            )
        return builder
    except tfds.core.DatasetNotFoundError:
        raise DataError(
            f"TFDS knows no data set {name!r}: see tensorflow.org/datasets/catalog"
        ) from None
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"TFDS {name} could not be downloaded ({reason[:200]}): download the images yourself "
            "and train with config.data.source=folder"
        ) from None
