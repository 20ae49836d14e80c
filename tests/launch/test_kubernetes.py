"""launch/kubernetes.yaml: its fields, the names in it that must agree, and what its pods would run.

The claim and the Jobs are checked against the schemas that Kubernetes publishes. No package carries
JobSet's, so that its own part, which is small, is described here; an unknown field is an error.
"""

from __future__ import annotations

import copy
import json
import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

FILE = Path(__file__).resolve().parents[2] / "launch" / "kubernetes.yaml"
DOCUMENTS: list[dict[str, Any]] = list(yaml.safe_load_all(FILE.read_text()))
JOBSETS = {d["metadata"]["name"]: d for d in DOCUMENTS if d["kind"] == "JobSet"}
TPU, GPU = JOBSETS["sparsejax-tpu"], JOBSETS["sparsejax-gpu"]
KUBERNETES = (
    "1.31"  # the schemas' version: onPodConditions, onExitCodes and Indexed are stable in it
)

REASONS = {"BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded"}
REASONS |= {"PodFailurePolicy"}
NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")  # a DNS label, RFC 1035
RULE_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")


def fields(value: Any, where: str, required: dict[str, type], optional: dict[str, type]) -> None:
    """Checks that a mapping has these fields, of these types, and no others."""
    assert isinstance(value, dict), f"{where} is no mapping"
    known = required | optional
    assert not (unknown := value.keys() - known), f"{where} has unknown fields {unknown}"
    assert not (missing := required.keys() - value.keys()), f"{where} lacks {missing}"
    for name, part in value.items():
        right = isinstance(part, known[name]) and not (
            isinstance(part, bool) and known[name] is int
        )
        assert right, f"{where}.{name} is {part!r}, not {known[name].__name__}"


def check_jobset(jobset: dict[str, Any]) -> None:
    """What JobSet v1alpha2 says of the fields that are used, and what its webhook refuses."""
    fields(jobset, "JobSet", {"apiVersion": str, "kind": str, "metadata": dict, "spec": dict}, {})
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    fields(jobset["metadata"], "metadata", {"name": str}, {"labels": dict, "annotations": dict})
    spec = jobset["spec"]
    fields(spec, "spec", {"replicatedJobs": list}, {"network": dict, "failurePolicy": dict})
    network = {"enableDNSHostnames": bool, "subdomain": str, "publishNotReadyAddresses": bool}
    fields(spec["network"], "network", {}, network)
    assert NAME.fullmatch(spec["network"]["subdomain"])
    policy = spec["failurePolicy"]
    fields(policy, "failurePolicy", {}, {"maxRestarts": int, "restartStrategy": str, "rules": list})
    names = [job["name"] for job in spec["replicatedJobs"]]
    for rule in policy["rules"]:
        optional = {"onJobFailureReasons": list, "targetReplicatedJobs": list}
        fields(rule, "rule", {"name": str, "action": str}, optional)
        assert RULE_NAME.fullmatch(rule["name"])
        actions = {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"}
        assert rule["action"] in actions
        assert set(rule.get("onJobFailureReasons", ())) <= REASONS
        assert set(rule.get("targetReplicatedJobs", ())) <= set(names)
    assert len({rule["name"] for rule in policy["rules"]}) == len(policy["rules"])
    assert len(set(names)) == len(names)
    for job in spec["replicatedJobs"]:
        fields(job, "replicatedJob", {"name": str, "template": dict}, {"replicas": int})
        last = job["template"]["spec"]["completions"] - 1
        pod = f"{jobset['metadata']['name']}-{job['name']}-{job['replicas'] - 1}-{last}-abcde"
        assert NAME.fullmatch(pod), f"{pod} is too long, or no name, for a pod"


def parts(jobset: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The Job's spec, the pod's and the container's."""
    (job,) = jobset["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return job["template"]["spec"], pod, container


@pytest.mark.parametrize("jobset", JOBSETS.values(), ids=list(JOBSETS))
def test_jobset_has_the_fields_of_its_api(jobset: dict[str, Any]) -> None:
    check_jobset(jobset)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "failurePolicy", "maxRestart"), 3),
        (("spec", "failurePolicy", "maxRestarts"), "3"),
        (("spec", "network", "subDomain"), "a"),
        (("spec", "failurePolicy", "rules", 0, "action"), "Restart"),
        (("spec", "failurePolicy", "rules", 0, "onJobFailureReasons"), ["ExitCode"]),
        (("spec", "replicatedJobs", 0, "replicas"), True),
        (("metadata", "name"), "a" * 60),
    ],
)
def test_a_wrong_field_is_found(path: tuple[Any, ...], value: Any) -> None:
    jobset = copy.deepcopy(TPU)
    place: Any = jobset
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(AssertionError):
        check_jobset(jobset)


def as_kubernetes(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The document, or, of a JobSet, the Jobs that would be made of it."""
    if document["kind"] != "JobSet":
        return [document]
    head = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}}
    return [head | job["template"] for job in document["spec"]["replicatedJobs"]]


@pytest.mark.parametrize("document", DOCUMENTS, ids=[d["metadata"]["name"] for d in DOCUMENTS])
def test_kubernetes_own_schema_has_every_field(document: dict[str, Any]) -> None:
    schemas = pytest.importorskip("kubernetes_validate")
    for resource in as_kubernetes(document):
        schemas.validate(resource, KUBERNETES, strict=True)
        resource["spec"]["surprise"] = 1
        with pytest.raises(schemas.ValidationError):
            schemas.validate(resource, KUBERNETES, strict=True)
        del resource["spec"]["surprise"]


@pytest.mark.parametrize("jobset", JOBSETS.values(), ids=list(JOBSETS))
def test_exit_statuses_mean_what_the_program_means(jobset: dict[str, Any]) -> None:
    job, pod, container = parts(jobset)
    # Kubernetes refuses a podFailurePolicy with another restartPolicy.
    assert pod["restartPolicy"] == "Never"
    evicted, mistake = job["podFailurePolicy"]["rules"]
    assert evicted["action"] == "Count"
    assert evicted["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert mistake["action"] == "FailJob"
    assert mistake["onExitCodes"]["containerName"] == container["name"]
    assert (mistake["onExitCodes"]["operator"], mistake["onExitCodes"]["values"]) == ("In", [1])
    assert job["backoffLimit"] == 0  # all else fails the Job at once, for another reason
    (rule,) = jobset["spec"]["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    assert pod["terminationGracePeriodSeconds"] >= 120


@pytest.mark.parametrize("jobset", JOBSETS.values(), ids=list(JOBSETS))
def test_numbers_and_names_agree(jobset: dict[str, Any]) -> None:
    job, pod, container = parts(jobset)
    assert job["completionMode"] == "Indexed"
    assert job["completions"] == job["parallelism"]
    claims = {d["metadata"]["name"] for d in DOCUMENTS if d["kind"] == "PersistentVolumeClaim"}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["work"]["persistentVolumeClaim"]["claimName"] in claims
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)


def test_a_slice_has_as_many_pods_as_nodes() -> None:
    job, pod, container = parts(TPU)
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = math.prod(int(side) for side in topology.split("x"))
    assert chips == job["completions"] * container["resources"]["limits"]["google.com/tpu"]


def test_the_claim_can_be_mounted_by_all_pods() -> None:
    (claim,) = (d for d in DOCUMENTS if d["kind"] == "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize("other", ["tpu", "gpu"])
def test_each_of_the_two_applies_alone(other: str) -> None:
    kept = [d for d in DOCUMENTS if d["metadata"].get("labels", {}).get("sparsejax") != other]
    assert [d["kind"] for d in kept] == ["PersistentVolumeClaim", "JobSet"]
    assert f"-l 'sparsejax!={other}'" in FILE.read_text()


def test_what_must_be_replaced_is_marked() -> None:
    images = [parts(jobset)[2]["image"] for jobset in JOBSETS.values()]
    assert images == ["YOUR_TPU_IMAGE", "YOUR_GPU_IMAGE"]


def documented() -> list[str]:
    text = (FILE.parents[1] / "docs" / "launch.md").read_text("utf-8")
    blocks = "".join(re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL))
    lines = blocks.replace("\\\n", " ").splitlines()
    return [line for line in lines if "launch/kubernetes.yaml" in line]


@pytest.mark.parametrize("line", documented())
def test_documented_commands_give_kubectl_the_file(tmp_path: Path, line: str) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\necho "$*" >argv\ncat >file\n')
    kubectl.chmod(0o755)
    (tmp_path / "launch").symlink_to(FILE.parent)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-euo", "pipefail", "-c", line], cwd=tmp_path, env=env, check=True)
    argv = (tmp_path / "argv").read_text().split()
    assert argv[:2] + argv[3:] == ["apply", "-l", "-f", "-"]
    other = argv[2].removeprefix("sparsejax!=")
    assert other in ("tpu", "gpu")
    (jobset,) = (
        document
        for document in yaml.safe_load_all((tmp_path / "file").read_text())
        if document["kind"] == "JobSet" and document["metadata"]["labels"]["sparsejax"] != other
    )
    assert parts(jobset)[2]["image"].startswith("REGISTRY/sparsejax:")


def test_the_documentation_has_commands() -> None:
    assert len(documented()) == 2


def run_container(container: dict[str, Any], path: Path, **env: str) -> list[str]:
    """What the container's command gives to a stand-in for python."""
    python = path / "python"
    python.write_text('#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done\nexit 75\n')
    python.chmod(0o755)
    assert container["args"][0].startswith("exec ")  # so that SIGTERM reaches python
    own = {entry["name"]: entry["value"] for entry in container.get("env", ())}
    result = subprocess.run(
        [*container["command"], *container["args"]],
        env={"PATH": f"{path}:{os.environ['PATH']}", **own, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (75, "")
    return result.stdout.splitlines()


COMMON = [
    "--config",
    "/mnt/sparsejax/config.yaml",
    "--data.dir",
    "/mnt/sparsejax/data",
    "--model.path",
    "/mnt/sparsejax/model",
]


def test_tpu_pods_run_the_training(tmp_path: Path) -> None:
    argv = run_container(parts(TPU)[2], tmp_path)
    head = ["-m", "sparsejax.train", "--resume", "auto", "--parallel.coordinator", "cluster"]
    assert argv == [*head, *COMMON, "--output", "/mnt/sparsejax/runs/tpu"]


@pytest.mark.parametrize("index", ["0", "1"])
def test_gpu_pods_run_the_training(tmp_path: Path, index: str) -> None:
    job, _, container = parts(GPU)
    (replicated,) = GPU["spec"]["replicatedJobs"]
    pod = f"{GPU['metadata']['name']}-{replicated['name']}-0-0"
    address = f"{pod}.{GPU['spec']['network']['subdomain']}:8476"
    argv = run_container(container, tmp_path, JOB_COMPLETION_INDEX=index)
    several = ["--parallel.processes", str(job["completions"]), "--parallel.process", index]
    assert argv == [
        *("-m", "sparsejax.train", "--resume", "auto", "--parallel.coordinator", address),
        *(*several, *COMMON, "--output", "/mnt/sparsejax/runs/gpu"),
    ]


def test_nothing_is_said_twice() -> None:
    """YAML takes the last of two equal keys in silence."""

    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [json.dumps(loader.construct_object(key, deep=True)) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key is there twice in line {node.start_mark.line}"
        return loader.construct_mapping(node, deep=True)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    assert len(list(yaml.load_all(FILE.read_text(), Strict))) == 3
