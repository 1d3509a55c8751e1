"""Every manifest fits the schema of the software that will read it, and is as closed as it says."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import shutil
import subprocess
from functools import cache, partial
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml

_spec = importlib.util.spec_from_file_location("kuberay", Path(__file__).with_name("kuberay.py"))
kuberay = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(kuberay)

ROOT = kuberay.CLUSTER.parent
MANIFESTS = sorted((kuberay.CLUSTER / "kuberay").glob("*.yaml"))
RAY = [(path, doc) for path in MANIFESTS for doc in kuberay.documents(path) if doc["apiVersion"].startswith("ray.io")]
IDS = [f"{doc['kind']}/{doc['metadata']['name']}" for _, doc in RAY]


@pytest.fixture(scope="module", params=["ours", pytest.param("kuberay", marks=pytest.mark.real)])
def validator(request, real_data):
    """Checks documents by our schema, and by KubeRay's own where it is at hand."""
    read = kuberay.own_schema
    if request.param == "kuberay":
        read = partial(kuberay.schema_of, real_data("kuberay-crds"))
    return cache(lambda name: jsonschema.Draft7Validator(read(name)))


def cluster_spec(document):
    return document["spec"].get("rayClusterSpec", document["spec"])


def pods(document):
    spec = cluster_spec(document)
    return [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]


def test_there_is_a_job_to_map_one_for_chips_one_to_train_and_a_cluster():
    assert sorted(IDS) == ["RayCluster/spacex", "RayJob/make-dataset", "RayJob/map-region", "RayJob/train"]


@pytest.mark.parametrize(("path", "document"), RAY, ids=IDS)
def test_manifest_fits_the_schema(path, document, validator):
    errors = [f"{'/'.join(map(str, e.path))}: {e.message}" for e in validator(document["kind"]).iter_errors(document)]
    assert errors == []


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "entryPoint"), "python"),
        (("spec", "backoffLimit"), "three"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "open"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "imagee"), "x"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "template", "spec", "volumes", 0, "emptyDir", "medum"), "x"),
        (("spec", "rayClusterSpec", "autoscalerOptions", "resources", "limits", "memory"), "1 Gi"),
        (("spec", "rayClusterSpec", "headGroupSpec", "template", "spec", "containers"), None),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "maxReplicas"), None),
    ],
)
def test_the_schema_catches_mistakes(place, value, validator):
    [(_, document)] = [(path, doc) for path, doc in RAY if doc["metadata"]["name"] == "map-region"]
    broken = json.loads(json.dumps(document))  # undoes the sharing of YAML anchors
    *parents, last = place
    node = broken
    for step in parents:
        node = node[step]
    if value is None:
        del node[last]
    else:
        node[last] = value
    assert len(list(validator("RayJob").iter_errors(broken))) == 1


@pytest.mark.real
@pytest.mark.parametrize("name", kuberay.SCHEMAS)
def test_our_schema_says_nothing_that_kuberays_does_not(name, real_data):
    assert kuberay.differences(kuberay.own_schema(name), kuberay.schema_of(real_data("kuberay-crds"), name)) == []


def test_differences_between_schemas_are_named():
    ours, theirs = (kuberay.own_schema("RayJob") for _ in range(2))
    fields = theirs["properties"]["spec"]["properties"]
    del fields["entrypoint"]
    fields["backoffLimit"] = {"type": "string"}
    fields["rayClusterSpec"]["required"] = ["rayVersion"]
    assert [difference.partition(":")[0] for difference in kuberay.differences(ours, theirs)] == [
        "/spec/entrypoint", "/spec/backoffLimit", "/spec/rayClusterSpec",
    ]  # fmt: skip


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_network_policies_fit_kubernetes(direction, validator):
    for policy in kuberay.documents(kuberay.CLUSTER / "kuberay" / "network-policy.yaml"):
        assert set(policy["spec"]) <= {"podSelector", "policyTypes", "ingress", "egress"}
        assert (direction in policy["spec"]) == (direction.capitalize() in policy["spec"]["policyTypes"])
        assert list(validator(direction).iter_errors(policy["spec"].get(direction, []))) == []
    assert len(list(validator(direction).iter_errors([{"form": [], "ports": [{"port": 443}]}]))) == 1


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
    for block in blocks:
        single = block["cidr"].endswith("/32") and block["cidr"] != "169.254.169.254/32"
        assert single or "169.254.0.0/16" in block["except"]


@pytest.mark.parametrize(
    ("peer", "port"),
    [
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "openshift-dns"}}}, 5353),
        ({"ipBlock": {"cidr": "169.254.20.10/32"}}, 53),  # the node's cache of names
        ({"ipBlock": {"cidr": "169.254.170.23/32"}}, 80),  # EKS Pod Identity
        ({"ipBlock": {"cidr": "169.254.169.252/32"}}, 988),  # GKE's workload identity
    ],
)
def test_names_and_the_pods_own_credentials_are_within_reach(peer, port):
    policy = kuberay.documents(kuberay.CLUSTER / "kuberay" / "network-policy.yaml")[0]
    rules = [rule for rule in policy["spec"]["egress"] if peer in rule["to"]]
    assert [rule for rule in rules if port in [entry["port"] for entry in rule["ports"]]]


SPOT_LABELS = {
    "karpenter.sh/capacity-type",
    "cloud.google.com/gke-spot",
    "eks.amazonaws.com/capacityType",
    "kubernetes.azure.com/scalesetpriority",
}


@pytest.mark.parametrize(("path", "document"), RAY, ids=IDS)
def test_workers_may_run_on_spot_nodes_and_the_head_must_not(path, document):
    head, *workers = (pod["spec"] for pod in pods(document))
    required = head["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    [term] = required["nodeSelectorTerms"]
    assert {rule["key"] for rule in term["matchExpressions"] if rule["operator"] == "NotIn"} == SPOT_LABELS
    for worker in workers:
        preferred = worker["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        assert {rule["preference"]["matchExpressions"][0]["key"] for rule in preferred} == SPOT_LABELS
        # Karpenter sets no taint of its own
        assert {taint["key"] for taint in worker["tolerations"]} >= SPOT_LABELS - {"karpenter.sh/capacity-type"}


@pytest.mark.parametrize(("path", "document"), RAY, ids=IDS)
def test_a_pod_asks_for_the_disk_it_may_fill_and_needs_no_secret(path, document):
    for pod in pods(document):
        [container] = pod["spec"]["containers"]
        disks = [v["emptyDir"] for v in pod["spec"]["volumes"] if "emptyDir" in v]
        [room] = [disk["sizeLimit"] for disk in disks if disk.get("medium") != "Memory"]
        assert container["resources"]["requests"]["ephemeral-storage"] == room
        assert all(source["secretRef"]["optional"] for source in container["envFrom"])  # for workload identity
        assert "metrics" in [port["name"] for port in container["ports"]]


@pytest.mark.parametrize(("path", "document"), [one for one in RAY if one[1]["kind"] == "RayJob"])
def test_a_refused_request_is_not_tried_again(path, document):
    [head] = pods(document)[0]["spec"]["containers"]
    assert document["spec"]["backoffLimit"] > 0
    assert {"name": "SPACEX_REFUSED_EXIT_CODE", "value": "0"} in head["env"]  # to KubeRay the job has succeeded


def test_claims_that_pods_mount_have_a_template():
    claims = kuberay.documents(kuberay.CLUSTER / "kuberay" / "data-claim.yaml")
    assert all(claim["spec"]["accessModes"] == ["ReadWriteMany"] for claim in claims)
    volumes = [volume for _, document in RAY for pod in pods(document) for volume in pod["spec"]["volumes"]]
    mounted = {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v}
    assert mounted == {claim["metadata"]["name"] for claim in claims} == {"spacex-data"}


def test_prometheus_finds_the_pods_that_have_metrics():
    [monitor] = kuberay.documents(kuberay.CLUSTER / "kuberay" / "pod-monitor.yaml")
    chosen, [endpoint] = monitor["spec"]["selector"], monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    [roles] = chosen["matchExpressions"]
    for _, document in RAY:
        for pod in pods(document):
            assert chosen["matchLabels"].items() <= pod["metadata"]["labels"].items()
            assert pod["metadata"]["labels"][roles["key"]] in roles["values"]


KUSTOMIZATION = yaml.safe_load((kuberay.CLUSTER / "kuberay" / "kustomization.yaml").read_text())


def test_one_file_names_the_image_of_all_manifests():
    [image] = KUSTOMIZATION["images"]
    named = {name for name in images() if "amazonaws" not in name and "spacex" in name}
    assert named == {f"{image['name']}:{image['newTag']}"}
    assert all((kuberay.CLUSTER / "kuberay" / name).is_file() for name in KUSTOMIZATION["resources"])


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("name", ["map-region", "make-dataset", "train", "interactive"])
def test_kustomize_changes_every_image(name, tmp_path):
    for file in MANIFESTS:
        shutil.copy(file, tmp_path)
    [image] = KUSTOMIZATION["images"]
    changed = {**KUSTOMIZATION, "resources": [f"{name}.yaml"], "images": [{**image, "newName": "my.example.org/it"}]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(changed))
    made = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"image: (\S+)", made)
    assert len(found) >= 3
    assert set(found) == {f"my.example.org/it:{image['newTag']}"}


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
    if document["metadata"]["name"] != "make-dataset":  # which runs no networks
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


def test_aws_says_what_it_needs_and_only_the_head_may_start_machines():
    config = aws()
    kinds = {name: kind["node_config"] for name, kind in config["available_node_types"].items()}
    for machine in kinds.values():
        assert {"ImageId", "SubnetIds", "SecurityGroupIds", "IamInstanceProfile"} <= machine.keys()
    profiles = {name: machine["IamInstanceProfile"]["Arn"].rpartition("/")[2] for name, machine in kinds.items()}
    assert profiles == {"head": "spacex-head", "cpu-spot": "spacex-worker", "gpu-spot": "spacex-worker"}
    registry = config["docker"]["image"].partition("/")[0]
    assert any("docker login" in line and registry in line for line in config["initialization_commands"])
    policy = json.loads((kuberay.CLUSTER / "aws-head-policy.json").read_text())
    allowed = {action: rule for rule in policy["Statement"] for action in [*np.atleast_1d(rule["Action"])]}
    assert {"ec2:RunInstances", "ec2:TerminateInstances", "ec2:CreateTags", "iam:PassRole"} <= allowed.keys()
    assert allowed["iam:PassRole"]["Resource"].endswith("role/spacex-worker")
    ended = allowed["ec2:TerminateInstances"]["Condition"]["StringEquals"]
    assert ended == {"aws:ResourceTag/ray-cluster-name": config["cluster_name"]}


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
    assert {"constraints.txt", "spacex", "jobs", "LICENSE", "NOTICE"} <= set(copied)
    assert all((ROOT / source).exists() for source in copied)
    let_in = {line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")}
    assert let_in == set(copied)
    assert re.search(r"^USER 1000", text, re.M)
