"""The TPU's compiler, on a machine without a TPU."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any

from sparsejax.errors import UserError

KNOWN = ("v4:2x2x2", "v4:4x4x4", "v5e:4x4", "v5e:16x16", "v5p:4x4x4", "v6e:4x4", "v6e:16x16")
HERE = ("local", "gpu")  # no topologies: the devices at hand


def prepare() -> None:
    """Keeps libtpu from looking for a TPU; to be called before JAX is imported.

    It would ask Google's metadata server, complain of what it does not find, and let no second
    process compile at the same time.
    """
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ["JAX_PLATFORMS"] = "cpu"  # for what is computed on the way


def devices(topology: str) -> Sequence[Any]:
    """The devices of a TPU that is not there, as `jax.devices()` would give them there.

    Raises:
      UserError: the topology is not known, or the TPU's compiler is not installed.
    """
    import jax
    from jax.experimental import topologies

    known = f"not a TPU topology; known are {', '.join(KNOWN)}, and {' and '.join(HERE)}"
    if not re.fullmatch(r"v\d+[a-z]*:\d+(x\d+)+", topology):
        raise UserError(f"topology: {topology!r} is {known}")
    if "TPU_LIBRARY_PATH" not in os.environ and importlib.util.find_spec("libtpu") is None:
        wanted = f"'jax[tpu]=={jax.__version__}'"
        raise UserError(f"topology: {topology} needs the TPU's compiler; pip install {wanted}")
    words: dict[str, Any] = {}
    if topology.startswith("v4:"):
        words["chip_config_name"] = "megacore"  # a chip is one device, and not two
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology, **words)
    except jax.errors.JaxRuntimeError as error:
        if "INVALID_ARGUMENT" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise UserError(f"topology: {topology!r} is {known} ({reason})") from None
    return described.devices
