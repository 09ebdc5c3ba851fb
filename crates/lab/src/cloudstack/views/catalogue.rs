//! The unchanging lists: zone, offerings, templates, networks, host, pool, operating systems, capabilities.

use super::super::catalogue::{
    CLUSTER_NAME, DOMAIN_NAME, DiskOffering, HOST_NAME, Network, POD_NAME, POOL_NAME, SET_UP, ServiceOffering,
    Template, VERSION, ZONE_NAME, fixed_id,
};
use super::super::config::ADMIN_ACCOUNT;
use super::super::json::{Json, Object};
use super::super::world::{Caller, World};
use super::{date, owner};

/// Capacity the only pool claims.
const POOL_BYTES: u64 = 1 << 50;

fn empty() -> Vec<Json> {
    Vec::new()
}

/// A zone.
pub(crate) fn zone(caller: &Caller, name: &str) -> Object {
    Object::new()
        .put("id", fixed_id("zone", name))
        .put("name", name)
        .put("dns1", "10.147.28.6")
        .put("internaldns1", "10.147.28.6")
        .put("guestcidraddress", "10.1.1.0/24")
        .put("networktype", "Advanced")
        .put("securitygroupsenabled", false)
        .put("allocationstate", "Enabled")
        .put_if(caller.root_admin, "zonetoken", fixed_id("zonetoken", name))
        .put("dhcpprovider", "VirtualRouter")
        .put("localstorageenabled", false)
        .put("tags", empty())
        .put("allowuserspecifyvrmtu", false)
        .put("routerprivateinterfacemaxmtu", 1500_u32)
        .put("routerpublicinterfacemaxmtu", 1500_u32)
        .put("type", "Core")
        .put("isnsxenabled", false)
        .put("ismultiarch", false)
        .put("routedmodeenabled", false)
        .put("hasannotations", false)
}

/// `capability`: one object, no count.
pub(crate) fn capabilities(world: &World) -> Object {
    let limits = &world.config.limits;
    Object::new()
        .put("securitygroupsenabled", false)
        .put("dynamicrolesenabled", true)
        .put("cloudstackversion", VERSION)
        .put("userpublictemplateenabled", true)
        .put("supportELB", "false")
        .put("projectinviterequired", false)
        .put("allowusercreateprojects", true)
        .put("customdiskofferingminsize", limits.custom_size_min_gib)
        .put("customdiskofferingmaxsize", limits.custom_size_max_gib)
        .put("regionsecondaryenabled", false)
        .put("kvmsnapshotenabled", true)
        .put("allowuserviewdestroyedvm", false)
        .put("allowuserexpungerecovervm", false)
        .put("allowuserexpungerecovervolume", false)
        .put("allowuserviewalldomainaccounts", false)
        .put("allowuserforcestopvm", true)
        .put("kubernetesserviceenabled", false)
        .put("kubernetesclusterexperimentalfeaturesenabled", false)
        .put("defaultuipagesize", 20_u32)
        .put("instancesstatsretentiontime", 720_u32)
        .put("instancesstatsuseronly", false)
        .put("dynamicscalingenabled", true)
}

/// A disk offering.
pub(crate) fn disk_offering(offering: &DiskOffering) -> Object {
    Object::new()
        .put("id", &offering.id)
        .put("name", offering.name)
        .put("state", "Active")
        .put("displaytext", offering.display_text)
        .put("disksize", offering.size_gib)
        .put("created", date(SET_UP))
        .put("iscustomized", offering.is_custom)
        .put("iscustomizediops", false)
        .put("storagetype", "shared")
        .put("provisioningtype", "thin")
        .put("cacheMode", "none")
        .put("displayoffering", true)
        .put("disksizestrictness", false)
        .put("encrypt", false)
        .put("details", Object::new())
        .put("hasannotations", false)
}

/// A compute offering.
pub(crate) fn service_offering(offering: &ServiceOffering) -> Object {
    let limits = Object::new()
        .put("mincpunumber", "1")
        .put("maxcpunumber", "16")
        .put("minmemory", "256")
        .put("maxmemory", "65536");
    Object::new()
        .put("id", &offering.id)
        .put("name", offering.name)
        .put("state", "Active")
        .put("displaytext", offering.name)
        .maybe("cpunumber", offering.shape.map(|(cpus, _, _)| cpus))
        .maybe("cpuspeed", offering.shape.map(|(_, mhz, _)| mhz))
        .maybe("memory", offering.shape.map(|(_, _, mib)| mib))
        .put("created", date(SET_UP))
        .put("storagetype", "shared")
        .put("provisioningtype", "thin")
        .put("offerha", false)
        .put("limitcpuuse", false)
        .put("isvolatile", false)
        .put("issystem", false)
        .put("defaultuse", false)
        .put("iscustomizediops", false)
        .maybe("serviceofferingdetails", offering.shape.is_none().then_some(limits))
        .put("iscustomized", offering.shape.is_none())
        .put("cacheMode", "none")
        .put("rootdisksize", 0_u32)
        .put("dynamicscalingenabled", true)
        .put("diskofferingstrictness", false)
        .put("diskofferingid", fixed_id("computediskoffering", offering.name))
        .put("diskofferingname", offering.name)
        .put("diskofferingdisplaytext", offering.name)
        .put("encryptroot", false)
        .put("purgeresources", false)
        .put("hasannotations", false)
}

/// A template in the only zone.
pub(crate) fn template(world: &World, template: &Template) -> Object {
    let admin = world.catalogue.account_named(ADMIN_ACCOUNT);
    let size_bytes = template.size_gib * super::super::rules::GIB_BYTES;
    Object::new()
        .put("id", &template.id)
        .put("name", template.name)
        .put("displaytext", template.name)
        .put("ispublic", true)
        .put("created", date(SET_UP))
        .put("isready", true)
        .put("passwordenabled", false)
        .put("format", "QCOW2")
        .put("isfeatured", true)
        .put("crossZones", false)
        .put("ostypeid", &template.os_type_id)
        .put("ostypename", template.os_type_name)
        .maybe("accountid", admin.map(|account| &account.id))
        .put("account", ADMIN_ACCOUNT)
        .put("zoneid", &world.catalogue.zone_id)
        .put("zonename", ZONE_NAME)
        .put("status", "Download Complete")
        .put("size", size_bytes)
        .put("physicalsize", size_bytes)
        .put("templatetype", "USER")
        .put("hypervisor", "KVM")
        .put("domain", DOMAIN_NAME)
        .put("domainpath", DOMAIN_NAME)
        .put("domainid", &world.catalogue.domain_id)
        .put("isextractable", false)
        .put("details", Object::new())
        .put("downloaddetails", empty())
        .put("arch", "x86_64")
        .put("bits", 0_u32)
        .put("sshkeyenabled", false)
        .put("isdynamicallyscalable", false)
        .put("directdownload", false)
        .put("deployasis", false)
        .put("requireshvm", true)
        .put("tags", empty())
        .put("hasannotations", false)
}

/// A guest network, owned by the administrator and usable by all.
pub(crate) fn network(world: &World, caller: &Caller, network: &Network) -> Object {
    let admin = world.catalogue.account_named(ADMIN_ACCOUNT);
    let vlan = caller.root_admin.then(|| network.vlan.to_string());
    let acl = if network.network_type == "Shared" { "Domain" } else { "Account" };
    Object::new()
        .put("id", &network.id)
        .put("name", network.name)
        .put("displaytext", network.name)
        .put("broadcastdomaintype", "Vlan")
        .put("traffictype", "Guest")
        .maybe("gateway", network.prefix.map(|prefix| format!("{prefix}.1")))
        .maybe("netmask", network.prefix.map(|_| "255.255.255.0"))
        .maybe("cidr", network.prefix.map(|prefix| format!("{prefix}.0/24")))
        .put("zoneid", fixed_id("zone", network.zone_name))
        .put("zonename", network.zone_name)
        .put("networkofferingid", fixed_id("networkoffering", network.offering_name))
        .put("networkofferingname", network.offering_name)
        .put("networkofferingdisplaytext", network.offering_name)
        .put("networkofferingconservemode", true)
        .put("networkofferingavailability", "Optional")
        .put("issystem", false)
        .put("state", if network.is_usable { "Implemented" } else { "Shutdown" })
        .put("related", &network.id)
        .maybe("broadcasturi", vlan.as_ref().map(|vlan| format!("vlan://{vlan}")))
        .put("dns1", "10.147.28.6")
        .put("type", network.network_type)
        .maybe("vlan", vlan)
        .put("acltype", acl)
        .merge(admin.map_or_else(Object::new, |account| owner(world, &account.id)))
        .put("service", empty())
        .put("networkdomain", "lab.simulator")
        .put("physicalnetworkid", fixed_id("physicalnetwork", "pn0"))
        .put("restartrequired", false)
        .put("specifyipranges", network.network_type == "Shared")
        .put("canusefordeploy", network.is_usable)
        .put("ispersistent", false)
        .put("tags", empty())
        .put("details", Object::new())
        .put("displaynetwork", true)
        .put("strechedl2subnet", false)
        .put("redundantrouter", false)
        .put("created", date(SET_UP))
        .put("hasannotations", false)
}

/// The offering behind a network.
pub(crate) fn network_offering(network: &Network) -> Object {
    Object::new()
        .put("id", fixed_id("networkoffering", network.offering_name))
        .put("name", network.offering_name)
        .put("displaytext", network.offering_name)
        .put("traffictype", "Guest")
        .put("isdefault", true)
        .put("specifyvlan", network.network_type != "Isolated")
        .put("conservemode", true)
        .put("specifyipranges", network.network_type == "Shared")
        .put("availability", "Optional")
        .put("networkrate", 200_u32)
        .put("state", "Enabled")
        .put("guestiptype", network.network_type)
        .put("service", empty())
        .put("forvpc", false)
        .put("ispersistent", false)
        .put("egressdefaultpolicy", true)
        .put("supportsstrechedl2subnet", false)
        .put("supportspublicaccess", false)
}

/// The only host.
pub(crate) fn host(world: &World) -> Object {
    Object::new()
        .put("id", &world.catalogue.host_id)
        .put("name", HOST_NAME)
        .put("state", "Up")
        .put("type", "Routing")
        .put("ipaddress", "10.1.1.2")
        .put("zoneid", &world.catalogue.zone_id)
        .put("zonename", ZONE_NAME)
        .put("podid", &world.catalogue.pod_id)
        .put("podname", POD_NAME)
        .put("version", VERSION)
        .put("hypervisor", "KVM")
        .put("cpunumber", 64_u32)
        .put("cpuspeed", 2400_u32)
        .put("cpuallocated", "10%")
        .put("cpuused", "10%")
        .put("cpuloadaverage", 0_u32)
        .put("memorytotal", 256_u64 << 30)
        .put("clusterid", &world.catalogue.cluster_id)
        .put("clustername", CLUSTER_NAME)
        .put("clustertype", "CloudManaged")
        .put("managementserverid", &world.catalogue.server_id)
        .put("created", date(SET_UP))
        .put("resourcestate", "Enabled")
        .put("hypervisorversion", "8.2.2")
        .put("hahost", false)
        .put("ueficapability", true)
        .put("instanceconversionsupported", false)
        .put("tags", empty())
        .put("hasannotations", false)
}

/// The only pool.
pub(crate) fn storage_pool(world: &World) -> Object {
    let allocated: u64 = world.inventory.volumes.iter().map(|volume| volume.size_bytes).sum();
    Object::new()
        .put("id", &world.catalogue.pool_id)
        .put("zoneid", &world.catalogue.zone_id)
        .put("zonename", ZONE_NAME)
        .put("podid", &world.catalogue.pod_id)
        .put("podname", POD_NAME)
        .put("name", POOL_NAME)
        .put("ipaddress", "10.1.1.3")
        .put("path", "/export/primary")
        .put("created", date(SET_UP))
        .put("type", "NetworkFilesystem")
        .put("clusterid", &world.catalogue.cluster_id)
        .put("clustername", CLUSTER_NAME)
        .put("disksizetotal", POOL_BYTES)
        .put("disksizeallocated", allocated)
        .put("disksizeused", 0_u32)
        .put("state", "Up")
        .put("scope", "CLUSTER")
        .put("overprovisionfactor", "2.0")
        .put("hypervisor", "KVM")
        .put("provider", "DefaultPrimary")
        .put("managed", false)
        .put("hasannotations", false)
}

/// A guest operating system.
pub(crate) fn os_type(id: &str, name: &str) -> Object {
    Object::new()
        .put("id", id)
        .put("name", name)
        .put("oscategoryid", fixed_id("oscategory", "all"))
        .put("description", name)
        .put("isuserdefined", false)
}
