"""JSON schemas of what `cluster/kuberay` describes, which refuse unknown fields, as the API server would warn of.

One is ours and lists the few fields that the manifests set; KubeRay's own definitions are read where they are at hand.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

CLUSTER = Path(__file__).resolve().parents[2] / "cluster"
FIELDS = yaml.safe_load(Path(__file__).with_name("manifest_fields.yaml").read_text())
SCHEMAS = ("RayCluster", "RayJob", "ingress", "egress")
"""Kinds of resources, and the lists of rules in a network policy."""
_QUANTITY = r"^[+-]?[0-9.]+([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9.]+)?$"


def documents(path: Path) -> list[dict[str, Any]]:
    """All documents of a YAML file."""
    # libyaml's reader: the one in Python takes seconds for KubeRay's definitions
    return [document for document in yaml.load_all(path.read_text(), yaml.CSafeLoader) if document]


def own_schema(name: str) -> dict[str, Any]:
    """Ours of one of `SCHEMAS`."""
    return _spelled_out(FIELDS[name])


def _spelled_out(fields: Any) -> dict[str, Any]:
    """A JSON schema from the notation of manifest_fields.yaml."""
    if isinstance(fields, list):
        return {"type": "array", "items": _spelled_out(fields[0])}
    if isinstance(fields, dict):
        if "*" in fields:
            return {"type": "object", "additionalProperties": _spelled_out(fields["*"])}
        known = {name.rstrip("!"): _spelled_out(value) for name, value in fields.items()}
        needed = [name.rstrip("!") for name in fields if name.endswith("!")]
        return {"type": "object", "additionalProperties": False, "properties": known, "required": needed}
    if "|" in fields:
        return {"type": "string", "enum": fields.split("|")}
    if fields in ("port", "quantity"):
        pattern = {"pattern": _QUANTITY} if fields == "quantity" else {}
        return {"anyOf": [{"type": "integer"}, {"type": "string", **pattern}]}
    return {"type": fields}


def differences(ours: dict[str, Any], theirs: dict[str, Any], place: str = "") -> list[str]:
    """Where our schema has a field that theirs has not or has as something else, or does not need one that it needs."""
    kinds = [{part.get("type") for part in schema.get("anyOf", [schema])} for schema in (ours, theirs)]
    if kinds[0] != kinds[1]:
        return [f"{place}: {kinds[0]}, not {kinds[1]}"]
    found = []
    if "enum" in theirs and sorted(theirs["enum"]) != sorted(ours.get("enum", [])):
        found.append(f"{place}: not one of {theirs['enum']}")
    missing = {name for name in theirs.get("required", []) if name not in ours.get("required", [])}
    if "properties" in ours and missing:
        found.append(f"{place}: does not need {missing}")
    for name, field in ours.get("properties", {}).items():
        known = theirs.get("properties", {}).get(name)
        found += [f"{place}/{name}: unknown"] if known is None else differences(field, known, f"{place}/{name}")
    for part in ("items", "additionalProperties"):
        if isinstance(ours.get(part), dict):
            found += differences(ours[part], theirs[part], f"{place}/{part}")
    return found


@cache  # they are 2 MB
def schema_of(definitions: Path, name: str, version: str = "v1") -> dict[str, Any]:
    """KubeRay's own of one of `SCHEMAS`; network rules are Kubernetes', which KubeRay's definition repeats.

    Args:
        definitions: folder with KubeRay's CustomResourceDefinitions.
        name: the kind of a resource as in the manifests, or `ingress` or `egress`.
        version: of the API.
    """
    if name in ("ingress", "egress"):
        spec = schema_of(definitions, "RayCluster")["properties"]["spec"]["properties"]
        rules: dict[str, Any] = spec["networkPolicy"]["properties"]["head"]["properties"][f"{name}Rules"]
        return rules
    found = documents(definitions / f"ray.io_{name.lower()}s.yaml")[0]["spec"]["versions"]
    [schema] = [entry["schema"]["openAPIV3Schema"] for entry in found if entry["name"] == version]
    strict: dict[str, Any] = _strict(schema)
    strict["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own, not spelled out in the definition
    return strict


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
