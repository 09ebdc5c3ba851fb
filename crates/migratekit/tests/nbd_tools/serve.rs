//! What `nbd serve` offers to clients no one here wrote, and how it begins and ends.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;

use rustix::process::Signal;

use super::harness::{Images, Serve, assert_equal, migratekit, run, text};

const MIB: usize = 1024 * 1024;

#[test]
fn nbdinfo_sees_size_name_abilities_and_holes() {
    let images = Images::new();
    let file = images.disk("disk.raw", MIB + 1);
    let serve = Serve::tcp(&file, &["--name", "disk one"]);
    assert!(serve.uri.starts_with("nbd://127.0.0.1:") && serve.uri.ends_with("/disk%20one"), "{}", serve.uri);

    let told = run("nbdinfo", &["--json", &serve.uri]).ok().json();
    let export = &told["exports"][0];
    assert_eq!(export["export-name"], "disk one");
    assert_eq!(export["export-size"], MIB + 1);
    for ability in ["can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero"] {
        assert_eq!(export[ability], true, "{ability}");
    }
    assert_eq!(export["is_read_only"], false);
    assert_eq!(export["contexts"][0], "base:allocation");

    let listed = run("nbdinfo", &["--list", "--json", &serve.uri]).ok().json();
    assert_eq!(listed["exports"].as_array().unwrap().len(), 1);
    let map = run("nbdinfo", &["--map", "--json", &serve.uri]).ok().json();
    let map = map.as_array().unwrap();
    let end = map.iter().map(|entry| entry["length"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(end, MIB as u64 + 1);
    let hole = map.iter().find(|entry| entry["type"] == 3).expect("a hole");
    assert_eq!(hole["offset"], 4 * 64 * 1024);
    assert!(map.iter().any(|entry| entry["type"] == 0));

    let unknown = run("nbdinfo", &[&serve.uri.replace("disk%20one", "other")]);
    assert_ne!(unknown.code, 0);
    // The one export is also the default one.
    run("nbdinfo", &[&serve.uri.replace("disk%20one", "")]).ok();
}

#[test]
fn nbdcopy_reads_and_writes_any_size() {
    for size in [1, 511, 64 * 1024, 5 * MIB + 777] {
        let images = Images::new();
        let (source, target) = (images.disk("source.raw", size), images.dirty("target.raw", size));
        let (from, to) = (Serve::tcp(&source, &["--read-only"]), Serve::tcp(&target, &[]));
        let copy = images.path("copy.raw");
        run("nbdcopy", &[&from.uri, text(&copy)]).ok();
        assert_equal(&source, &copy);
        run("nbdcopy", &["--connections=4", text(&source), &to.uri]).ok();
        assert_equal(&source, &target);
    }
}

#[test]
fn qemu_reads_compares_and_writes() {
    let images = Images::new();
    let (source, target) = (images.disk("source.raw", 8 * MIB + 512), images.dirty("target.raw", 8 * MIB + 512));
    let (from, to) = (Serve::tcp(&source, &["--name", "a"]), Serve::tcp(&target, &["--name", "b"]));
    let info = run("qemu-img", &["info", "--output=json", "-f", "raw", &from.uri]).ok().json();
    assert_eq!(info["virtual-size"], 8 * MIB + 512);
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", text(&source), &from.uri]).ok();
    let differ = run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &from.uri, &to.uri]);
    assert_eq!(differ.code, 1, "{}", differ.stderr);

    let copy = images.path("copy.raw");
    run("qemu-img", &["convert", "-f", "raw", "-O", "raw", &from.uri, text(&copy)]).ok();
    assert_equal(&source, &copy);
    run("qemu-img", &["convert", "-n", "-W", "-f", "raw", "-O", "raw", text(&source), &to.uri]).ok();
    assert_equal(&source, &target);

    let commands = ["write -P 0x5a 1M 64k", "write -z 2M 1M", "discard 4M 1M", "flush", "read -P 0x5a 1M 64k"];
    let mut arguments = vec!["-f", "raw"];
    commands.iter().for_each(|command| arguments.extend(["-c", command]));
    arguments.push(&to.uri);
    let said = run("qemu-io", &arguments).ok();
    assert!(!said.stdout.contains("failed"), "{}", said.stdout);
    let bytes = std::fs::read(&target).unwrap();
    assert!(bytes[MIB..MIB + 64 * 1024].iter().all(|byte| *byte == 0x5a));
    assert!(bytes[2 * MIB..3 * MIB].iter().all(|byte| *byte == 0));
}

#[test]
fn what_is_read_only_stays_as_it_is() {
    let images = Images::new();
    let (file, other) = (images.disk("disk.raw", MIB), images.dirty("other.raw", MIB));
    let before = std::fs::read(&file).unwrap();
    let serve = Serve::tcp(&file, &["--read-only"]);
    assert_eq!(run("nbdinfo", &["--json", &serve.uri]).ok().json()["exports"][0]["is_read_only"], true);
    assert_ne!(run("nbdcopy", &[text(&other), &serve.uri]).code, 0);
    let refused = migratekit(&["nbd", "copy", text(&other), &serve.uri]);
    assert_eq!(refused.code, 6, "{}", refused.stderr);
    assert!(refused.stderr.contains("read-only") && refused.stderr.contains("remedy"), "{}", refused.stderr);
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn a_signal_ends_it_cleanly_even_with_clients() {
    let images = Images::new();
    let file = images.disk("disk.raw", MIB);
    for signal in [Signal::TERM, Signal::INT] {
        let socket = images.path("serve.sock");
        let serve = Serve::start(&[text(&file), "--socket", text(&socket), "--name", "x"]);
        assert_eq!(serve.uri, format!("nbd+unix:///x?socket={}", socket.display()));
        assert!(std::fs::metadata(&socket).unwrap().file_type().is_socket());
        run("nbdinfo", &["--size", &serve.uri]).ok();
        let mut idle = UnixStream::connect(&socket).unwrap();
        idle.read_exact(&mut [0; 18]).unwrap();
        let (status, _) = serve.end(signal);
        assert_eq!(status.code(), Some(0));
        assert!(!socket.exists(), "the socket is left");
        assert_eq!(idle.read(&mut [0; 1]).unwrap_or(0), 0, "the client hears of the end");
    }
}

#[test]
fn json_tells_a_program_where_it_is() {
    let images = Images::new();
    let serve = Serve::tcp(&images.disk("disk.raw", MIB), &["--read-only", "--output", "json"]);
    let uri = serve.uri.clone();
    let (_, stdout) = serve.end(Signal::TERM);
    let told: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(told, serde_json::json!({ "uri": uri, "size_bytes": MIB, "read_only": true }));
}

#[test]
fn what_cannot_be_served_is_said_with_its_code() {
    let images = Images::new();
    let file = images.disk("disk.raw", MIB);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (folder, absent) = (images.path(""), images.path("absent.raw"));
    let cases: [(&[&str], i32); 5] = [
        (&[text(&absent)], 3),
        (&[text(&folder)], 5),
        (&[text(&file), "--listen", &address], 4),
        (&[text(&file), "--socket", text(&file)], 4),
        (&[text(&file), "--listen", "nowhere"], 2),
    ];
    for (arguments, code) in cases {
        let said = migratekit(&[&["nbd", "serve", "--output", "json"], arguments].concat());
        assert_eq!(said.code, code, "{arguments:?}: {}", said.stderr);
        assert!(said.problem()["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
    }
    assert!(file.exists());
}
