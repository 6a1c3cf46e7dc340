"""How soon a PC is of use: one that comes back, and one whose code was just typed.

Schedulable means: the coordinator lists it as alive and taking work. For one that comes back the
clock starts with the process (a Python that imports), and again with its own word `ready`; for a
newcomer with the return key after the code.
"""

import subprocess
import sys
import time
from contextlib import closing

from tests.bench.rounds import (
    FIGURE_WAIT_S,
    SHARE,
    Json,
    client,
    column,
    measured,
    pool,
    quiet,
    say,
    spread,
)
from tests.testbed.engine import Engine
from tests.testbed.lan import Pc, coordinator_of, wait_until

POOL = 4
POLL_S = 0.005
IMPORTS = 5


def returns(engine: Engine, rounds: int) -> list[Json]:
    """A PC that has its certificate: its agent was killed, and is started again."""
    with pool(engine, POOL) as (net, witness):

        def once() -> Json:
            quiet(net.pcs, witness)
            chief = coordinator_of(net.pcs)
            pc = next(each for each in net.pcs if each is not chief)
            pc.kill()
            wait_until(lambda: not is_schedulable(chief, pc), FIGURE_WAIT_S, "it is missed")
            began_s = time.monotonic()
            pc.up()
            seen_s: dict[str, float] = {}

            def both() -> bool:
                if is_schedulable(chief, pc):
                    seen_s.setdefault("schedulable", time.monotonic())
                if "ready" in pc.output.read_text():
                    seen_s.setdefault("ready", time.monotonic())
                return len(seen_s) == 2

            wait_until(both, FIGURE_WAIT_S, "it is back", POLL_S)
            return {
                "from the start": seen_s["schedulable"] - began_s,
                "from its ready": max(0.0, seen_s["schedulable"] - seen_s["ready"]),
            }

        figures = measured("a PC comes back", rounds, once)
    say("Python alone: start and imports of an agent", spread([_imports() for _ in range(IMPORTS)]))
    say(
        "a PC comes back: process started to schedulable", spread(column(figures, "from the start"))
    )
    say("  from its own `ready`", spread(column(figures, "from its ready")))
    return figures


def _imports() -> float:
    """What a Python needs before the first line of the agent's own can run."""
    began_s = time.monotonic()
    subprocess.run([sys.executable, "-c", "import rain.cli.up, rain.agent.main"], check=True)
    return time.monotonic() - began_s


def enters(engine: Engine, rounds: int) -> list[Json]:
    """A newcomer at a terminal: the return key after its code, to schedulable."""
    with pool(engine, POOL) as (net, witness):
        guest = net.add(1, {"DOCKER_HOST": engine.host})[0]
        pcs = net.pcs[:-1]

        def once() -> Json:
            quiet(pcs, witness)
            chief = coordinator_of(pcs)
            code = pcs[0].rain("invite", "-q")
            assert code.returncode == 0, code.stderr
            with closing(guest.sit_down("up", "--name", guest.name, *SHARE)) as terminal:
                terminal.wait_for("Invite code")
                pressed_s = terminal.type(code.stdout.strip())
                wait_until(lambda: is_schedulable(chief, guest), FIGURE_WAIT_S, "it is in", POLL_S)
                took_s = time.monotonic() - pressed_s
                left = guest.rain("leave")
                assert left.returncode == 0, left.stderr
                terminal.ended()
            wait_until(lambda: not is_schedulable(chief, guest), FIGURE_WAIT_S, "it has left")
            return {"schedulable": took_s}

        figures = measured("a code is typed", rounds, once)
    say("a code is typed: return key to schedulable", spread(column(figures, "schedulable")))
    return figures


def is_schedulable(chief: Pc, pc: Pc) -> bool:
    """By the coordinator's own list."""
    rows = client(chief).call("nodes")["nodes"]
    return any(r["name"] == pc.name and r["state"] == "alive" and r["takes_work"] for r in rows)
