"""Which container, pod and memory limit a process is found to have, from files as the runtimes write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.util.types import AttributeValue

from otelkit.resource import Sources, detect
from otelkit.resource.container import MEMORY_LIMIT, container_id, memory_limit_bytes
from tests.support.examples import examples

ID = "3f5a7c9e1b2d4f6081a3c5e7092b4d6f8e0a1c3e5b7d9f1a2c4e6b8d0f1a3c5e"
OTHER = "0" * 63 + "1"
POD = "7d2f3c1a-9b8e-4d5c-a6f7-0e1d2c3b4a59"
POD_IN_CGROUP = POD.replace("-", "_")
POD_ENVIRON = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "HOSTNAME": "shop-5d9c7b-x2x4z"}
NAMESPACE = "var/run/secrets/kubernetes.io/serviceaccount/namespace"


def write(root: Path, files: Mapping[str, str | bytes]) -> None:
    """Writes files, given by their paths below a root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def found(root: Path, environ: Mapping[str, str] | None = None) -> dict[str, AttributeValue]:
    """What is detected of a machine whose files are below a root."""
    return detect(
        service_name="shop",
        service_version=None,
        revision=None,
        environment=None,
        attributes={},
        environ=environ or {},
        sources=Sources(root=root, directory=root),
    )


@pytest.mark.parametrize(
    "cgroup",
    [
        pytest.param(f"12:memory:/docker/{ID}\n11:pids:/docker/{ID}\n0::/system.slice\n", id="docker, v1"),
        pytest.param(f"0::/system.slice/docker-{ID}.scope\n", id="docker, v2, systemd"),
        pytest.param(f"4:memory:/docker/{OTHER}/docker/{ID}\n", id="docker in docker"),
        pytest.param(f"0::/user.slice/user-1000.slice/libpod-{ID}.scope/container\n", id="podman, v2"),
        pytest.param(f"5:cpu:/machine.slice/libpod-{ID}.scope\n", id="podman, v1"),
        pytest.param(f"0::/kubepods/burstable/pod{POD}/{ID}\n", id="containerd, cgroupfs"),
        pytest.param(
            "0::/kubepods.slice/kubepods-burstable.slice/"
            f"kubepods-burstable-pod{POD_IN_CGROUP}.slice/cri-containerd-{ID}.scope\n",
            id="containerd, systemd",
        ),
        pytest.param(
            f"7:cpu:/system.slice/containerd.service/kubepods-pod{POD_IN_CGROUP}.slice:cri-containerd:{ID}\n",
            id="containerd, slice and id in one segment",
        ),
        pytest.param(f"0::/kubepods.slice/kubepods-pod{POD_IN_CGROUP}.slice/crio-{ID}.scope\n", id="CRI-O"),
    ],
)
def test_the_cgroup_names_the_container(tmp_path: Path, cgroup: str) -> None:
    """The id is read from /proc/self/cgroup as the container runtimes write it."""
    write(tmp_path, {"proc/self/cgroup": cgroup})
    assert found(tmp_path)["container.id"] == ID


@pytest.mark.parametrize(
    "mount",
    [
        pytest.param(
            f"473 456 254:1 /docker/containers/{ID}/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw",
            id="docker",
        ),
        pytest.param(
            f"473 456 8:1 /var/lib/docker/containers/{ID}/resolv.conf /etc/resolv.conf rw - ext4 /dev/a rw",
            id="docker, resolv.conf only",
        ),
        pytest.param(
            f"1096 1088 0:104 /containers/overlay-containers/{ID}/userdata/hostname /etc/hostname rw"
            " - tmpfs tmpfs rw,mode=700",
            id="podman",
        ),
        pytest.param(
            f"921 895 0:48 /containers/overlay-containers/{OTHER}/userdata/hostname /etc/hostname - t t rw\n"
            f"922 895 0:48 /containers/overlay-containers/{ID}/userdata/.containerenv /run/.containerenv rw"
            " - tmpfs tmpfs rw",
            id="podman, in a pod",
        ),
        pytest.param(
            f"812 790 8:2 /var/lib/nerdctl/1935db59/containers/default/{ID}/hostname /etc/hostname rw"
            " - ext4 /dev/sda2 rw",
            id="nerdctl",
        ),
    ],
)
def test_a_private_cgroup_namespace_leaves_the_mounts(tmp_path: Path, mount: str) -> None:
    """Under cgroup v2 /proc/self/cgroup says only `0::/`, and what the runtime mounts names the container."""
    root = "27 1 0:52 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/ABC\n"
    write(tmp_path, {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": f"{root}{mount}\n"})
    assert found(tmp_path)["container.id"] == ID


@pytest.mark.parametrize(
    ("cgroup", "mountinfo"),
    [
        pytest.param("0::/user.slice/user-1000.slice/session-2.scope\n", "", id="a login session"),
        pytest.param("4:memory:/agent/6b89ab0036ab1444919c581cea1eee7d\n", "", id="an id of another length"),
        pytest.param(f"0::/machine.slice/libpod-conmon-{ID}.scope\n", "", id="the monitor of a container"),
        pytest.param(
            "0::/\n",
            f"9 8 8:1 /var/lib/docker/overlay2/{ID}/merged /srv rw - ext4 /dev/sda1 rw\n",
            id="a layer",
        ),
        pytest.param(
            "0::/\n",
            f"9 8 8:1 /var/lib/docker/containers/{ID}/hostname /mnt/x rw - ext4 /dev/sda1 rw\n",
            id="another container's file",
        ),
    ],
)
def test_what_is_no_container_gets_no_id(tmp_path: Path, cgroup: str, mountinfo: str) -> None:
    """Ids of sessions, monitors, image layers and other containers are not taken for the process's."""
    write(tmp_path, {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo})
    assert "container.id" not in found(tmp_path)


def test_a_pods_sandbox_is_not_its_container(tmp_path: Path) -> None:
    """In a pod the mounts name pod and container, and the id of the sandbox only."""
    sandbox = f"/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{ID}/hostname"
    crio = f"/containers/storage/overlay-containers/{ID}/userdata/resolv.conf"
    kubelet = f"/var/lib/kubelet/pods/{POD}"
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "proc/self/mountinfo": (
                f"1 0 8:1 {sandbox} /etc/hostname rw - ext4 /dev/sda1 rw\n"
                f"2 0 0:24 {crio} /etc/resolv.conf rw - tmpfs tmpfs rw\n"
                f"3 0 8:1 {kubelet}/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw\n"
                f"4 0 8:1 {kubelet}/containers/api/9f8e7d6c /dev/termination-log rw - ext4 /dev/sda1 rw\n"
            ),
        },
    )
    resource = found(tmp_path, POD_ENVIRON)
    assert "container.id" not in resource
    assert resource["k8s.pod.uid"] == POD
    assert resource["k8s.container.name"] == "api"
    assert resource["k8s.pod.name"] == "shop-5d9c7b-x2x4z"


def test_the_uid_of_a_pod_is_also_in_its_hosts_file(tmp_path: Path) -> None:
    """A container with a termination log of its own still has the kubelet's /etc/hosts."""
    mount = f"3 0 8:1 /pods/{POD}/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw\n"
    write(tmp_path, {"proc/self/mountinfo": mount})
    assert found(tmp_path, POD_ENVIRON)["k8s.pod.uid"] == POD
    assert "k8s.pod.uid" not in found(tmp_path)


def test_the_downward_api_is_read_by_its_usual_names(tmp_path: Path) -> None:
    """Each attribute has a K8S_ name and a short one; the service account gives the namespace as well."""
    write(tmp_path, {NAMESPACE: "from-account"})
    short = {
        "POD_NAME": "shop-0",
        "POD_UID": POD,
        "POD_IP": "10.1.2.3",
        "NODE_NAME": "node-1",
        "CONTAINER_NAME": "api",
    }
    expected = {
        "k8s.pod.name": "shop-0",
        "k8s.pod.uid": POD,
        "k8s.pod.ip": "10.1.2.3",
        "k8s.node.name": "node-1",
        "k8s.container.name": "api",
    }
    from_short = found(tmp_path, {**POD_ENVIRON, **short})
    from_long = found(tmp_path, {f"K8S_{name}": value for name, value in short.items()})
    for resource in (from_short, from_long):
        assert {name: resource[name] for name in expected} == expected
        assert resource["k8s.namespace.name"] == "from-account"
    assert found(tmp_path, {"POD_NAMESPACE": "shops"})["k8s.namespace.name"] == "shops"
    assert found(tmp_path, {"K8S_NAMESPACE_NAME": "stores", "POD_NAMESPACE": "shops"})["k8s.namespace.name"] == (
        "stores"
    )


def test_names_that_others_use_mean_nothing_outside_of_kubernetes(tmp_path: Path) -> None:
    """Jenkins sets NODE_NAME and every shell HOSTNAME."""
    resource = found(tmp_path, {"NODE_NAME": "agent-1", "HOSTNAME": "laptop", "POD_NAME": "x"})
    assert not [name for name in resource if name.startswith("k8s.")]


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "536870912\n"},
            536870912,
            id="v2, container",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/app.slice/shop.service\n",
                "sys/fs/cgroup/app.slice/shop.service/memory.max": "max\n",
                "sys/fs/cgroup/app.slice/memory.max": "2000000000\n",
            },
            2_000_000_000,
            id="v2, the limit is an ancestor's",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/app.slice/shop.service\n",
                "sys/fs/cgroup/app.slice/shop.service/memory.max": "1000\n",
                "sys/fs/cgroup/app.slice/memory.max": "2000\n",
            },
            1000,
            id="v2, the least of two",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/../other\n", "sys/fs/cgroup/memory.max": "4096\n"}, 4096, id="v2, moved"
        ),
        pytest.param(
            {
                "proc/self/cgroup": f"9:memory:/docker/{ID}\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n",
            },
            268435456,
            id="v1, container",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "9:cpu,memory:/shop\n",
                "sys/fs/cgroup/memory/shop/memory.limit_in_bytes": "1048576\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            1048576,
            id="v1, host",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "9:memory:/\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            None,
            id="v1, unlimited",
        ),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, None, id="v2, unlimited"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "٣\n"}, None, id="no number"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "9" * 5000}, None, id="huge"),
        pytest.param({"sys/fs/cgroup/memory.max": "4096\n"}, None, id="no /proc"),
    ],
)
def test_the_memory_limit_is_the_least_that_applies(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    """Both versions of cgroups are read up to the root, and "no limit" is none."""
    write(tmp_path, files)
    assert found(tmp_path).get(MEMORY_LIMIT) == limit


FRAGMENTS = st.sampled_from(
    [
        *("0::/", "9:memory:", "\n", "/", ":", " ", "..", ".scope", ID, f"docker-{ID}", "crio-conmon-"),
        *("\x00", "é", "\x85", "1 2 3:4 ", "max", "42", "/etc/hostname", "/dev/termination-log"),
        *(f"/pods/{POD}/containers/", "/containers/"),
    ]
)
CONTENTS = st.binary(max_size=200) | st.lists(FRAGMENTS, max_size=30).map(lambda parts: "".join(parts).encode())


@settings(max_examples=examples(150), deadline=None)
@given(cgroup=CONTENTS, mountinfo=CONTENTS)
def test_any_text_gives_an_id_or_none(cgroup: bytes, mountinfo: bytes) -> None:
    """Whatever the kernel writes, what is found is 64 hexadecimal digits."""
    identifier = container_id(cgroup.decode("utf-8", "replace"), mountinfo.decode("utf-8", "replace"))
    assert identifier is None or len(identifier) == 64
    assert identifier is None or int(identifier, 16) >= 0


@settings(max_examples=examples(75), deadline=None)
@given(cgroup=CONTENTS, limit=CONTENTS, mountinfo=CONTENTS, namespace=CONTENTS, machine_id=CONTENTS)
def test_any_files_give_attributes_that_can_be_sent(
    tmp_path_factory: pytest.TempPathFactory,
    cgroup: bytes,
    limit: bytes,
    mountinfo: bytes,
    namespace: bytes,
    machine_id: bytes,
) -> None:
    """Files of any content neither raise nor give anything but UTF-8 and a positive number of bytes."""
    root = tmp_path_factory.mktemp("root")
    write(
        root,
        {
            "proc/self/cgroup": cgroup,
            "proc/self/mountinfo": mountinfo,
            "sys/fs/cgroup/memory.max": limit,
            "sys/fs/cgroup/memory/memory.limit_in_bytes": limit,
            "etc/machine-id": machine_id,
            "etc/passwd": mountinfo,
            NAMESPACE: namespace,
        },
    )
    for key, value in found(root, POD_ENVIRON).items():
        if key == MEMORY_LIMIT:
            assert isinstance(value, int)
            assert value > 0
        elif key != "process.pid":
            assert isinstance(value, str), key
            assert value
            assert value.encode().decode() == value


def test_a_cgroup_path_cannot_lead_out_of_the_hierarchy(tmp_path: Path) -> None:
    """`..`, which the kernel writes for a process outside of its namespace, is not followed."""
    write(tmp_path, {"sys/fs/memory.max": "123\n", "sys/fs/cgroup/memory.max": "max\n"})
    assert memory_limit_bytes(tmp_path, "0::/..\n") is None


def test_an_absurd_limit_does_not_cost_the_containers_id(tmp_path: Path) -> None:
    """A number too long for Python to read is passed over on its own."""
    write(
        tmp_path,
        {"proc/self/cgroup": f"0::/docker-{ID}.scope\n", "sys/fs/cgroup/memory.max": "9" * 5000},
    )
    assert found(tmp_path)["container.id"] == ID
