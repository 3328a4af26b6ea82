"""Finds out which container and pod the process is in, and how much memory it may use there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from opentelemetry.util.types import AttributeValue

from otelkit.resource.files import read_text

# docker-<id>.scope, cri-containerd-<id>.scope, crio-<id>.scope, libpod-<id>.scope,
# kubepods-pod<uid>.slice:cri-containerd:<id>, <id>
_CGROUP_ID = re.compile(r"(?:.*[-:])?([0-9a-f]{64})")
# /var/lib/docker/containers/<id>/hostname, /containers/overlay-containers/<id>/userdata/hostname (podman),
# /var/lib/nerdctl/1935db59/containers/default/<id>/hostname (containerd)
_MOUNT_ID = re.compile(r"/(?:[a-z]+-)?containers/(?:[^/]+/)?([0-9a-f]{64})/")
# podman's own file first: in its pods the others belong to the infra container.
_CONTAINER_FILES = ("/run/.containerenv", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")

_KUBELET_HOSTS = re.compile(r".*/pods/([0-9a-f-]{32,36})/etc-hosts")
_KUBELET_TERMINATION_LOG = re.compile(r".*/pods/([0-9a-f-]{32,36})/containers/([a-z0-9-]{1,63})/[^/]+")
_SERVICE_ACCOUNT_NAMESPACE = "var/run/secrets/kubernetes.io/serviceaccount/namespace"
_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")

# The kernel's "no limit" of cgroup v1 is 2**63 less a page; no machine has this much.
_UNLIMITED_BYTES = 1 << 60
_NUMBER = re.compile(r"[0-9]{1,19}")
MEMORY_LIMIT = "otelkit.cgroup.memory.limit"
"""In bytes. Our own name: the semantic conventions have no attribute for the limit of a container."""

# attribute -> (names that mean nothing else, names that other software uses as well)
_DOWNWARD_API = {
    "k8s.pod.name": (("K8S_POD_NAME",), ("POD_NAME",)),
    "k8s.pod.uid": (("K8S_POD_UID",), ("POD_UID",)),
    "k8s.pod.ip": (("K8S_POD_IP",), ("POD_IP",)),
    "k8s.namespace.name": (("K8S_NAMESPACE_NAME", "K8S_NAMESPACE", "K8S_POD_NAMESPACE"), ("POD_NAMESPACE",)),
    "k8s.node.name": (("K8S_NODE_NAME",), ("NODE_NAME",)),
    "k8s.container.name": (("K8S_CONTAINER_NAME",), ("CONTAINER_NAME",)),
}


def in_kubernetes(environ: Mapping[str, str], root: Path) -> bool:
    """Whether the process runs in a pod."""
    return bool(environ.get("KUBERNETES_SERVICE_HOST")) or (root / _SERVICE_ACCOUNT_NAMESPACE).is_file()


def is_containerized(environ: Mapping[str, str], root: Path) -> bool:
    """Whether docker, podman or Kubernetes left a sign that the files of /etc are those of an image."""
    signs = (root / ".dockerenv", root / "run/.containerenv")
    return in_kubernetes(environ, root) or any(sign.exists() for sign in signs)


def detect_container(environ: Mapping[str, str], root: Path) -> dict[str, AttributeValue]:
    """`container.id` and the memory limit in bytes, where there are any."""
    found: dict[str, AttributeValue] = {}
    cgroup = read_text(root / "proc/self/cgroup")
    # In a pod the mounts name the sandbox, which is another container.
    mountinfo = "" if in_kubernetes(environ, root) else read_text(root / "proc/self/mountinfo")
    if (identifier := container_id(cgroup, mountinfo)) is not None:
        found["container.id"] = identifier
    if (limit_bytes := memory_limit_bytes(root, cgroup)) is not None:
        found[MEMORY_LIMIT] = limit_bytes
    return found


def detect_kubernetes(environ: Mapping[str, str], root: Path) -> dict[str, AttributeValue]:
    """The `k8s.*` attributes that environment variables (the downward API) or the kubelet's mounts show.

    Names such as NODE_NAME, which Jenkins sets too, count only inside of a pod.
    """
    inside = in_kubernetes(environ, root)
    found: dict[str, AttributeValue] = {}
    if inside:
        found.update(_parse_kubelet_mounts(read_text(root / "proc/self/mountinfo")))
        namespace = read_text(root / _SERVICE_ACCOUNT_NAMESPACE).strip()
        if _DNS_LABEL.fullmatch(namespace):
            found["k8s.namespace.name"] = namespace
        if hostname := environ.get("HOSTNAME"):
            found["k8s.pod.name"] = hostname
    for attribute, (own, shared) in _DOWNWARD_API.items():
        for name in (*own, *shared) if inside else own:
            if value := environ.get(name):
                found[attribute] = value
                break
    return found


def container_id(cgroup: str, mountinfo: str) -> str | None:
    """The id of the container in the texts of /proc/self/cgroup and /proc/self/mountinfo.

    The first names it under cgroup v1 and in the host's cgroup namespace; the second with docker, podman and
    nerdctl, by the files that they mount into a container.
    """
    for line in cgroup.splitlines():
        for segment in reversed(line.split(":", 2)[-1].split("/")):
            found = _CGROUP_ID.fullmatch(segment.removesuffix(".scope"))
            # conmon is podman's and CRI-O's monitor of a container, not the container.
            if found and "conmon" not in segment:
                return found[1]
    mounts = _mounts(mountinfo)
    for path in _CONTAINER_FILES:
        if found := _MOUNT_ID.search(mounts.get(path, "")):
            return found[1]
    return None


def memory_limit_bytes(root: Path, cgroup: str) -> int | None:
    """The least memory limit of the process's cgroup and its ancestors, None if there is none.

    A container that sees only its own part of the hierarchy has its files at the mount point, whatever path
    /proc names: what does not exist on the way up is passed over.
    """
    limits: list[int] = []
    mounts: tuple[str, ...]
    for line in cgroup.splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            mounts, name = ("sys/fs/cgroup", "sys/fs/cgroup/unified"), "memory.max"
        elif "memory" in controllers.split(","):
            mounts, name = ("sys/fs/cgroup/memory",), "memory.limit_in_bytes"
        else:
            continue
        parts = [part for part in path.split("/") if part]
        if ".." in parts:
            parts = []
        for mount in mounts:
            for depth in range(len(parts) + 1):
                text = read_text(root.joinpath(mount, *parts[:depth], name)).strip()
                if _NUMBER.fullmatch(text):
                    limits.append(int(text))
    return min((limit for limit in limits if 0 < limit < _UNLIMITED_BYTES), default=None)


def _parse_kubelet_mounts(mountinfo: str) -> dict[str, AttributeValue]:
    mounts = _mounts(mountinfo)
    if found := _KUBELET_TERMINATION_LOG.fullmatch(mounts.get("/dev/termination-log", "")):
        return {"k8s.pod.uid": found[1], "k8s.container.name": found[2]}
    if found := _KUBELET_HOSTS.fullmatch(mounts.get("/etc/hosts", "")):
        return {"k8s.pod.uid": found[1]}
    return {}


def _mounts(mountinfo: str) -> dict[str, str]:
    """Mount point -> what of its file system is mounted there (fields 5 and 4 of proc_pid_mountinfo(5))."""
    lines = (line.split(" ", 5) for line in mountinfo.splitlines())
    return {fields[4]: fields[3] for fields in lines if len(fields) == 6}
