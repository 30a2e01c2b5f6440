"""The JobSet of GKE: its fields, its topology, and the shell command of its pods."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[1] / "launch"


def fields(**types):
    """Schema of a mapping with these fields and no others; a name ending in _ is needed."""
    return {
        "type": "object",
        "properties": {name.rstrip("_"): schema for name, schema in types.items()},
        "required": [name.rstrip("_") for name in types if name.endswith("_")],
        "additionalProperties": False,
    }


def each(schema):
    return {"type": "array", "items": schema, "minItems": 1}


TEXT, COUNT, TRUTH = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
CONTAINER = fields(
    name_=TEXT,
    image_=TEXT,
    ports=each(fields(containerPort_=COUNT)),
    command_=each(TEXT),
    args_=each(TEXT),
    resources_=fields(limits_=fields(**{"google.com/tpu_": COUNT})),
    volumeMounts=each(fields(name_=TEXT, mountPath_=TEXT, readOnly=TRUTH)),
)
POD = fields(
    restartPolicy_={"const": "Never"},  # what a podFailurePolicy asks for
    terminationGracePeriodSeconds=COUNT,
    serviceAccountName=TEXT,
    nodeSelector=TEXTS,
    containers_=each(CONTAINER),
    volumes=each(
        fields(name_=TEXT, csi_=fields(driver_=TEXT, readOnly=TRUTH, volumeAttributes=TEXTS))
    ),
)
FAILURES = fields(
    action_={"enum": ["FailJob", "Ignore", "Count", "FailIndex"]},
    onPodConditions=each(fields(type_=TEXT, status=TEXT)),
    onExitCodes=fields(
        containerName=TEXT, operator_={"enum": ["In", "NotIn"]}, values_=each(COUNT)
    ),
)
JOB = fields(
    parallelism_=COUNT,
    completions_=COUNT,
    completionMode_={"const": "Indexed"},
    backoffLimit_={"const": 0},
    podFailurePolicy=fields(rules_=each(FAILURES)),
    template_=fields(metadata=fields(annotations=TEXTS), spec_=POD),
)
RULE = fields(
    name_={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
    action_={"enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]},
    onJobFailureReasons=each(
        {"enum": ["BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes",
                  "MaxFailedIndexesExceeded", "PodFailurePolicy"]}
    ),
)  # fmt: skip
JOBSET = fields(
    apiVersion_={"const": "jobset.x-k8s.io/v1alpha2"},
    kind_={"const": "JobSet"},
    metadata_=fields(name_=TEXT, annotations=TEXTS),
    spec_=fields(
        failurePolicy=fields(maxRestarts_=COUNT, rules=each(RULE)),
        replicatedJobs_=each(fields(name_=TEXT, replicas_=COUNT, template_=fields(spec_=JOB))),
    ),
)


@pytest.fixture(scope="module")
def jobset():
    return yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())


def test_the_jobset_has_the_fields_of_its_schema(jobset):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator(JOBSET).validate(jobset)


def test_the_jobset_starts_a_process_on_each_machine_of_its_topology(jobset):
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    rows, columns = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
    chips = pod["containers"][0]["resources"]["limits"]["google.com/tpu"]
    assert job["parallelism"] == job["completions"] == int(rows) * int(columns) // chips
    (code,) = job["podFailurePolicy"]["rules"][1]["onExitCodes"]["values"]
    assert f"exit {code}" in pod["containers"][0]["command"][2]


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("trap 'echo preempted: saved; exit 0' TERM; kill -TERM $PPID; sleep 5 & wait", 75),
        ("echo finished; exit 0", 0),
        ("exit 3", 3),
    ],
)
def test_a_preempted_pod_asks_for_a_restart(jobset, tmp_path, ending, expected):
    pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    arguments, program = tmp_path / "arguments", tmp_path / "bin/ganattn"
    program.parent.mkdir()
    program.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" >{arguments}\n{ending}\n')
    program.chmod(0o755)
    command = [word.replace("/tmp/output", f"{tmp_path}/output") for word in container["command"]]
    done = subprocess.run(
        [*command, *container["args"]],
        env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        timeout=20,
    )
    assert done.returncode == expected
    assert arguments.read_text().splitlines() == ["train", *container["args"]]
