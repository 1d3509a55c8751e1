"""KubeRay's resource definitions as JSON schemas that refuse unknown fields, as the API server would warn of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"


def documents(path: Path) -> list[dict[str, Any]]:
    """All documents of a YAML file."""
    # libyaml's reader: the definitions are 2 MB, and the one in Python takes seconds
    return [document for document in yaml.load_all(path.read_text(), yaml.CSafeLoader) if document]


def schema_of(definitions: Path, kind: str, version: str = "v1") -> dict[str, Any]:
    """The strict JSON schema of one kind (`RayJob`, `RayCluster`).

    Args:
        definitions: folder with KubeRay's CustomResourceDefinitions.
        kind: as in the manifests.
        version: of the API.
    """
    name = f"ray.io_{kind.lower()}s.yaml"
    found = documents(definitions / name)[0]["spec"]["versions"]
    [schema] = [entry["schema"]["openAPIV3Schema"] for entry in found if entry["name"] == version]
    strict: dict[str, Any] = _strict(schema)
    strict["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own, not spelled out in the definition
    return strict


def rules_of(definitions: Path, direction: str) -> dict[str, Any]:
    """Kubernetes' schema of a list of `ingress` or `egress` rules, which KubeRay's definition repeats."""
    spec = schema_of(definitions, "RayCluster")["properties"]["spec"]["properties"]
    rules: dict[str, Any] = spec["networkPolicy"]["properties"]["head"]["properties"][f"{direction}Rules"]
    return rules


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    schema = {key: _strict(value) for key, value in node.items()}
    if schema.get("x-kubernetes-int-or-string") is True:
        # quantities such as "500m", and ports: the definition's `pattern` holds for the text form only
        text = {"type": "string", **({"pattern": schema["pattern"]} if "pattern" in schema else {})}
        return {"anyOf": [{"type": "integer"}, text]}
    keep = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not keep:
        schema.setdefault("additionalProperties", False)
    return schema
