"""Every manifest fits the schema of the software that will read it, and is as closed as it says."""

from __future__ import annotations

import copy
import gzip
import importlib.util
import json
import re
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import real_files
import yaml

_spec = importlib.util.spec_from_file_location("kuberay", Path(__file__).with_name("kuberay.py"))
kuberay = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kuberay)

ROOT = kuberay.CLUSTER.parent
MANIFESTS = sorted((kuberay.CLUSTER / "kuberay").glob("*.yaml"))
RAY = [(path, doc) for path in MANIFESTS for doc in kuberay.documents(path) if doc["apiVersion"].startswith("ray.io")]
IDS = [f"{doc['kind']}/{doc['metadata']['name']}" for _, doc in RAY]


@pytest.fixture(scope="module")
def definitions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kuberay-crds")
    for packed in (real_files.SMALL / "kuberay-crds").glob("*.gz"):
        (folder / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


@cache
def validator(folder, kind):
    return jsonschema.Draft7Validator(kuberay.schema_of(folder, kind))


def cluster_spec(document):
    return document["spec"].get("rayClusterSpec", document["spec"])


def pods(document):
    spec = cluster_spec(document)
    return [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]


def test_there_is_a_job_to_map_one_to_train_and_a_cluster():
    assert sorted(IDS) == ["RayCluster/spacex", "RayJob/map-region", "RayJob/train"]


@pytest.mark.parametrize(("path", "document"), RAY, ids=IDS)
def test_manifest_fits_kuberays_definition(path, document, definitions):
    errors = [
        f"{'/'.join(map(str, e.path))}: {e.message}"
        for e in validator(definitions, document["kind"]).iter_errors(document)
    ]
    assert errors == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "entryPoint"), "python"),
        (("spec", "backoffLimit"), "three"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "open"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "imagee"), "x"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "volumes", 0, "emptyDir", "medum"), "x"),
    ],
)
def test_the_definitions_catch_mistakes(place, value, definitions):
    [(_, document)] = [(path, doc) for path, doc in RAY if doc["metadata"]["name"] == "map-region"]
    broken = json.loads(json.dumps(document))  # undoes the sharing of YAML anchors
    *parents, last = place
    node = broken
    for step in parents:
        node = node[step]
    node[last] = value
    assert len(list(validator(definitions, "RayJob").iter_errors(broken))) == 1


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_network_policies_fit_kubernetes(direction, definitions):
    checker = jsonschema.Draft7Validator(kuberay.rules_of(definitions, direction))
    for policy in kuberay.documents(kuberay.CLUSTER / "kuberay" / "network-policy.yaml"):
        assert set(policy["spec"]) <= {"podSelector", "policyTypes", "ingress", "egress"}
        assert (direction in policy["spec"]) == (direction.capitalize() in policy["spec"]["policyTypes"])
        assert list(checker.iter_errors(policy["spec"].get(direction, []))) == []


def test_the_network_policy_covers_every_pod_and_no_rule_admits_the_world():
    policies = kuberay.documents(kuberay.CLUSTER / "kuberay" / "network-policy.yaml")
    chosen = policies[0]["spec"]["podSelector"]["matchLabels"]
    templates = [pod for _, document in RAY for pod in pods(document)]
    templates += [doc["spec"]["submitterPodTemplate"] for _, doc in RAY if "submitterPodTemplate" in doc["spec"]]
    assert all(chosen.items() <= pod["metadata"]["labels"].items() for pod in templates)
    ingress = [rule for policy in policies for rule in policy["spec"].get("ingress", [])]
    assert all(rule.get("from") for rule in ingress)
    assert all("ipBlock" not in source for rule in ingress for source in rule["from"])
    # the cloud's metadata service hands out credentials
    blocks = [
        to["ipBlock"]
        for policy in policies
        for rule in policy["spec"].get("egress", [])
        for to in rule.get("to", [])
        if "ipBlock" in to
    ]
    assert blocks
    assert all("169.254.0.0/16" in block["except"] for block in blocks)


@pytest.mark.parametrize(("path", "document"), RAY, ids=IDS)
def test_no_cluster_is_open(path, document):
    spec = cluster_spec(document)
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"].get("serviceType", "ClusterIP") == "ClusterIP"
    assert not spec["headGroupSpec"].get("enableIngress", False)


@pytest.mark.parametrize(("path", "document"), RAY, ids=IDS)
def test_every_container_is_limited_locked_down_and_has_shared_memory(path, document):
    for pod in pods(document):
        [container] = pod["spec"]["containers"]
        limits, requests = container["resources"]["limits"], container["resources"]["requests"]
        assert {"cpu", "memory"} <= limits.keys()
        assert requests["memory"] == limits["memory"]  # Ray fills what it was promised; the kernel kills what is not
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        shm = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}["/dev/shm"]
        [volume] = [volume for volume in pod["spec"]["volumes"] if volume["name"] == shm]
        assert volume["emptyDir"]["medium"] == "Memory"
        assert "sizeLimit" in volume["emptyDir"]


@pytest.mark.parametrize(("path", "document"), RAY, ids=IDS)
def test_workers_scale_by_autoscaler_v2_and_the_head_only_leads(path, document):
    spec = cluster_spec(document)
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert all(group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in spec["workerGroupSpecs"])
    assert any("nvidia.com/gpu" in pod["spec"]["containers"][0]["resources"]["limits"] for pod in pods(document))


def aws():
    return yaml.safe_load((kuberay.CLUSTER / "aws.yaml").read_text())


def check_aws(config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(config)))


def test_aws_fits_rays_own_schema():
    import ray

    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(aws(), schema)
    check_aws(aws())


def test_rays_schema_catches_a_misspelt_field():
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        check_aws({**aws(), "max_worker": 2})


def test_aws_head_stays_workers_are_spot_and_the_dashboard_listens_to_itself():
    config = aws()
    spot = {
        name: kind["node_config"].get("InstanceMarketOptions", {}).get("MarketType")
        for name, kind in config["available_node_types"].items()
    }
    assert spot == {"head": None, "cpu-spot": "spot", "gpu-spot": "spot"}
    start = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    assert all(
        "RAY_AUTH_MODE=token" in commands[-1]
        for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"])
    )


def images():
    found = [line for path in [*MANIFESTS, kuberay.CLUSTER / "aws.yaml"] for line in path.read_text().splitlines()]
    named = [
        line.split("image:", 1)[1].split("#")[0].strip()
        for line in found
        if line.strip().lstrip("- ").startswith("image:")
    ]
    return named + re.findall(r"^FROM (\S+)", (kuberay.CLUSTER / "Containerfile").read_text(), re.M)


def test_images_carry_a_digest_or_an_exact_version():
    assert len(images()) >= 10
    for image in images():
        assert re.search(r"@sha256:[0-9a-f]{64}$|:\d+\.\d+\.\d+[\w.-]*$", image), image


def test_versions_agree_with_the_lock():
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    assert {cluster_spec(document)["rayVersion"] for _, document in RAY} == {locked["ray"]}
    from spacex import __version__

    assert {image.rsplit(":", 1)[1] for image in images() if "spacex" in image} == {__version__}


def test_container_file_builds_from_the_lock_and_from_files_that_exist():
    text = (kuberay.CLUSTER / "Containerfile").read_text()
    installs = re.findall(r"pip install (.*)", text)
    assert installs
    assert all("-c constraints.txt" in install for install in installs)
    copied = [source for line in re.findall(r"^COPY (.*)", text, re.M) for source in line.split()[:-1]]
    assert {"constraints.txt", "spacex", "jobs"} <= set(copied)
    assert all((ROOT / source).exists() for source in copied)
    let_in = {line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")}
    assert let_in == set(copied)
    assert re.search(r"^USER 1000", text, re.M)
