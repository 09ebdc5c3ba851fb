"""Walks a volume through its life with the PyPI client `cs`; prints one JSON object of what it saw.

Arguments: endpoint, key, secret, method, worker VM id, by-id folder.
"""

import json
import os
import sys

from cs import CloudStack, CloudStackApiException

endpoint, key, secret, method, worker_id, by_id = sys.argv[1:7]


def client(with_secret):
    return CloudStack(
        endpoint=endpoint, key=key, secret=with_secret, method=method, poll_interval=0.05, timeout=20
    )


def refusal(call):
    try:
        call()
    except CloudStackApiException as error:
        return {"status": error.response.status_code, "error": error.error}
    return None


def main():
    cloud = client(secret)
    seen = {}
    zones = cloud.listZones()
    seen["zones"] = zones["count"]
    zone_id = zones["zone"][0]["id"]
    offering = next(o for o in cloud.listDiskOfferings()["diskoffering"] if o["iscustomized"])

    name = "walk & 100% of *everything* / é"
    created = cloud.createVolume(
        name=name, zoneid=zone_id, diskofferingid=offering["id"], size=3, fetch_result=True
    )["volume"]
    seen["created"] = created
    volume_id = created["id"]

    attached = cloud.attachVolume(id=volume_id, virtualmachineid=worker_id, fetch_result=True)["volume"]
    seen["attached"] = attached
    link = os.path.join(by_id, "virtio-" + volume_id.replace("-", "")[:20])
    seen["link_size"] = os.stat(link).st_size
    seen["listed"] = cloud.listVolumes(id=volume_id)
    seen["delete_while_attached"] = refusal(lambda: cloud.deleteVolume(id=volume_id))

    cloud.detachVolume(id=volume_id, fetch_result=True)
    seen["link_after_detach"] = os.path.lexists(link)
    seen["deleted"] = cloud.deleteVolume(id=volume_id)
    seen["delete_again"] = refusal(lambda: cloud.deleteVolume(id=volume_id))
    seen["none_left"] = cloud.listVolumes(type="DATADISK")

    for number in range(5):
        cloud.createVolume(
            name="page-%d" % number, zoneid=zone_id, diskofferingid=offering["id"], size=1, fetch_result=True
        )
    seen["fetched"] = sorted(v["name"] for v in cloud.listVolumes(type="DATADISK", pagesize=2, fetch_list=True))
    seen["second_page"] = cloud.listVolumes(type="DATADISK", page=2, pagesize=2)
    seen["past_the_end"] = cloud.listVolumes(type="DATADISK", page=9, pagesize=2)
    seen["pagesize_alone"] = refusal(lambda: cloud.listVolumes(pagesize=2))
    for volume in cloud.listVolumes(type="DATADISK")["volume"]:
        cloud.deleteVolume(id=volume["id"])

    vm = cloud.deployVirtualMachine(
        zoneid=zone_id,
        serviceofferingid=cloud.listServiceOfferings()["serviceoffering"][0]["id"],
        templateid=cloud.listTemplates(templatefilter="executable")["template"][0]["id"],
        name="walked",
        startvm=False,
        details={"UEFI": "SECURE", "rootDiskController": "virtio"},
        fetch_result=True,
    )["virtualmachine"]
    seen["vm"] = vm
    cloud.destroyVirtualMachine(id=vm["id"], expunge=True, fetch_result=True)

    seen["wrong_key"] = refusal(lambda: client(secret + "x").listZones())
    print(json.dumps(seen))


main()
