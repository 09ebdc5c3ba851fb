//! Our server against nbdinfo, nbdcopy, qemu-img and qemu-io.

use std::sync::Arc;

use block::{BlockDevice, Fault, FaultDevice, FaultPlan, FileDevice, MemoryDevice};

use crate::harness::{Exports, Served, content, image, must, run};

/// Not a multiple of 512 bytes would be out of reach for some clients.
const SIZE_BYTES: u64 = 9 * (1 << 20) + 512;

#[tokio::test(flavor = "multi_thread")]
async fn nbdinfo_sees_what_an_export_can_do() {
    let (_device, exports) = Exports::memory(SIZE_BYTES);
    let served = Served::unix(exports.and("locked", Arc::new(MemoryDevice::new(4096)), true));
    let info = must("nbdinfo", &["--json", &served.uri()]).await.json();
    assert_eq!(info["protocol"], "newstyle-fixed");
    assert_eq!(info["structured"], true);
    let export = &info["exports"][0];
    assert_eq!(export["export-size"], SIZE_BYTES);
    assert_eq!(export["description"], "an export for tests");
    assert_eq!(export["contexts"], serde_json::json!(["base:allocation"]));
    for able in ["can_flush", "can_fua", "can_trim", "can_zero", "can_fast_zero", "can_df", "can_multi_conn"] {
        assert_eq!(export[able], true, "{able}");
    }
    assert_eq!(export["is_read_only"], false);
    assert_eq!(export["can_cache"], false);
    assert_eq!(export["block_minimum"].as_u64().or(export["block_size_minimum"].as_u64()), Some(1));
    assert_eq!(export["block_maximum"].as_u64().or(export["block_size_maximum"].as_u64()), Some(32 << 20));
    let locked = must("nbdinfo", &["--json", &served.export("locked").to_string()]).await.json();
    assert_eq!(locked["exports"][0]["is_read_only"], true);
    assert_eq!(locked["exports"][0]["can_trim"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn nbdinfo_lists_every_export() {
    let mut exports = Exports::default();
    for name in ["alpha", "beta", "with space/and ünïcode"] {
        exports = exports.and(name, Arc::new(MemoryDevice::new(1 << 20)), false);
    }
    let served = Served::tcp(exports).await;
    let listed = must("nbdinfo", &["--list", "--json", &served.uri()]).await.json();
    let names: Vec<_> =
        listed["exports"].as_array().unwrap().iter().map(|e| e["export-name"].as_str().unwrap()).collect();
    assert_eq!(names, ["alpha", "beta", "with space/and ünïcode"]);
    let size = must("nbdinfo", &["--size", &served.export("with space/and ünïcode").to_string()]).await;
    assert_eq!(size.stdout.trim(), (1 << 20).to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_export_says_why() {
    let (_device, exports) = Exports::memory(4096);
    let served = Served::unix(exports);
    for (name, words) in [("missing", "no such export"), ("forbidden", "not yours")] {
        let said = run("nbdinfo", &[&served.export(name).to_string()]).await;
        assert!(!said.ok);
        assert!(said.stderr.contains(words) || said.stderr.contains("server replied"), "{}", said.stderr);
        let said = run("qemu-img", &["info", &served.export(name).to_string()]).await;
        assert!(!said.ok);
        assert!(said.stderr.contains(words), "{}", said.stderr);
    }
    must("nbdinfo", &[&served.uri()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nbdinfo_and_qemu_img_map_holes_and_data() {
    let (device, exports) = Exports::memory(SIZE_BYTES);
    device.write_at(&vec![1; 1 << 17], 1 << 20).unwrap();
    device.write_zeroes(model::Extent::new(3 << 20, 1 << 16), false).unwrap();
    let served = Served::unix(exports);
    let map = must("nbdinfo", &["--map", "--json", &served.uri()]).await.json();
    let expected = [
        (0, 1 << 20, 3),
        (1 << 20, 1 << 17, 0),
        ((1 << 20) + (1 << 17), (2 << 20) - (1 << 17), 3),
        (3 << 20, 1 << 16, 2),
        ((3 << 20) + (1 << 16), SIZE_BYTES - (3 << 20) - (1 << 16), 3),
    ];
    let found: Vec<(u64, u64, u64)> = map
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["offset"].as_u64().unwrap(), e["length"].as_u64().unwrap(), e["type"].as_u64().unwrap()))
        .collect();
    assert_eq!(found, expected);
    let map = must("qemu-img", &["map", "--output=json", &served.uri()]).await.json();
    let data: Vec<_> = map.as_array().unwrap().iter().filter(|e| e["zero"] == false).collect();
    assert_eq!(data.len(), 1, "{map}");
    assert_eq!((data[0]["start"].as_u64(), data[0]["length"].as_u64()), (Some(1 << 20), Some(1 << 17)));
}

async fn nbdcopy_both_ways(served: &Served, device: &dyn BlockDevice, connections: &str) {
    let source = served.path("source.raw");
    let bytes = image(&source, SIZE_BYTES);
    // Whatever was there before must be gone, also where the source is zero.
    device.write_at(&vec![0xff; bytes.len()], 0).unwrap();
    let uri = served.uri();
    must("nbdcopy", &["--flush", connections, source.to_str().unwrap(), &uri]).await;
    assert!(content(device) == bytes, "the device differs after nbdcopy to it");
    let copy = served.path("copy.raw");
    std::fs::File::create(&copy).unwrap().set_len(SIZE_BYTES).unwrap();
    must("nbdcopy", &[connections, &uri, copy.to_str().unwrap()]).await;
    assert!(std::fs::read(&copy).unwrap() == bytes, "the copy differs after nbdcopy from it");
}

#[tokio::test(flavor = "multi_thread")]
async fn nbdcopy_copies_both_ways_over_a_unix_socket() {
    let (device, exports) = Exports::memory(SIZE_BYTES);
    let served = Served::unix(exports);
    nbdcopy_both_ways(&served, device.as_ref(), "--connections=1").await;
    nbdcopy_both_ways_again(&served, device.as_ref()).await;
}

async fn nbdcopy_both_ways_again(served: &Served, device: &dyn BlockDevice) {
    std::fs::remove_file(served.path("source.raw")).unwrap();
    std::fs::remove_file(served.path("copy.raw")).unwrap();
    nbdcopy_both_ways(served, device, "--connections=4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nbdcopy_copies_both_ways_over_tcp_to_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let device: Arc<dyn BlockDevice> = Arc::new(FileDevice::create(&folder.path().join("target"), SIZE_BYTES).unwrap());
    let served = Served::tcp(Exports::one(Arc::clone(&device))).await;
    nbdcopy_both_ways(&served, device.as_ref(), "--connections=4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn qemu_img_converts_and_compares() {
    for tcp in [false, true] {
        let (device, exports) = Exports::memory(SIZE_BYTES);
        device.write_at(&vec![0xff; SIZE_BYTES as usize], 0).unwrap();
        let served = if tcp { Served::tcp(exports).await } else { Served::unix(exports) };
        let source = served.path("source.raw");
        let bytes = image(&source, SIZE_BYTES);
        let (source, uri) = (source.to_str().unwrap(), served.uri());
        must("qemu-img", &["convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw", source, &uri]).await;
        assert!(content(device.as_ref()) == bytes);
        must("qemu-img", &["compare", "-f", "raw", "-F", "raw", source, &uri]).await;
        let qcow = served.path("copy.qcow2");
        must("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &uri, qcow.to_str().unwrap()]).await;
        must("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", qcow.to_str().unwrap(), source]).await;
        device.write_at(&[1], 12345).unwrap();
        assert!(!run("qemu-img", &["compare", "-f", "raw", "-F", "raw", source, &uri]).await.ok);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn qemu_io_writes_zeroes_trims_and_flushes() {
    let folder = tempfile::tempdir().unwrap();
    let device: Arc<dyn BlockDevice> = Arc::new(FileDevice::create(&folder.path().join("target"), SIZE_BYTES).unwrap());
    let served = Served::unix(Exports::one(Arc::clone(&device)));
    let commands = [
        "write -P 0xab 0 1M",
        "write -f -P 0xcd 1M 64k",
        "write -z 64k 64k",
        "write -z -u 256k 128k",
        "discard 512k 256k",
        "flush",
        "read -P 0xab 0 64k",
        "read -P 0 64k 64k",
        "read -P 0 256k 128k",
        "read -P 0xab 384k 128k",
        "read -P 0xcd 1M 64k",
        "aio_write -P 1 2M 1M",
        "aio_write -P 2 3M 1M",
        "aio_write -P 3 4M 1M",
        "aio_flush",
        "read -P 1 2M 1M",
        "read -P 2 3M 1M",
        "read -P 3 4M 1M",
    ];
    let uri = served.uri();
    let mut arguments = vec!["-f", "raw", uri.as_str()];
    for command in &commands {
        arguments.extend(["-c", command]);
    }
    let said = must("qemu-io", &arguments).await;
    assert!(!said.stdout.contains("failed") && !said.stdout.contains("mismatch"), "{}", said.stdout);
    let bytes = content(device.as_ref());
    assert!(bytes[..1 << 16].iter().all(|&byte| byte == 0xab));
    assert!(bytes[1 << 16..1 << 17].iter().all(|&byte| byte == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_of_the_device_reach_the_client() {
    let inner = Arc::new(MemoryDevice::new(SIZE_BYTES));
    let plan = FaultPlan { write_budget_bytes: Some((1 << 20, Fault::Full)), ..FaultPlan::default() };
    let full: Arc<dyn BlockDevice> = Arc::new(FaultDevice::new(inner, plan));
    let unreadable = FaultPlan { read_budget_bytes: Some(1 << 20), ..FaultPlan::default() };
    let unreadable: Arc<dyn BlockDevice> =
        Arc::new(FaultDevice::new(Arc::new(MemoryDevice::from_bytes(&vec![1; SIZE_BYTES as usize])), unreadable));
    let locked: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(SIZE_BYTES));
    let served = Served::unix(Exports::one(full).and("unreadable", unreadable, false).and("locked", locked, true));
    let source = served.path("source.raw");
    image(&source, SIZE_BYTES);
    let source = source.to_str().unwrap();
    let said = run("nbdcopy", &[source, &served.uri()]).await;
    assert!(!said.ok && said.stderr.contains("No space left on device"), "{}", said.stderr);
    let copy = served.path("copy.raw");
    std::fs::File::create(&copy).unwrap();
    let said = run("nbdcopy", &[&served.export("unreadable").to_string(), copy.to_str().unwrap()]).await;
    assert!(!said.ok && said.stderr.contains("Input/output error"), "{}", said.stderr);
    let said = run("nbdcopy", &[source, &served.export("locked").to_string()]).await;
    assert!(!said.ok, "a read-only export was written");
    // The failing connections harmed nobody else.
    must("nbdinfo", &[&served.uri()]).await;
}
