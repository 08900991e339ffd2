"""Numbers set by hand: through the admin API, refused where fe does not set them, with who does, and what to do; in the
cluster, brought back within the bounds.
"""

from __future__ import annotations

import pytest

from fe.control.kubernetes import scale
from tests.control.admin_client import post
from tests.control.harness import eventually, on_loop
from tests.kubernetes.scene import DEPLOYMENTS, addresses, in_file, scene, workload
from tests.kubernetes.test_scale import HPA, HPAS, NAME, SCALED, begun, deployment, reached

PATH = f"/api/deployments/{NAME}/scale"


async def refusal(s) -> str:
    answer = await post(s.world, PATH, {"count": 3})
    assert (answer.status, answer.code) == (409, "left_alone"), answer
    assert s.writes() == []
    message: str = answer.json["error"]["message"]
    return message


@on_loop
async def test_where_another_front_end_leads(tmp_path):
    async with scene(tmp_path, in_file(**SCALED)) as s:
        s.emulator.nodes.run(addresses())
        await s.emulator.create(workload())
        await s.leads()
        (tmp_path / "other").mkdir()
        async with scene(tmp_path / "other", in_file(**SCALED), emulator=s.emulator, identity="fe-1") as other:
            hub = other.world.plane.hub
            await eventually(lambda: hub.leader == "fe-0", "it knows who leads")
            await eventually(lambda: other.world.plane.live()[NAME].load.ready == 1, "its pod serves")
            assert await refusal(other) == (
                f"fe does not scale {NAME} now: the front-end fe-0 scales; "
                "ask the one that leads, or set it with `kubectl -n models scale deployment/m`, which fe respects"
            )


@on_loop
async def test_where_an_autoscaler_of_the_cluster_scales(tmp_path):
    async with scene(tmp_path, in_file(**SCALED)) as s:
        s.emulator.nodes.run(addresses())
        await s.emulator.create(workload())
        await s.leads()
        await s.emulator.create(HPA)
        await eventually(lambda: s.events("conflict"), "it is told")
        assert await refusal(s) == (
            f"fe does not scale {NAME} now: HorizontalPodAutoscaler others scales the same pods; "
            "set its bounds, or remove it and fe scales"
        )
        await s.emulator.delete(f"{HPAS}/others")
        await eventually(lambda: not s.world.plane.live()[NAME].barred, "it is gone")
        assert (await post(s.world, PATH, {"count": 3})).json == {"desired": 3, "former": 1}


@pytest.mark.parametrize(
    ("count", "bound", "why"),
    [(0, 1, "0 set by hand, min_instances is 1"), (9, 5, "9 set by hand, max_instances is 5")],
)
@on_loop
async def test_a_number_out_of_bounds_comes_back_to_the_bound_and_stays_there(count, bound, why, tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "SETTLED", 0.0)
    async with scene(tmp_path, in_file(scale_settings={"max_instances": 5, "scale_down_delay": 0.5})) as s:
        await begun(s)
        await s.emulator.patch(f"{DEPLOYMENTS}/m/scale", {"spec": {"replicas": count}})
        await eventually(lambda: s.world.plane.hub.writes["written"], "fe has set it")
        await reached(s, bound)
        told, *kept = s.events("scale")
        assert (told["from"], told["to"], told["reason"]) == (1, count, "set in the cluster by somebody else")
        # Once more for each write that met a change of the Deployment's status.
        tries = 1 + s.world.plane.hub.writes["conflict"]
        assert [(one["from"], one["to"], one["reason"]) for one in kept] == [(count, bound, why)] * tries
        track = s.world.plane.tracks()[NAME]
        looked = track.observed.at
        await eventually(lambda: track.observed.at > looked + 1, "looked at past scale_down_delay")
        assert (s.world.plane.hub.writes["written"], deployment(s).wanted) == (1, bound)
