//! Requests as a strict server takes them: order, versions, sessions, paging, tasks.

use lab::vcenter::{DiskSpec, Tools, VmSpec};

use super::site::{self, PASSWORD, USER};
use super::soap_client::{SoapClient, envelope, escape, http};

const READ_NAME: &str = "<specSet><propSet><type>VirtualMachine</type><pathSet>name</pathSet></propSet>\
    <objectSet><obj type=\"VirtualMachine\">VM</obj></objectSet></specSet><options/>";

#[tokio::test]
async fn both_tls_versions_and_the_version_document_work() {
    let site = site::start().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let address = format!("{}/sdk/vimServiceVersions.xml", site.sim.url());
        let text = http(&site, &[version]).get(address).send().await.unwrap().text().await.unwrap();
        assert!(text.contains("<version>8.0.3.0</version>") && text.contains("<version>6.5</version>"), "{text}");
    }
}

#[tokio::test]
async fn what_a_real_server_refuses_is_refused() {
    let site = site::start().await;
    let client = SoapClient::new(&site);
    let swapped = format!("<password>{}</password><userName>{USER}</userName>", escape(PASSWORD));
    client.call("Login", "SessionManager", "SessionManager", &swapped).await.assert_fault("InvalidRequest");
    let wrong = format!("<userName>{USER}</userName><password>x</password>");
    client.call("Login", "SessionManager", "SessionManager", &wrong).await.assert_fault("InvalidLogin");
    let content = client.call("RetrieveServiceContent", "ServiceInstance", "ServiceInstance", "").await;
    assert_eq!((content.status, content.text("apiType")), (200, "VirtualCenter"));
    client.call("MigrateVM_Task", "VirtualMachine", "vm-1", "").await.assert_fault("MethodNotFound");
    client.call("Login", "VirtualMachine", "vm-1", "").await.assert_fault("MethodNotFound");
    for broken in ["", "<a", "<a/>", "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"/>"] {
        client.send(broken.to_owned()).await.assert_fault("InvalidRequest");
    }
    let newer = client.http.post(format!("{}/sdk", site.sim.url())).header("SOAPAction", "urn:vim25/9.1.0.0");
    let newer = newer.body(envelope("CurrentTime", "ServiceInstance", "ServiceInstance", "")).send().await.unwrap();
    assert_eq!(newer.status(), 500);
    assert!(newer.text().await.unwrap().contains("Unsupported version URI"));
    assert_eq!(site.sim.session_count(), 0);
}

#[tokio::test]
async fn calls_without_a_session_are_told_so_in_both_ways_servers_do() {
    for missing_sets in [false, true] {
        let site = site::start_with(|config| config.unauthenticated_reads_are_missing_sets = missing_sets).await;
        let client = SoapClient::new(&site);
        let spec = READ_NAME.replace("VM<", &format!("{}<", site.sim.moref("web01").unwrap()));
        let answer = client.call("RetrievePropertiesEx", "PropertyCollector", "propertyCollector", &spec).await;
        if missing_sets {
            assert_eq!((answer.status, answer.text("path")), (200, "name"));
            assert!(answer.body.contains("<fault xsi:type=\"NotAuthenticated\">"), "{}", answer.body);
        } else {
            answer.assert_fault("NotAuthenticated");
        }
        let clock = client.call("CurrentTime", "ServiceInstance", "ServiceInstance", "").await;
        clock.assert_fault("NotAuthenticated");
    }
}

#[tokio::test]
async fn expired_sessions_must_log_in_again_and_lose_their_views() {
    let site = site::start().await;
    let mut client = SoapClient::logged_in(&site).await;
    assert!(client.cookie.contains("=\""), "the cookie value is quoted: {}", client.cookie);
    let container =
        "<container type=\"Folder\">group-d1</container><type>VirtualMachine</type><recursive>true</recursive>";
    let view = client.call("CreateContainerView", "ViewManager", "ViewManager", container).await;
    let view = view.text("returnval").to_owned();
    assert_eq!(site.sim.expire_sessions(), 1);
    client.call("CurrentTime", "ServiceInstance", "ServiceInstance", "").await.assert_fault("NotAuthenticated");
    client.login().await;
    assert_eq!(client.call("CurrentTime", "ServiceInstance", "ServiceInstance", "").await.status, 200);
    client.call("DestroyView", "ContainerView", &view, "").await.assert_fault("ManagedObjectNotFound");
}

#[tokio::test]
async fn the_server_pages_on_its_own_and_tokens_work_once() {
    let site = site::start_with(|config| {
        config.page_objects = 3;
        config.vms = (0..7).map(|number| VmSpec::named(format!("vm-number-{number}"))).collect();
    })
    .await;
    let client = SoapClient::logged_in(&site).await;
    let container =
        "<container type=\"Folder\">group-d1</container><type>VirtualMachine</type><recursive>true</recursive>";
    let view = client.call("CreateContainerView", "ViewManager", "ViewManager", container).await;
    let spec = format!(
        "<specSet><propSet><type>VirtualMachine</type><pathSet>name</pathSet></propSet><objectSet>\
         <obj type=\"ContainerView\">{}</obj><skip>true</skip><selectSet i:type=\"TraversalSpec\"><name>v</name>\
         <type>ContainerView</type><path>view</path><skip>false</skip></selectSet></objectSet></specSet><options/>",
        view.text("returnval")
    );
    let collector = ("PropertyCollector", "propertyCollector");
    let mut page = client.call("RetrievePropertiesEx", collector.0, collector.1, &spec).await;
    let (mut names, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let here: Vec<String> = page.texts("val").into_iter().map(str::to_owned).collect();
        sizes.push(here.len());
        names.extend(here);
        let Some(token) = page.texts("token").first().map(|token| format!("<token>{token}</token>")) else { break };
        page = client.call("ContinueRetrievePropertiesEx", collector.0, collector.1, &token).await;
        client
            .call("ContinueRetrievePropertiesEx", collector.0, collector.1, &token)
            .await
            .assert_fault("InvalidArgument");
    }
    assert_eq!(sizes, [3, 3, 1]);
    names.sort();
    assert_eq!(names, (0..7).map(|number| format!("vm-number-{number}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn nested_datacenters_and_folders_are_found_by_path() {
    let site = site::start_with(|config| config.datacenter_folder = Some("NorthAmerica".to_owned())).await;
    let client = SoapClient::logged_in(&site).await;
    assert_eq!(site.sim.inventory_path("web01").unwrap(), "NorthAmerica/DC0/vm/prod/web tier/web01");
    for (vm, path) in
        [("web01", "/NorthAmerica/DC0/vm/prod/web tier/web01/"), ("idle/1", "NorthAmerica/DC0/vm/idle%2f1")]
    {
        let found = format!("<inventoryPath>{path}</inventoryPath>");
        let found = client.call("FindByInventoryPath", "SearchIndex", "SearchIndex", &found).await;
        assert_eq!(found.text("returnval"), site.sim.moref(vm).unwrap());
    }
    let missing = "<inventoryPath>DC0/vm/prod/web tier/web01</inventoryPath>";
    let missing = client.call("FindByInventoryPath", "SearchIndex", "SearchIndex", missing).await;
    assert_eq!((missing.status, missing.body.contains("returnval")), (200, false));
}

#[tokio::test]
async fn power_and_tools_faults_are_the_documented_ones() {
    let site = site::start_with(|config| {
        config.vms[0].tools = Tools::Stopped;
        config.vms.push(VmSpec { template: true, powered_on: false, ..VmSpec::named("golden") });
    })
    .await;
    let client = SoapClient::logged_in(&site).await;
    let vm = site.sim.moref("web01").unwrap();
    client.call("ShutdownGuest", "VirtualMachine", &vm, "").await.assert_fault("ToolsUnavailable");
    let on = client.task("PowerOnVM_Task", "VirtualMachine", &vm, "").await;
    assert!(
        on.body.contains("<fault xsi:type=\"InvalidPowerState\"><requestedState>poweredOn</requestedState>"),
        "{}",
        on.body
    );
    let golden = site.sim.moref("golden").unwrap();
    let template = client.task("PowerOnVM_Task", "VirtualMachine", &golden, "").await;
    assert!(template.body.contains("xsi:type=\"NotSupported\""), "{}", template.body);
    client.call("PowerOnVM_Task", "VirtualMachine", "vm-999", "").await.assert_fault("ManagedObjectNotFound");
}

#[tokio::test]
async fn disks_that_vm_snapshots_cannot_hold_refuse_them_or_stay_out() {
    let site = site::start_with(|config| {
        let unfit =
            |name: &str, disk: DiskSpec| VmSpec::named(name).with_disk(DiskSpec { capacity_bytes: 1 << 20, ..disk });
        let shared = DiskSpec { shared_bus: "physicalSharing".to_owned(), ..DiskSpec::default() };
        let writers = DiskSpec { sharing: "sharingMultiWriter".to_owned(), ..DiskSpec::default() };
        let raw = DiskSpec { raw_device_mode: Some("physicalMode".to_owned()), ..DiskSpec::default() };
        let independent = DiskSpec { mode: "independent_persistent".to_owned(), ..DiskSpec::default() };
        config.vms = vec![
            unfit("shared", shared),
            unfit("writers", writers),
            unfit("raw", raw),
            unfit("independent", independent),
        ];
        config.vms.push(VmSpec {
            existing_vm_snapshots: vec!["before upgrade".to_owned()],
            ..unfit("old", DiskSpec::default())
        });
    })
    .await;
    let client = SoapClient::logged_in(&site).await;
    let parameters = "<name>s</name><memory>false</memory><quiesce>true</quiesce>";
    for name in ["shared", "writers", "raw"] {
        let vm = site.sim.moref(name).unwrap();
        let info = client.task("CreateSnapshot_Task", "VirtualMachine", &vm, parameters).await;
        assert_eq!(info.text("state"), "error", "{name}");
        assert!(info.body.contains("xsi:type=\"SnapshotIncompatibleDeviceInVm\""), "{}", info.body);
    }
    let vm = site.sim.moref("independent").unwrap();
    let snapshot = client.take(&vm, "s").await;
    let config = client.call("Fetch", "VirtualMachineSnapshot", &snapshot, "<prop>config.hardware.device</prop>").await;
    assert_eq!(config.text("diskMode"), "independent_persistent");
    assert_eq!(config.text("fileName"), "[datastore1] independent/independent.vmdk");
    let old = site.sim.vm_snapshots("old").unwrap();
    assert_eq!((old.len(), old[0].name.as_str()), (1, "before upgrade"));
}

#[tokio::test]
async fn a_disk_is_detached_and_attached_again_by_its_file() {
    let site = site::start().await;
    let client = SoapClient::logged_in(&site).await;
    let vm = site.sim.moref("web01").unwrap();
    let change = |operation: &str, key: i32, backing: &str| {
        format!(
            "<spec><deviceChange><operation>{operation}</operation><device i:type=\"VirtualDisk\"><key>{key}</key>{backing}\
             <controllerKey>1000</controllerKey><unitNumber>4</unitNumber><capacityInKB>0</capacityInKB></device>\
             </deviceChange></spec>"
        )
    };
    let info = client.task("ReconfigVM_Task", "VirtualMachine", &vm, &change("remove", 2016, "")).await;
    assert_eq!(info.text("state"), "success", "{}", info.body);
    let guest = site.sim.guest("web01").unwrap();
    assert_eq!(guest.disks().iter().map(|disk| disk.key).collect::<Vec<_>>(), [2000]);
    let backing = "<backing i:type=\"VirtualDiskFlatVer2BackingInfo\"><fileName>[datastore1] web01/web01_1.vmdk</fileName>\
        <diskMode>persistent</diskMode></backing>";
    let info = client.task("ReconfigVM_Task", "VirtualMachine", &vm, &change("add", -1, backing)).await;
    assert_eq!(info.text("state"), "success", "{}", info.body);
    assert_eq!(guest.disks().iter().map(|disk| disk.key).collect::<Vec<_>>(), [2000, 2004]);
    let other = site.sim.moref("idle/1").unwrap();
    let stolen = client.task("ReconfigVM_Task", "VirtualMachine", &other, &change("add", -1, backing)).await;
    assert!(stolen.body.contains("xsi:type=\"FileLocked\""), "{}", stolen.body);
}
