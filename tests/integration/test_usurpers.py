"""Members that claim more than their certificate says: on the wire and at the command line."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.intruder import Stolen, attack
from tests.testbed.lan import Json, Pc, missing, wait_agreed
from tests.testbed.scene import (
    RUN,
    Count,
    Scene,
    assert_works,
    attacked_pool,
    node_id,
    submit,
    wait_running,
)

pytestmark = [pytest.mark.lan]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    reason = missing()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    with attacked_pool(tmp_path_factory.mktemp("attacks")) as one:
        yield one


# --- Members that claim more ---------------------------------------------------------------------


@pytest.fixture(scope="class")
def worker_folder(scene: Scene) -> Iterator[Path]:
    """The worker's PC is in other hands: its agent is stopped, its folder is used."""
    scene.worker.kill()
    yield scene.worker.data_dir
    scene.worker.up()
    scene.worker.wait_ready()
    wait_agreed(scene.pool)


@pytest.fixture(scope="class")
def member_folder(scene: Scene) -> Iterator[Path]:
    """The same of a member's PC."""
    scene.mia.kill()
    yield scene.mia.data_dir
    scene.mia.up()
    scene.mia.wait_ready()
    wait_agreed(scene.pool)


def _chief(scene: Scene) -> Pc:
    name = scene.second.ask("status")["coordinator"]["name"]
    return next(pc for pc in scene.pool if pc.name == name)


class TestWorker:
    """A worker's PC in other hands."""

    def test_packets_forged_in_the_name_of_another_member(
        self, scene: Scene, worker_folder: Path
    ) -> None:
        """Sealed with the pool's key, signed with another than the one that it names."""
        count = Count(scene.second)
        as_key = Stolen(scene.stolen(scene.mia)).signer.public_key.hex()
        attack(
            scene.worker, "cast", folder=str(worker_folder), host=scene.second.address,
            kinds=["heartbeat"], as_key=as_key,
        )  # fmt: skip
        count.rose("packets.signature", by=5)
        assert_works(scene.mia)

    def test_a_worker_that_claims_to_coordinate(self, scene: Scene, worker_folder: Path) -> None:
        trap = scene.folder / "obeyed"
        count, epoch = Count(scene.second), scene.second.ask("status")["epoch"]
        job_id = submit(scene.mia, "--node", scene.second.name, "--", "sleep", "60")
        wait_running(scene.mia, job_id)
        args: Json = {
            "folder": str(worker_folder), "host": scene.second.address, "job": job_id,
            "target": node_id(scene.second), "trap": str(trap),
        }  # fmt: skip
        attack(scene.worker, "cast", kinds=["heartbeat", "challenge", "resign"], **args)
        orders = ["assign", "assign_of_the_reign", "stop", "report_ack", "inventory_request",
                  "replicate", "patch"]  # fmt: skip
        told = attack(scene.worker, "post", kinds=orders, **args)
        assert "only an admin" in told["certify"] or "root" in told["certify"]

        kinds = ("Heartbeat", "Challenge", "Resign", "Assign", "Stop", "ReportAck",
                 "InventoryRequest", "Replicate", "Patch")  # fmt: skip
        count.rose(*(f"messages.{kind} role" for kind in kinds))
        assert scene.second.ask("status")["epoch"] == epoch
        assert not trap.exists()
        assert scene.mia.ask("job", job_id)["state"] == "RUNNING"
        assert_works(scene.mia)
        assert scene.mia.rain("cancel", job_id).returncode == 0

    def test_a_worker_that_reports_submits_cancels(self, scene: Scene, worker_folder: Path) -> None:
        """To the coordinator: another's result, a job, another's cancel."""
        chief = _chief(scene)
        count = Count(chief)
        job_id = submit(scene.mia, "--node", scene.second.name, "--", "sleep", "60")
        wait_running(scene.mia, job_id)
        attack(
            scene.worker, "post", folder=str(worker_folder), host=chief.address, job=job_id,
            kinds=["report", "submit", "cancel", "cancel_in_anothers_name"],
            victim=node_id(scene.second), target=node_id(scene.second),
            trap=str(scene.folder / "submitted"),
        )  # fmt: skip

        count.rose("claims.not_its_attempt")
        count.rose("messages.Propose role", by=3)
        assert scene.mia.ask("job", job_id)["state"] == "RUNNING"
        assert_works(scene.mia)
        assert scene.mia.rain("cancel", job_id).returncode == 0
        assert not (scene.folder / "submitted").exists()

    def test_a_worker_that_invites_and_removes(self, scene: Scene, worker_folder: Path) -> None:
        before = scene.second.ask("members")
        count = Count(scene.second)
        attack(
            scene.worker, "post", folder=str(worker_folder), host=scene.second.address,
            kinds=["invite", "remove", "rekey", "promote"], victim=node_id(scene.admin),
        )  # fmt: skip

        count.rose("claims.claim_without_right", by=3)
        count.rose("claims.certificate_of_no_chain")
        after = scene.second.ask("members")
        assert after["removed"] == before["removed"]
        assert after["key"]["number"] == before["key"]["number"]
        roles = {row["name"]: row["role"] for row in after["members"]}
        assert roles[scene.worker.name] == "worker"
        assert roles[scene.admin.name] == "admin"
        assert_works(scene.mia)


class TestMember:
    """A member's PC in other hands."""

    def test_a_member_that_orders_and_cancels_what_is_not_its_own(
        self, scene: Scene, member_folder: Path
    ) -> None:
        """It might come to coordinate, but it does not; and the job is another person's."""
        trap, target, chief = scene.folder / "obeyed-too", scene.second, _chief(scene)
        job_id = submit(scene.second, "--node", target.name, "--", "sleep", "60")
        wait_running(scene.second, job_id)
        counts = Count(target), Count(chief)
        args: Json = {
            "folder": str(member_folder), "job": job_id, "trap": str(trap),
            "target": node_id(target), "victim": node_id(target),
        }  # fmt: skip
        attack(
            scene.mia, "post", host=target.address,
            kinds=["assign", "assign_of_the_reign", "stop", "invite", "forged_claim"], **args,
        )  # fmt: skip
        attack(
            scene.mia, "post", host=chief.address,
            kinds=["report", "cancel", "cancel_in_anothers_name"], **args,
        )  # fmt: skip

        counts[0].rose("claims.claim_without_right", "claims.order_not_by_the_coordinator")
        counts[1].rose("claims.cancel_not_allowed", "claims.not_its_attempt")
        assert scene.second.ask("job", job_id)["state"] == "RUNNING"
        assert not trap.exists()
        assert_works(scene.second)
        assert scene.admin.rain("cancel", job_id).returncode == 0

    def test_bad_frames_with_a_members_certificate(self, scene: Scene, member_folder: Path) -> None:
        count = Count(scene.second)
        ends = attack(scene.mia, "mangle", folder=str(member_folder), host=scene.second.address)
        posts = {name: end for name, end in ends.items() if name.endswith("in a post")}
        others = {name: end for name, end in ends.items() if name not in posts}

        assert set(others.values()) == {"end"}, ends
        count.rose("streams.frame_length", by=3)
        count.garbled("streams.", by=7)
        count.garbled("messages.", by=2)
        assert_works(scene.second)


# --- Through the command line --------------------------------------------------------------------


def test_people_cancel_their_own_jobs_and_admins_any(scene: Scene) -> None:
    scene.mia.wait_ready()
    job_id = submit(scene.second, "--", "sleep", "60")
    wait_running(scene.mia, job_id)
    done = scene.mia.rain("cancel", job_id)
    assert done.returncode != 0
    assert "only they or an admin may cancel it" in done.stderr, done.stderr
    assert scene.mia.ask("job", job_id)["state"] == "RUNNING"
    assert scene.second.rain("cancel", job_id).returncode == 0

    theirs = submit(scene.mia, "--", "sleep", "60")
    wait_running(scene.mia, theirs)
    assert scene.second.rain("cancel", theirs).returncode != 0
    assert scene.admin.rain("cancel", theirs).returncode == 0
    events = scene.mia.ask("members", "--events")["events"]
    assert [one["by"] for one in events if one["event"] == "cancelled" and theirs in one["what"]]


def test_what_a_member_may_not_say_at_the_command_line(scene: Scene) -> None:
    for words in (("invite",), ("invite", "--token"), ("kick", scene.worker.name)):
        done = scene.mia.rain(*words)
        assert done.returncode == 1, words
        assert "admin" in done.stderr, done.stderr
    for verb in (("submit", *RUN, "-d", "--", "true"), ("logs", "last"), ("invite",)):
        done = scene.worker.rain(*verb)
        assert done.returncode != 0, verb
        assert "Traceback" not in done.stderr
