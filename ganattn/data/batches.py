"""`batches(step)`: a pure function of seed, step and process, with the next one ready."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from ganattn.config import check
from ganattn.data import images, label_maps, palettes, single, two_domains
from ganattn.data.examples import DataSet, Domain, FileExamples, Preprocessing
from ganattn.data.in_memory import InMemory, read_npz
from ganattn.data.sampling import Draws, StepDraws
from ganattn.data.tfdata import TfData
from ganattn.errors import ConfigError, DataError

Batch = dict[str, np.ndarray]
# Modules with `from_folder`, `from_tfds`, `from_arrays` and `procedural`, the source of arrays.
LAYOUTS = {
    "unpaired": two_domains,
    "paired": two_domains,
    "aligned": two_domains,
    "semantic": label_maps,
    "single": single,
}
SOURCES = {  # what `data.path` names
    "folder": "the folder that holds the training images",
    "tfds": "the name of a TFDS data set such as cycle_gan/horse2zebra",
    "arrays": "an .npz file with the arrays of the layout",
    "procedural": "",
}


class Tests(NamedTuple):
    """The test examples of a data set, one at a time, resized to the crop's size and not cropped.

    names: domain -> what its examples are called, such as the stems of their files. read: (domain,
    index) -> the arrays of one example as in a batch, without the batch's axis. held_out: False
    where there are none, so that these are the examples of training.
    """

    names: Mapping[str, Sequence[str]]
    read: Callable[[str, int], Batch]
    held_out: bool = True


class Batches:
    """The share of one process in the batch of every step.

    Asking for the step after the last one is cheap: the next batch is prepared while the step runs.
    Every other step is reached at once, without replay.

    sizes: number of training examples by domain. paired: whether example i of every domain shows
    the same scene. tests: every test example. skipped: files that were left out, one line each.
    truth: see `DataSet`.
    """

    def __init__(
        self, data_set: DataSet, config: ConfigDict, process_index: int = 0, process_count: int = 1
    ):
        data = config.data
        preprocessing = Preprocessing.from_config(data)
        self.sizes = {domain: _length(each) for domain, each in data_set.train.items()}
        self.paired, self.truth = data_set.paired, data_set.truth
        self._tests, self.tests = _tests(data_set, preprocessing)
        self._draws = StepDraws(
            self.sizes,
            data.batch_size,
            config.seed,
            data.flip,
            process_index,
            process_count,
            data_set.paired,
            data.shuffle,
        )
        sources = [source for domain in data_set.train.values() for source in domain.values()]
        tests = [source for domain in data_set.test.values() for source in domain.values()]
        skipped = [line for each in sources + tests for line in getattr(each, "skipped", ())]
        self.skipped = list(dict.fromkeys(skipped))
        self._pipeline: InMemory | TfData
        if data.cache or not all(isinstance(source, FileExamples) for source in sources):
            self._pipeline = InMemory(data_set.train, preprocessing, data.workers)
        else:
            share = data.batch_size // process_count
            self._pipeline = TfData(data_set.train, preprocessing, share, data.workers)
        self._thread = ThreadPoolExecutor(1, "batches")
        self._stream: Iterator[Batch] = iter(())
        self._indices: deque[Batch] = deque()
        self._step, self._next = -1, Future[Batch]()

    def __call__(self, step: int) -> Batch:
        """The batch of a step; steps count from 0.

        Arrays are (batch / processes, height, width, channels): "a" and "b" of two domains, "label"
        and "image" and maybe "instance" of label maps, "image" of one domain. Images are float32 in
        [-1, 1], ids int32. "index_DOMAIN" (batch / processes,) int32: which examples they are.
        """
        if step != self._step:
            self._next.cancel()
            self._indices = deque()
            self._stream = self._pipeline.stream(self._all_draws(step, self._indices))
            self._next = self._thread.submit(next, self._stream)
        batch = self._next.result() | self._indices.popleft()
        self._step, self._next = step + 1, self._thread.submit(next, self._stream)
        return batch

    def test_batch(self, count: int) -> Batch:
        """The first test examples, the same in every process and call, as a batch without indices.

        Examples start over in a domain that has fewer than `count`.
        """
        batch: Batch = {}
        for domain, sources in self._tests.items():
            shown = np.resize(np.arange(_length(sources)), count)
            examples = [self.tests.read(domain, int(i)) for i in shown]
            batch |= {name: np.stack([each[name] for each in examples]) for name in sources}
        return batch

    def close(self) -> None:
        """Stops the background work."""
        self._thread.shutdown(cancel_futures=True)
        self._stream = iter(())

    def _all_draws(self, step: int, indices: deque[Batch]) -> Iterator[Mapping[str, Draws]]:
        """The draws of `step` and all later ones; appends the indices of each to `indices`."""
        while True:
            draws = self._draws(step)
            indices.append({f"index_{d}": draws[d].example.astype(np.int32) for d in draws})
            yield draws
            step += 1


def create(
    config: ConfigDict,
    process_index: int = 0,
    process_count: int = 1,
    arrays: Mapping[str, np.ndarray] | None = None,
) -> Batches:
    """The batches that `config.data` describes, as process `process_index` sees them.

    arrays: used in place of `data.source`, named as in the .npz file of the layout, such as "a" and
    "b" (and "test_a", "test_b"). Every file is inspected before the first batch. Raises ConfigError
    for values out of range, DataError for data that is missing, empty or broken.
    """
    _check(config)
    return Batches(_data_set(config, arrays), config, process_index, process_count)


def _data_set(config: ConfigDict, arrays: Mapping[str, np.ndarray] | None) -> DataSet:
    layout: Any = LAYOUTS[config.data.layout]
    data, path = config.data, Path(config.data.path)
    if arrays is not None:
        return layout.from_arrays(arrays, data, "the data set")
    if data.source == "procedural":
        return layout.from_arrays(layout.procedural(config), data, "the data set")
    check(config, "data.path", required=SOURCES[data.source])
    if data.source == "arrays":
        return layout.from_arrays(read_npz(path), data, data.path)
    if data.source == "tfds":
        return layout.from_tfds(data)
    if not path.is_dir():
        raise DataError(f"no folder {path}: set config.data.path to one with training images")
    return layout.from_folder(path, data)


def _check(config: ConfigDict) -> None:
    check(config, "data.source", choices=SOURCES)
    check(config, "data.layout", choices=LAYOUTS)
    check(config, "data.palette", choices=palettes.PALETTES)
    check(config, "data.interpolation", choices=images.INTERPOLATIONS)
    check(config, "data.on_error", choices=("stop", "skip"))
    check(config, "data.workers", least=0)
    check(config, "data.crop_size", least=1)
    check(config, "data.held_out_percent", least=0, below=100)
    data = config.data
    if data.layout == "semantic" and not data.condition_channels:
        check(config, "data.num_classes", least=1)
    if data.crop_size > data.load_size:
        raise ConfigError(
            f"config.data.crop_size is {data.crop_size} and config.data.load_size "
            f"{data.load_size}: give a crop that fits inside the loaded image"
        )
    if data.layout != "semantic" and data.aspect_ratio != 1:
        raise ConfigError(
            f"config.data.aspect_ratio is {data.aspect_ratio}: only the layout semantic takes "
            "other values than 1"
        )


def _length(domain: Domain) -> int:
    return len(next(iter(domain.values())))


def _tests(data_set: DataSet, preprocessing: Preprocessing) -> tuple[Mapping[str, Domain], Tests]:
    """The test examples of all domains, those of training where there are none."""
    domains = {name: data_set.test.get(name, train) for name, train in data_set.train.items()}
    names = {name: next(iter(each.values())).names() for name, each in domains.items()}
    _, size, interpolation = preprocessing

    def read(domain: str, index: int) -> Batch:
        return {
            name: source.finish(source.read_resized(index, size, interpolation))
            for name, source in domains[domain].items()
        }

    return domains, Tests(names, read, held_out=set(data_set.test) >= set(data_set.train))
