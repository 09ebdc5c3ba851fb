//! `/folder` and what VM snapshots freeze: locks, ranges, authentication, and every byte compared.

use lab::guest::Scatter;
use lab::vcenter::{DatastoreSpec, DiskSpec, VmSpec};
use reqwest::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, COOKIE, RANGE};

use super::site::{self, DATA_BYTES, PASSWORD, SYSTEM_BYTES, Site, USER};
use super::soap_client::SoapClient;

const SYSTEM_KEY: i32 = 2000;
const DATA_KEY: i32 = 2016;

fn flat_url(site: &Site, file: &str) -> String {
    format!("{}/folder/web01/{file}?dcPath=DC0&dsName=datastore1", site.sim.url())
}

async fn status(client: &SoapClient, url: &str) -> u16 {
    client.http.get(url).header(COOKIE, &client.cookie).send().await.unwrap().status().as_u16()
}

/// Reads a whole file in ranges of 8 MiB.
async fn read_all(client: &SoapClient, url: &str, length: u64) -> Vec<u8> {
    const STEP: u64 = 8 << 20;
    let mut all = Vec::new();
    for start in (0..length).step_by(usize::try_from(STEP).unwrap()) {
        let range = format!("bytes={start}-{}", (start + STEP).min(length) - 1);
        let answer = client.http.get(url).header(COOKIE, &client.cookie).header(RANGE, range).send().await.unwrap();
        assert_eq!(answer.status(), 206);
        all.extend_from_slice(&answer.bytes().await.unwrap());
    }
    all
}

#[tokio::test]
async fn frozen_content_is_read_while_the_guest_writes_on() {
    let site = site::start_with(|config| config.retain_frozen = true).await;
    let client = SoapClient::logged_in(&site).await;
    let (vm, guest) = (site.sim.moref("web01").unwrap(), site.sim.guest("web01").unwrap());
    let url = flat_url(&site, "web01-flat.vmdk");
    assert_eq!(status(&client, &url).await, 500, "the link of a running VM is locked");

    let before = site.folder.path().join("before.raw");
    guest.materialise(SYSTEM_KEY, None, &before).unwrap();
    let snapshot = client.take(&vm, "frozen").await;
    let scratch = site.layout.scratch;
    let scatter = Scatter { count: 50, seed: 3, range_start_bytes: scratch.start, range_length_bytes: scratch.length };
    let offsets = guest.scatter(SYSTEM_KEY, scatter).unwrap();
    guest.write(SYSTEM_KEY, site.layout.trap.start + 12_345, b"odd place").unwrap();
    guest.zero(SYSTEM_KEY, site.layout.raw.start, 1 << 20).unwrap();

    let frozen = read_all(&client, &url, SYSTEM_BYTES).await;
    assert!(frozen == std::fs::read(&before).unwrap(), "the frozen file changed");
    assert_eq!(site.sim.folder_bytes(), SYSTEM_BYTES);
    let now = site.folder.path().join("now.raw");
    guest.materialise(SYSTEM_KEY, None, &now).unwrap();
    let written = std::fs::read(&now).unwrap();
    let first = usize::try_from(offsets[0]).unwrap();
    assert!(written != frozen && written[first..first + 65_536] != frozen[first..first + 65_536]);

    client.remove(&snapshot).await;
    assert_eq!(status(&client, &url).await, 500, "after the removal the base is written again");
    let base = std::fs::read(site.folder.path().join("system.raw")).unwrap();
    assert!(base == written, "the delta was merged into the base file");
    let kept = guest.retained(&snapshot, SYSTEM_KEY).expect("a kept copy");
    assert!(std::fs::read(kept).unwrap() == frozen);
}

#[tokio::test]
async fn ranges_heads_and_descriptors_follow_http() {
    let site = site::start().await;
    let client = SoapClient::logged_in(&site).await;
    let vm = site.sim.moref("web01").unwrap();
    client.take(&vm, "frozen").await;
    let url = flat_url(&site, "web01_1-flat.vmdk");
    let head = client.http.head(&url).header(COOKIE, &client.cookie).send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()[CONTENT_LENGTH], DATA_BYTES.to_string().as_str());
    assert_eq!(head.headers()[ACCEPT_RANGES], "bytes");
    let get = |range: &str| client.http.get(&url).header(COOKIE, &client.cookie).header(RANGE, range.to_owned()).send();
    let tail = get("bytes=-512").await.unwrap();
    assert_eq!(tail.status(), 206);
    let expected = format!("bytes {}-{}/{DATA_BYTES}", DATA_BYTES - 512, DATA_BYTES - 1);
    assert_eq!(tail.headers()[CONTENT_RANGE], expected.as_str());
    assert_eq!(tail.bytes().await.unwrap().len(), 512);
    assert_eq!(get(&format!("bytes={DATA_BYTES}-")).await.unwrap().status(), 416);

    let text = |file: &str| client.http.get(flat_url(&site, file)).header(COOKIE, &client.cookie).send();
    let base = text("web01_1.vmdk").await.unwrap().text().await.unwrap();
    assert!(base.starts_with("# Disk DescriptorFile\n") && base.contains("VMFS \"web01_1-flat.vmdk\""), "{base}");
    let delta = text("web01_1-000001.vmdk").await.unwrap().text().await.unwrap();
    assert!(delta.contains("parentFileNameHint=\"web01_1.vmdk\""), "{delta}");
    let id_of = |text: &str, key: &str| text.lines().find_map(|line| line.strip_prefix(key).map(str::to_owned));
    assert_eq!(id_of(&delta, "parentCID="), id_of(&base, "CID="));
}

#[tokio::test]
async fn files_need_an_account_or_a_ticket_and_the_right_place() {
    let site = site::start().await;
    let client = SoapClient::logged_in(&site).await;
    client.take(&site.sim.moref("web01").unwrap(), "frozen").await;
    let url = flat_url(&site, "web01.vmdk");
    let nobody = SoapClient::new(&site);
    assert_eq!(status(&nobody, &url).await, 401);
    let basic = |password: &'static str| nobody.http.get(&url).basic_auth(USER, Some(password)).send();
    assert_eq!(basic("wrong").await.unwrap().status(), 401);
    assert_eq!(basic(PASSWORD).await.unwrap().status(), 200);
    for (wrong, expected) in
        [("DC0", "DC1"), ("datastore1", "datastore2"), ("web01/web01", "web01/none"), ("web01/", "no/")]
    {
        assert_eq!(status(&client, &url.replace(wrong, expected)).await, 404, "{expected}");
    }
    assert_eq!(status(&client, &url.replace("dcPath=DC0&", "")).await, 400);

    let host_url = "https://127.0.0.1/folder/web01/web01.vmdk?dsName=datastore1";
    let spec = format!(
        "<spec i:type=\"SessionManagerHttpServiceRequestSpec\"><method>httpGet</method><url>{}</url></spec>",
        host_url.replace('&', "&amp;")
    );
    let ticket = client.call("AcquireGenericServiceTicket", "SessionManager", "SessionManager", &spec).await;
    assert_eq!((ticket.text("hostName"), ticket.text("sslThumbprint")), ("127.0.0.1", site.sim.sha1_thumbprint()));
    let with_ticket = |path: &str| {
        let url = format!("{}/folder/web01/{path}?dsName=datastore1", site.sim.url());
        nobody.http.get(url).header(COOKIE, format!("vmware_cgi_ticket={}", ticket.text("id"))).send()
    };
    assert_eq!(with_ticket("web01.vmdk").await.unwrap().status(), 200);
    assert_eq!(with_ticket("web01_1.vmdk").await.unwrap().status(), 401);
}

#[tokio::test]
async fn several_disks_freeze_at_one_moment() {
    let site = site::start().await;
    let client = SoapClient::logged_in(&site).await;
    let (vm, guest) = (site.sim.moref("web01").unwrap(), site.sim.guest("web01").unwrap());
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let (guest, stop, place) = (guest.clone(), std::sync::Arc::clone(&stop), site.layout.scratch.start);
        // The guest counts on the first disk, then on the second: the first is never behind.
        std::thread::spawn(move || {
            let mut count = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                count += 1;
                guest.write(SYSTEM_KEY, place, &count.to_le_bytes()).unwrap();
                guest.write(DATA_KEY, 0, &count.to_le_bytes()).unwrap();
            }
        })
    };
    let number = |key, place, id: &str| {
        let mut bytes = [0; 8];
        guest.read(key, place, &mut bytes, Some(id)).unwrap();
        u64::from_le_bytes(bytes)
    };
    for round in 0..5 {
        let snapshot = client.take(&vm, &format!("round {round}")).await;
        let first = number(SYSTEM_KEY, site.layout.scratch.start, &snapshot);
        let second = number(DATA_KEY, 0, &snapshot);
        assert!(first == second || first == second + 1, "{first} on the first disk, {second} on the second");
        client.remove(&snapshot).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
}

#[tokio::test]
async fn a_disk_of_100_gib_costs_little_memory() {
    let size = 100_u64 << 30;
    let site = site::start_with(|config| {
        config
            .vms
            .push(VmSpec { change_tracking_enabled: true, ..VmSpec::named("big") }.with_disk(DiskSpec::empty(size)));
    })
    .await;
    let client = SoapClient::logged_in(&site).await;
    let (vm, guest) = (site.sim.moref("big").unwrap(), site.sim.guest("big").unwrap());
    let first = client.take(&vm, "one").await;
    let change_id = site.sim.vm_snapshots("big").unwrap()[0].change_ids[&SYSTEM_KEY].clone();
    let scatter = Scatter { count: 200, seed: 1, range_start_bytes: 0, range_length_bytes: size };
    let offsets = guest.scatter(SYSTEM_KEY, scatter).unwrap();
    client.remove(&first).await;
    let second = client.take(&vm, "two").await;
    let changed: Vec<u64> =
        client.areas(&vm, &second, SYSTEM_KEY, &change_id).await.iter().map(|area| area.0).collect();
    assert_eq!(changed, offsets);
    let allocated = client.areas(&vm, &second, SYSTEM_KEY, "*").await;
    assert_eq!(allocated.iter().map(|area| area.1).sum::<u64>(), 200 << 16);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak_kib < 100 << 10, "{peak_kib} KiB at most in use");
}

#[tokio::test]
async fn other_datastores_know_less_of_their_disks() {
    let site = site::start_with(|config| {
        for kind in ["NFS", "vsan"] {
            let name = format!("{kind}-store");
            let disk = DiskSpec { datastore: Some(name.clone()), ..DiskSpec::empty(8 << 20) };
            config.vms.push(VmSpec { change_tracking_enabled: true, ..VmSpec::named(kind) }.with_disk(disk));
            config.datastores.push(DatastoreSpec { name, kind: kind.to_owned(), capacity_bytes: 1 << 40 });
        }
        let old = VmSpec { existing_vm_snapshots: vec!["old".to_owned()], ..VmSpec::named("chained") };
        config.vms.push(old.with_disk(DiskSpec::empty(8 << 20)));
    })
    .await;
    let client = SoapClient::logged_in(&site).await;
    client.track(&site.sim.moref("chained").unwrap()).await;
    for (name, expected) in [("NFS", 200), ("vsan", 404)] {
        let vm = site.sim.moref(name).unwrap();
        let snapshot = client.take(&vm, "s").await;
        assert_eq!(client.areas(&vm, &snapshot, SYSTEM_KEY, "*").await, [(0, 8 << 20)], "{name}");
        let url = format!("{}/folder/{name}/{name}-flat.vmdk?dcPath=DC0&dsName={name}-store", site.sim.url());
        assert_eq!(status(&client, &url).await, expected, "{name}");
    }
    // Tracking that began above a VM snapshot cannot tell what lies below it.
    let vm = site.sim.moref("chained").unwrap();
    let snapshot = client.take(&vm, "s").await;
    assert_eq!(client.areas(&vm, &snapshot, SYSTEM_KEY, "*").await, [(0, 8 << 20)]);
}
