//! `nbd copy`: every pair of ends, odd sizes, dirty destinations, and what must not be begun.

use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use super::harness::{Images, Peer, Serve, assert_equal, assert_starts, command, migratekit, run, text, until};

const MIB: usize = 1024 * 1024;
/// Neither whole sectors nor whole units of the zero test, and more than one worker's share.
const SIZES: [usize; 5] = [1, 511, 64 * 1024 + 3, MIB, 37 * MIB + 12_345];

fn copy(arguments: &[&str]) -> serde_json::Value {
    migratekit(&[&["nbd", "copy", "--output", "json"], arguments].concat()).ok().json()
}

#[test]
fn between_files() {
    for size in SIZES.into_iter().chain([0]) {
        let images = Images::new();
        let (source, target) = (images.disk("source.raw", size), images.dirty("target.raw", size));
        let report = copy(&[text(&source), text(&target)]);
        assert_equal(&source, &target);
        assert_eq!(report["size_bytes"], size);
        let moved = report["data_bytes"].as_u64().unwrap() + report["zero_bytes"].as_u64().unwrap();
        assert_eq!(moved, size as u64, "{report}");
        let new = images.path("new.raw");
        copy(&[text(&source), text(&new)]);
        assert_equal(&source, &new);
    }
}

#[test]
fn zeroes_become_holes() {
    let images = Images::new();
    let (source, target) = (images.disk("source.raw", 20 * MIB), images.dirty("target.raw", 20 * MIB));
    // The written zeroes of the source, too: only three blocks of five hold data.
    let report = copy(&[text(&source), text(&target)]);
    // The byte at the very end makes a little of the last hole data: as much as the file system's block.
    let zero_bytes = report["zero_bytes"].as_u64().unwrap();
    assert!((8 * MIB as u64 - 64 * 1024..8 * MIB as u64).contains(&zero_bytes), "{report}");
    assert_equal(&source, &target);
    let allocated = std::fs::metadata(&target).unwrap().blocks() * 512;
    assert!(allocated <= 13 * MIB as u64, "{allocated} bytes are allocated");
}

#[test]
fn from_a_file_to_exports_and_back() {
    for size in SIZES {
        let images = Images::new();
        let source = images.disk("source.raw", size);
        let back = images.path("back.raw");
        let target = images.dirty("target.raw", size);
        let nbdkit = Peer::nbdkit(&["file", text(&target)]);
        copy(&[text(&source), &nbdkit.uri, "--connections", "8"]);
        assert_equal(&source, &target);
        copy(&[&nbdkit.uri, text(&back)]);
        assert_equal(&source, &back);

        let target = images.dirty("ours.raw", size);
        let ours = Serve::tcp(&target, &["--name", "ours"]);
        copy(&[&nbdkit.uri, &ours.uri]);
        assert_equal(&source, &target);
    }
}

#[test]
fn with_qemu_nbd_on_either_side() {
    let images = Images::new();
    let (source, target) = (images.disk("source.raw", 9 * MIB + 512), images.dirty("target.raw", 9 * MIB + 512));
    let to = Peer::qemu(&target, &["--discard=unmap"]);
    let report = copy(&[text(&source), &to.uri]);
    assert_eq!(report["connections"], 4, "{report}");
    assert_equal(&source, &target);
    let from = Peer::qemu(&source, &["--read-only"]);
    let ours = images.dirty("ours.raw", 9 * MIB + 512);
    let serve = Serve::tcp(&ours, &[]);
    copy(&[&from.uri, &serve.uri]);
    assert_equal(&source, &ours);
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &from.uri, &serve.uri]).ok();
}

#[test]
fn into_memory_and_out_again_over_one_connection_and_many() {
    let images = Images::new();
    let source = images.disk("source.raw", 6 * MIB);
    for connections in ["1", "16"] {
        let memory = Peer::nbdkit(&["memory", "6M"]);
        copy(&[text(&source), &memory.uri, "--connections", connections]);
        let back = images.path(&format!("back-{connections}.raw"));
        copy(&[&memory.uri, text(&back), "--connections", connections]);
        assert_equal(&source, &back);
    }
    let single = Peer::nbdkit(&["--filter=multi-conn", "memory", "6M", "multi-conn-mode=disable"]);
    assert_eq!(copy(&[text(&source), &single.uri])["connections"], 1);
}

#[test]
fn into_servers_that_can_do_little() {
    let images = Images::new();
    let source = images.disk("source.raw", 3 * MIB + 100);
    let target = images.dirty("target.raw", 3 * MIB + 4096);
    let filters: [&[&str]; 3] = [
        &["--filter=nozero", "--filter=noextents"],
        // The tail of the source is a part of a block: the rest of the block is kept.
        &["--filter=blocksize-policy"],
        &["--filter=blocksize"],
    ];
    let parameters: [&[&str]; 3] =
        [&[], &["blocksize-minimum=4096", "blocksize-error-policy=error"], &["maxdata=64k", "maxlen=1M"]];
    for (filter, parameter) in filters.into_iter().zip(parameters) {
        std::fs::write(&target, vec![0xff; 3 * MIB + 4096]).unwrap();
        let server = Peer::nbdkit(&[filter, &["file", text(&target)], parameter].concat());
        copy(&[text(&source), &server.uri]);
        let (wanted, found) = (std::fs::read(&source).unwrap(), std::fs::read(&target).unwrap());
        assert_starts(&found, &wanted);
        assert!(found[wanted.len()..].iter().all(|byte| *byte == 0xff), "{filter:?}: the rest is not left alone");
    }
}

#[test]
fn what_cannot_be_copied_is_not_begun() {
    let images = Images::new();
    let (source, small) = (images.disk("source.raw", MIB + 1), images.dirty("small.raw", MIB));
    let memory = Peer::nbdkit(&["memory", "1M"]);
    let qemu = Peer::qemu(&source, &["--read-only"]);
    let other = qemu.uri.replace("///disk", "///other");
    let absent = images.path("absent.raw");
    let new = images.path("new.raw");
    let linked = images.path("linked.raw");
    std::os::unix::fs::symlink(&source, &linked).unwrap();
    let cases = [
        (text(&source), text(&small), 5),
        (text(&source), memory.uri.as_str(), 5),
        (qemu.uri.as_str(), text(&small), 5),
        (text(&source), text(&linked), 5),
        (text(&source), "nbds://host/", 5),
        (other.as_str(), text(&new), 3),
        (text(&absent), text(&new), 3),
        (text(&small), qemu.uri.as_str(), 6),
        ("nbd://127.0.0.1:1/", text(&new), 7),
        (text(&source), "nbd://127.0.0.1:1/", 7),
    ];
    for (from, to, code) in cases {
        let said = migratekit(&["nbd", "copy", from, to, "--output", "json"]);
        assert_eq!(said.code, code, "{from} {to}: {}", said.stderr);
        let problem = said.problem();
        assert!(problem["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{problem}");
    }
    assert!(!new.exists());
    assert!(std::fs::read(&small).unwrap().iter().all(|byte| *byte == 0xff), "something was written");
    for connections in ["0", "65"] {
        assert_eq!(migratekit(&["nbd", "copy", text(&source), text(&new), "--connections", connections]).code, 2);
    }
}

#[test]
fn a_copy_that_fails_half_way_says_what_is_incomplete() {
    let images = Images::new();
    let source = images.disk("source.raw", 4 * MIB);
    let target = images.path("target.raw");
    let full = "pwrite=if [ $4 -ge 2097152 ]; then echo ENOSPC no room >&2; exit 1; fi; cat >/dev/null";
    let server = Peer::nbdkit(&["eval", "get_size=echo 4194304", "pread=head -c $3 /dev/zero", full]);
    let said = migratekit(&["nbd", "copy", text(&source), &server.uri, "--output", "json"]);
    assert_eq!(said.code, 8, "{}", said.stderr);
    assert!(said.problem()["evidence"].as_str().unwrap().ends_with("is incomplete"), "{}", said.stderr);
    assert_eq!(said.stdout, "");

    let broken = Peer::nbdkit(&["--filter=error", "memory", "4M", "error-pread=EIO", "error-pread-rate=100%"]);
    // A memory disk is one hole until something is written.
    copy(&[text(&source), &broken.uri]);
    let said = migratekit(&["nbd", "copy", &broken.uri, text(&target), "--output", "json"]);
    assert_eq!(said.code, 1, "{}", said.stderr);
    assert!(said.problem()["detail"].as_str().unwrap().contains("read"), "{}", said.stderr);
}

#[test]
fn an_interrupted_copy_says_so() {
    let images = Images::new();
    let (source, begun) = (images.disk("source.raw", 4 * MIB), images.path("begun"));
    let write = format!("pwrite=touch {}; cat >/dev/null; sleep 60", begun.display());
    let server = Peer::nbdkit(&["eval", "get_size=echo 4194304", "pread=head -c $3 /dev/zero", &write]);
    let arguments = ["nbd", "copy", text(&source), &server.uri];
    let child = command().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the copy has begun", || begun.exists().then_some(()));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("interrupted: ") && said.contains("is incomplete"), "{said}");
}
