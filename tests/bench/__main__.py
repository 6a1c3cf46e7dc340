"""`make bench`: figures of this machine, absolute and as ratios measured in one run."""

import platform
import sys

import psutil

from tests.bench import core_figures, lan_figures, mesh_figures
from tests.testbed.engine import running_engine, why_impossible
from tests.testbed.lan import missing


def main() -> int:
    memory = psutil.virtual_memory().total / 2**30
    print(
        f"{platform.platform()}, {psutil.cpu_count()} cores, {memory:.0f} GiB, "
        f"Python {platform.python_version()}; load {psutil.getloadavg()[0]:.1f}\n"
    )
    core_figures.placements()
    core_figures.simulator()
    mesh_figures.packets()
    mesh_figures.streams()
    reason = why_impossible() or missing()
    if reason:
        print(f"no figures of a real pool: {reason}")
        return 0
    with running_engine() as engine:
        lan_figures.submit_to_started(engine)
        lan_figures.idle(engine, 4)
        lan_figures.idle(engine, 32)
        lan_figures.failover(engine, "process killed")
        lan_figures.failover(engine, "cable cut")
        lan_figures.worker_lost(engine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
