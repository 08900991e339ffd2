"""The part of the model that is about Kubernetes: the router's `kubernetes` block, and replicas that are pods.

Owns: how fe reaches the cluster, where it looks for models, how front-ends elect one of them, which pods a deployment
has. Never: the cluster itself (`fe.control.kubernetes`). The objects in the cluster are made of the same structs as the
files; docs/kubernetes-objects.md has them.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from fe.config.annotations import Seconds, key


class KubernetesReplicas(Struct, frozen=True, tag_field="kind", tag="kubernetes"):
    """Replicas that are the pods of a Deployment (apps/v1): `kubernetes: {deployment: ..., port: ...}`."""

    deployment: Annotated[str, key("name of the Deployment (apps/v1)", kind="object_name", example="fraud-blue")]
    namespace: Annotated[
        str, key("where it is; default: the namespace that fe itself is in", kind="namespace", example="models")
    ] = ""
    port: Annotated[int, key("port on which its pods serve", example=8080, ge=1, le=65_535)] = 5001


class Election(Struct, frozen=True):
    """How one of several front-ends comes to be the one that scales: whoever holds a Lease."""

    lease: Annotated[str, key("name of the Lease", kind="object_name", example="fe")] = "fe"
    namespace: Annotated[
        str, key("where it is; default: the namespace that fe itself is in", kind="namespace", example="fe")
    ] = ""
    duration: Annotated[
        Seconds,
        key(
            "a Lease that has not been seen renewed for this long may be taken over",
            kind="seconds",
            unit="s",
            example=30,
            ge=1,
            le=3600,
        ),
    ] = 15.0
    renew_deadline: Annotated[
        Seconds,
        key(
            "the holder gives up when it could not renew for this long; less than `duration`",
            kind="seconds",
            unit="s",
            example=12,
            ge=0.5,
            le=3600,
        ),
    ] = 10.0
    retry: Annotated[
        Seconds,
        key("between two tries; less than `renew_deadline`", kind="seconds", unit="s", example=1, ge=0.1, le=3600),
    ] = 2.0


class Kubernetes(Struct, frozen=True):
    """The cluster in which fe finds models. That this block is there at all (`kubernetes: {}`) turns it on."""

    kubeconfig: Annotated[
        str | None,
        key(
            "how to reach the cluster; default: the service account in a pod, else the usual kubeconfig",
            kind="file_path",
            example="/etc/fe/kubeconfig",
        ),
    ] = None
    context: Annotated[str | None, key("which context of the kubeconfig; default: its current one", example="prod")] = (
        None
    )
    namespaces: Annotated[
        tuple[str, ...],
        key(
            'where models are looked for; default: the namespace that fe itself is in; ["*"]: in all',
            kind="namespaces",
            example=["models", "models-test"],
        ),
    ] = ()
    identity: Annotated[
        str | None,
        key("this front-end's name among its siblings; default: POD_NAME, else the host name", example="fe-0"),
    ] = None
    election: Annotated[Election, key("which of several front-ends scales")] = Election()
    siblings: Annotated[
        str,
        key(
            "label selector of the front-ends' pods, in the namespace that fe itself is in",
            kind="selector",
            example="app.kubernetes.io/name=fe",
        ),
    ] = "app.kubernetes.io/name=fe"
