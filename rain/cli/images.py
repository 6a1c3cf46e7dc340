"""Finds, makes or fetches a small image with a shell, by asking the docker command itself."""

import shutil
import subprocess
import tempfile
from pathlib import Path

IMAGES = ("rain-demo", "busybox", "alpine")
BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
ENGINE_WAIT_S = 10
BUILD_WAIT_S = 60
PULL_WAIT_S = 30
DOCKERFILE = """FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
"""


def find_image() -> tuple[str, str]:
    """(image, '') or ('', why there is none)."""
    if shutil.which("docker") is None:
        return "", "there is no docker command on this PC"
    if not _docker("version", "--format", "{{.Server.Version}}", wait_s=ENGINE_WAIT_S):
        return "", "no Docker engine answers here"
    for image in IMAGES:
        if _docker("image", "inspect", image, wait_s=ENGINE_WAIT_S):
            return image, ""
    if _build():
        return "rain-demo", ""
    if _docker("pull", "-q", "busybox", wait_s=PULL_WAIT_S):
        return "busybox", ""
    return "", "the Docker engine has no image with a shell, and none could be made or fetched"


def _build() -> bool:
    """An image of nothing but busybox. The last step runs it, so a dynamic one fails there."""
    busybox = next((Path(path) for path in BUSYBOX if Path(path).is_file()), None)
    if busybox is None:
        return False
    with tempfile.TemporaryDirectory(prefix="rain-image-") as folder:
        shutil.copy(busybox, Path(folder) / "busybox")
        (Path(folder) / "Dockerfile").write_text(DOCKERFILE, encoding="ascii")
        return _docker("build", "-q", "-t", "rain-demo", folder, wait_s=BUILD_WAIT_S)


def _docker(*words: str, wait_s: int) -> bool:
    try:
        done = subprocess.run(
            ["docker", *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=wait_s,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
