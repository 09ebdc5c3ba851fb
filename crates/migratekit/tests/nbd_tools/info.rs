//! `nbd info` of servers no one here wrote.

use super::harness::{Images, Peer, Serve, migratekit};

const MIB: usize = 1024 * 1024;

#[test]
fn abilities_of_nbdkit_are_told() {
    let memory = Peer::nbdkit(&["memory", "2M"]);
    let told = migratekit(&["nbd", "info", &memory.uri, "--output", "json"]).ok().json();
    for ability in ["multi_conn", "flush", "trim", "write_zeroes", "block_status"] {
        assert_eq!(told[ability], true, "{ability}");
    }
    assert_eq!((&told["size_bytes"], &told["data_bytes"]), (&(2 * MIB).into(), &0.into()));
    assert_eq!(told["read_only"], false);
    assert_eq!(told["exports"], serde_json::json!([""]));
    for key in ["uri", "description", "minimum_block_bytes", "preferred_block_bytes", "maximum_request_bytes"] {
        assert!(told.get(key).is_some(), "{key}");
    }

    let text = migratekit(&["nbd", "info", &memory.uri]).ok().stdout;
    assert!(text.contains("size                 2.0 MiB (2097152 bytes)"), "{text}");
    assert!(text.contains("offers               flush, trim, write zeroes"), "{text}");
}

#[test]
fn a_server_that_can_do_little_is_told_as_that() {
    let eval = Peer::nbdkit(&["eval", "get_size=echo 65536", "pread=head -c $3 /dev/zero"]);
    let told = migratekit(&["nbd", "info", &eval.uri, "--output", "json"]).ok().json();
    assert_eq!(
        (&told["read_only"], &told["trim"], &told["write_zeroes"]),
        (&true.into(), &false.into(), &false.into())
    );

    let blind =
        Peer::nbdkit(&["--filter=noextents", "--filter=blocksize-policy", "memory", "1M", "blocksize-minimum=4096"]);
    let told = migratekit(&["nbd", "info", &blind.uri, "--output", "json"]).ok().json();
    assert_eq!(told["minimum_block_bytes"], 4096);
}

#[test]
fn an_export_of_qemu_is_found_by_its_name_only() {
    let images = Images::new();
    let qemu = Peer::qemu(&images.disk("disk.raw", MIB), &["--read-only", "--description=the disk"]);
    let told = migratekit(&["nbd", "info", &qemu.uri, "--output", "json"]).ok().json();
    assert_eq!(told["description"], "the disk");
    assert_eq!(told["read_only"], true);
    assert!(told["data_bytes"].as_u64().unwrap() < MIB as u64, "{told}");

    let other = qemu.uri.replace("///disk", "///other");
    let unknown = migratekit(&["nbd", "info", &other, "--output", "json"]);
    assert_eq!(unknown.code, 3, "{}", unknown.stderr);
    let problem = unknown.problem();
    assert_eq!(problem["evidence"], "this server's exports: \"disk\"");
    assert!(problem["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()));
}

#[test]
fn our_own_server_is_told_of_too() {
    let images = Images::new();
    let serve = Serve::tcp(&images.disk("disk.raw", MIB), &["--name", "disk"]);
    let told = migratekit(&["nbd", "info", &serve.uri, "--output", "json"]).ok().json();
    assert_eq!((&told["size_bytes"], &told["exports"]), (&MIB.into(), &serde_json::json!(["disk"])));
}

#[test]
fn what_cannot_be_reached_is_said_with_its_code() {
    let images = Images::new();
    let socket = format!("nbd+unix:///?socket={}", images.path("absent.sock").display());
    for (uri, code) in [("nbd://127.0.0.1:1/", 7), (socket.as_str(), 7), ("http://127.0.0.1/", 2), ("nbds://host/", 2)]
    {
        let said = migratekit(&["nbd", "info", uri, "--output", "json"]);
        assert_eq!(said.code, code, "{uri}: {}", said.stderr);
        let problem = said.problem();
        assert!(problem["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{problem}");
    }
}
