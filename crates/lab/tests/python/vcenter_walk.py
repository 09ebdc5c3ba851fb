"""Walks a vCenter with pyVmomi and prints what it saw as one JSON object.

Arguments: host port ca-file user password sha1-thumbprint vm-name inventory-path admin-url
"""

import hashlib
import json
import ssl
import sys
import urllib.request

from pyVim.connect import Disconnect, SmartConnect
from pyVim.task import WaitForTask
from pyVmomi import vim, vmodl

host, port, ca, user, password, thumbprint, vm_name, path, admin = sys.argv[1:]
seen = {}


def fault_of(call):
    try:
        call()
    except vmodl.MethodFault as fault:
        return type(fault).__name__.split(".")[-1]
    return None


def laboratory(route, body):
    request = urllib.request.Request(
        f"{admin}/lab/vms/{vm_name}/{route}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def connect(secret, **trust):
    return SmartConnect(host=host, port=int(port), user=user, pwd=secret, **trust)


def network_name(content, nic):
    backing = nic.backing
    if isinstance(backing, vim.vm.device.VirtualEthernetCard.NetworkBackingInfo):
        return backing.network.name
    networks = content.viewManager.CreateContainerView(content.rootFolder, [vim.Network], True)
    try:
        for network in networks.view:
            if isinstance(backing, vim.vm.device.VirtualEthernetCard.DistributedVirtualPortBackingInfo):
                if isinstance(network, vim.dvs.DistributedVirtualPortgroup) and network.key == backing.port.portgroupKey:
                    switch = network.config.distributedVirtualSwitch
                    return network.name if switch.uuid == backing.port.switchUuid else "wrong switch"
            elif isinstance(network, vim.OpaqueNetwork):
                if network.summary.opaqueNetworkId == backing.opaqueNetworkId:
                    return network.name
    finally:
        networks.Destroy()
    return "unknown"


def disks_of(config):
    return [device for device in config.hardware.device if isinstance(device, vim.vm.device.VirtualDisk)]


def areas(vm, snapshot, disk, change_id):
    found, calls, start = [], 0, 0
    while start < disk.capacityInBytes:
        info = vm.QueryChangedDiskAreas(snapshot=snapshot, deviceKey=disk.key, startOffset=start, changeId=change_id)
        calls += 1
        assert info.startOffset == start and info.length > 0
        assert len(info.changedArea) <= 2000
        found += [(area.start, area.length) for area in info.changedArea]
        start = info.startOffset + info.length
    return found, calls


def take(vm, name):
    task = vm.CreateSnapshot_Task(name=name, description="by the walk", memory=False, quiesce=False)
    assert WaitForTask(task) == "success"
    return task.info.result


def remove(snapshot):
    WaitForTask(snapshot.RemoveSnapshot_Task(removeChildren=False, consolidate=True))


def read_inventory(content):
    view = content.viewManager.CreateContainerView(content.rootFolder, [vim.VirtualMachine], True)
    collector = content.propertyCollector
    query = vmodl.query.PropertyCollector
    traversal = query.TraversalSpec(name="view", path="view", skip=False, type=vim.view.ContainerView)
    spec = query.FilterSpec(
        objectSet=[query.ObjectSpec(obj=view, skip=True, selectSet=[traversal])],
        propSet=[query.PropertySpec(type=vim.VirtualMachine, pathSet=["name", "runtime.powerState", "config.uuid"])],
    )
    names, pages = [], 0
    page = collector.RetrievePropertiesEx([spec], query.RetrieveOptions(maxObjects=1))
    while page is not None:
        pages += 1
        for found in page.objects:
            names.append(next(entry.val for entry in found.propSet if entry.name == "name"))
        page = collector.ContinueRetrievePropertiesEx(page.token) if page.token else None
    seen["names"], seen["pages"] = sorted(names), pages
    seen["wrong_path"] = fault_of(
        lambda: collector.RetrieveContents([
            query.FilterSpec(
                objectSet=[query.ObjectSpec(obj=view, skip=True, selectSet=[traversal])],
                propSet=[query.PropertySpec(type=vim.VirtualMachine, pathSet=["config.nosuch"])],
            )
        ])
    )
    vm = next(found for found in view.view if found.name == vm_name)
    view.Destroy()
    return vm


def describe(content, vm):
    config = vm.config
    seen["vm"] = {
        "moid": vm._moId,
        "cpus": config.hardware.numCPU,
        "memory": config.hardware.memoryMB,
        "firmware": config.firmware,
        "secure_boot": config.bootOptions.efiSecureBootEnabled,
        "version": config.version,
        "tracking": config.changeTrackingEnabled,
        "tools": vm.guest.toolsRunningStatus,
        "host": vm.runtime.host.name,
        "parent": vm.parent.name,
        "datastores": [datastore.name for datastore in vm.datastore],
        "networks": sorted(network.name for network in vm.network),
        "addresses": [address for nic in vm.guest.net for address in nic.ipAddress],
        "supported": vm.capability.changeTrackingSupported,
        "summary_disks": vm.summary.config.numVirtualDisks,
    }
    seen["disks"] = [
        {
            "key": disk.key,
            "file": disk.backing.fileName,
            "capacity": disk.capacityInBytes,
            "mode": disk.backing.diskMode,
            "thin": disk.backing.thinProvisioned,
            "uuid": disk.backing.uuid,
            "change_id": disk.backing.changeId,
            "controller": next(
                type(device).__name__.split(".")[-1] for device in config.hardware.device if device.key == disk.controllerKey
            ),
        }
        for disk in disks_of(config)
    ]
    seen["nics"] = [
        {
            "label": device.deviceInfo.label,
            "type": type(device).__name__.split(".")[-1],
            "mac": device.macAddress,
            "network": network_name(content, device),
        }
        for device in config.hardware.device
        if isinstance(device, vim.vm.device.VirtualEthernetCard)
    ]


def track_changes(vm):
    WaitForTask(vm.ReconfigVM_Task(vim.vm.ConfigSpec(changeTrackingEnabled=True)))
    seen["tracking_after"] = vm.config.changeTrackingEnabled
    stun = take(vm, "stun")
    seen["before_stun"] = [disk.backing.changeId for disk in disks_of(stun.config)]
    seen["untracked"] = fault_of(lambda: vm.QueryChangedDiskAreas(stun, disks_of(stun.config)[0].key, 0, "*"))
    remove(stun)

    first = take(vm, "walk-1")
    frozen = disks_of(first.config)
    ids = {disk.key: disk.backing.changeId for disk in frozen}
    seen["change_ids"] = ids
    seen["tree"] = [entry.name for entry in vm.snapshot.rootSnapshotList]
    live = disks_of(vm.config)[0].backing
    seen["live_file"], seen["live_parent"] = live.fileName, live.parent.fileName
    seen["frozen_file"] = frozen[0].backing.fileName
    seen["allocated"] = [areas(vm, first, disk, "*")[0] for disk in frozen]
    capacity = frozen[1].capacityInBytes
    seen["at_end"] = fault_of(lambda: vm.QueryChangedDiskAreas(first, frozen[1].key, capacity, "*"))
    seen["garbage"] = fault_of(lambda: vm.QueryChangedDiskAreas(first, frozen[1].key, 0, "garbage"))
    seen["no_disk"] = fault_of(lambda: vm.QueryChangedDiskAreas(first, 4000, 0, "*"))
    remove(first)
    seen["gone"] = fault_of(lambda: vm.QueryChangedDiskAreas(first, frozen[1].key, 0, "*"))

    written = laboratory(
        "scatter",
        {"disk_key": frozen[1].key, "count": 2600, "seed": 7, "range_start_bytes": 0, "range_length_bytes": capacity},
    )
    second = take(vm, "walk-2")
    changed, calls = areas(vm, second, frozen[1], ids[frozen[1].key])
    grains = sorted(start + step for start, length in changed for step in range(0, length, 65536))
    seen["exact"] = grains == written["offsets"]
    seen["calls"], seen["areas"] = calls, len(changed)
    seen["untouched"] = areas(vm, second, frozen[0], ids[frozen[0].key])[0]
    later = disks_of(second.config)[1].backing.changeId
    seen["same_epoch"] = later.split("/")[0] == ids[frozen[1].key].split("/")[0]
    laboratory("cbt/reset", {"disk_key": frozen[1].key})
    seen["after_reset"] = fault_of(lambda: areas(vm, second, frozen[1], ids[frozen[1].key]))
    return second


def read_file(service, snapshot):
    backing = disks_of(snapshot.config)[0].backing.fileName
    store, name = backing[1:].split("] ")
    flat = name.replace(".vmdk", "-flat.vmdk")
    cookie = service._stub.cookie.split(";")[0]
    request = urllib.request.Request(
        f"https://{host}:{port}/folder/{flat}?dcPath=DC0&dsName={store}",
        headers={"Cookie": cookie, "Range": "bytes=0-1048575"},
    )
    context = ssl.create_default_context(cafile=ca)
    with urllib.request.urlopen(request, context=context) as answer:
        body = answer.read()
        seen["range_status"], seen["range_length"] = answer.status, len(body)
        seen["range_sha256"] = hashlib.sha256(body).hexdigest()


def power(vm):
    WaitForTask(vm.PowerOffVM_Task())
    seen["off"] = vm.runtime.powerState
    seen["off_again"] = fault_of(lambda: WaitForTask(vm.PowerOffVM_Task()))
    seen["shutdown_off"] = fault_of(vm.ShutdownGuest)
    WaitForTask(vm.PowerOnVM_Task())
    seen["on"] = vm.runtime.powerState


def search(content, vm):
    index = content.searchIndex
    seen["by_path"] = index.FindByInventoryPath(path) == vm
    seen["by_uuid"] = index.FindByUuid(None, vm.config.instanceUuid, True, True) == vm
    seen["not_found"] = index.FindByInventoryPath("DC0/vm/none")


def wait_in_vain(content, vm):
    collector = content.propertyCollector.CreatePropertyCollector()
    query = vmodl.query.PropertyCollector
    spec = query.FilterSpec(
        objectSet=[query.ObjectSpec(obj=vm)],
        propSet=[query.PropertySpec(type=vim.VirtualMachine, pathSet=["name"])],
    )
    collector.CreateFilter(spec, True)
    update = collector.WaitForUpdatesEx(None, query.WaitOptions(maxWaitSeconds=5))
    seen["entered"] = update.filterSet[0].objectSet[0].kind
    seen["nothing_new"] = collector.WaitForUpdatesEx(update.version, query.WaitOptions(maxWaitSeconds=0))
    seen["bad_version"] = fault_of(
        lambda: collector.WaitForUpdatesEx("999", query.WaitOptions(maxWaitSeconds=0))
    )
    collector.Destroy()


seen["wrong_password"] = fault_of(lambda: connect("wrong", sslContext=ssl.create_default_context(cafile=ca)))
pinned = connect(password, thumbprint=thumbprint, disableSslCertValidation=True)
Disconnect(pinned)
service = connect(password, sslContext=ssl.create_default_context(cafile=ca))
everything = service.RetrieveContent()
seen["about"] = {"type": everything.about.apiType, "version": everything.about.apiVersion}
machine = read_inventory(everything)
describe(everything, machine)
search(everything, machine)
wait_in_vain(everything, machine)
last = track_changes(machine)
read_file(service, last)
WaitForTask(machine.RemoveAllSnapshots_Task())
seen["snapshot_left"] = machine.snapshot
power(machine)
seen["clock"] = service.CurrentTime().tzinfo is not None
Disconnect(service)
seen["after_logout"] = fault_of(lambda: machine.name)
print(json.dumps(seen))
