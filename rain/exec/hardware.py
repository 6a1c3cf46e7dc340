"""What this PC has; the only file that asks psutil and NVML."""

import platform
import threading
import time
from contextlib import suppress

import psutil
import pynvml

from rain.model import Facts, Resources
from rain.version import VERSION

GPU_WAIT_S = 3.0
"""A driver that hangs must not keep the node from starting."""
ACCELERATORS_MAX = 64


def measure() -> Facts:
    """Capacity, platform and GPUs of this PC. Takes at most a few seconds and never raises."""
    accelerators, _ = _gpus()
    return Facts(
        capacity=Resources(_cpus_milli(), _memory_bytes()),
        software=VERSION,
        platform=f"{platform.system()} {platform.release()} {platform.machine()}"[:128],
        accelerators=accelerators,
    )


def gpu_reason() -> str:
    """Why no GPU is offered; empty where there is one."""
    return _gpus()[1]


def now_unix_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def boot_unix_ms() -> int:
    """When this PC was switched on, by the wall clock; 0 where nobody knows."""
    with suppress(psutil.Error, OSError):
        return int(psutil.boot_time() * 1_000)
    return 0


def _cpus_milli() -> int:
    with suppress(psutil.Error, OSError):
        return (psutil.cpu_count(logical=True) or 1) * 1_000
    return 1_000


def _memory_bytes() -> int:
    with suppress(psutil.Error, OSError):
        return psutil.virtual_memory().total
    return 0


def _gpus() -> tuple[tuple[str, ...], str]:
    """Models, or why there are none."""
    found: list[tuple[tuple[str, ...], str]] = []
    asking = threading.Thread(target=lambda: found.append(_ask_nvml()), daemon=True)
    asking.start()
    asking.join(GPU_WAIT_S)
    if not found:
        return (), f"the NVIDIA driver did not answer within {GPU_WAIT_S:.0f} s; try: nvidia-smi"
    return found[0]


def _ask_nvml() -> tuple[tuple[str, ...], str]:
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError, OSError) as error:
        if "Not Found" in str(error):
            return (), "no NVIDIA driver is installed here"
        return (), f"the NVIDIA driver does not work ({error}); try: nvidia-smi"
    try:
        count = min(int(pynvml.nvmlDeviceGetCount()), ACCELERATORS_MAX)
        names = [
            pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(n)) for n in range(count)
        ]
    except (pynvml.NVMLError, OSError) as error:
        return (), f"the NVIDIA driver does not work ({error}); try: nvidia-smi"
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    models = tuple(
        (name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name))[:128]
        for name in names
    )
    return models, "" if models else "the NVIDIA driver finds no GPU"
