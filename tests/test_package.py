"""What importing costs: the package loads lazily, and none of it needs TensorFlow or torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ganattn

FOREIGN = ("tensorflow", "tensorflow_datasets", "tensorboard", "torch")
EVERY_MODULE = """
import importlib, pkgutil, ganattn
for module in pkgutil.walk_packages(ganattn.__path__, "ganattn."):
    importlib.import_module(module.name)
"""


def loaded(code: str) -> list[str]:
    """Names of the modules that a fresh interpreter has loaded after running the code."""
    report = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_every_module_imports_without_tensorflow_or_torch():
    names = loaded(EVERY_MODULE)
    assert {name for name in names if name.partition(".")[0] in FOREIGN} == set()
    package = Path(ganattn.__file__).parent
    files = {path.relative_to(package.parent) for path in package.rglob("*.py")}
    modules = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    assert modules <= set(names), "a folder of the package has no __init__.py"


def test_the_package_alone_loads_no_jax():
    assert not {"jax", "flax", "numpy", "ganattn.inference"} & set(loaded("import ganattn"))


def test_public_names_are_found_when_asked_for():
    names = loaded("import ganattn; ganattn.methods.names(); ganattn.Translator.from_workdir")
    assert "ganattn.methods" in names
    assert {"Translator", "methods", "interop", "data", "training"} <= set(dir(ganattn))


@pytest.mark.parametrize("name", ["nothing_of_this_name", "_private", "__wrapped__"])
def test_an_unknown_name_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=name):
        getattr(ganattn, name)
