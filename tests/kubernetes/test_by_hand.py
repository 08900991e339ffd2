"""Numbers set by hand through the admin API: refused where fe does not set them, with who does, and what to do."""

from __future__ import annotations

from tests.control.admin_client import post
from tests.control.harness import eventually, on_loop
from tests.kubernetes.scene import addresses, in_file, scene, workload
from tests.kubernetes.test_scale import HPA, HPAS, NAME, SCALED

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
