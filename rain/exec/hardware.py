"""What this PC has; the only file that asks psutil and NVML."""

import platform
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from rain.model import Facts, Resources
from rain.version import VERSION

GPU_WAIT_S = 3.0
"""A driver that hangs must not keep the node from starting."""
ACCELERATORS_MAX = 64

Gpus = tuple[tuple[str, ...], str]
"""Models, and why there are none."""


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


def began_unix_ms(pid: int) -> int:
    """When a process of this PC began; 0 where nobody knows."""
    try:
        return int(psutil.Process(pid).create_time() * 1_000) if pid > 0 else 0
    except psutil.Error:
        return 0


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


class _Asking:
    """The thread that asks the driver, and its answer; at most one, for a hung one never ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._answer: Gpus | None = None

    def ask(self, question: Callable[[], Gpus], wait_s: float) -> Gpus | None:
        """The answer, or that of the last time; None where there was none yet."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, args=(question,), daemon=True)
                self._thread.start()
            thread = self._thread
        thread.join(wait_s)
        return self._answer

    def _run(self, question: Callable[[], Gpus]) -> None:
        self._answer = question()


_ASKING = _Asking()


def _gpus() -> Gpus:
    """Models, or why there are none."""
    answer = _ASKING.ask(_ask_nvml, GPU_WAIT_S)
    if answer is None:
        return (), f"the NVIDIA driver did not answer within {GPU_WAIT_S:.0f} s; try: nvidia-smi"
    return answer


def _ask_nvml() -> Gpus:
    import pynvml  # in the driver's own thread: an agent is on the network before it

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
