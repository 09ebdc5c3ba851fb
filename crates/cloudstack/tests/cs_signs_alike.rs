//! Our signatures against those of `cs`, a CloudStack client from PyPI that nobody here wrote.
//!
//! `cs` leaves `~` in values as it is, where the server's Java escapes it, so `~` is left to the recorded vectors.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cloudstack::sign;
use model::Secret;

const SECRET_KEY: &str = "VDaACYb0LV9eNjTetIOElcVQkvJck_J_QljX_FcHRj87ZKiy0z0ty0ZsYBkoXkY9b7eq1EhwJaw7FF3akA3KBQ";
const CS_VERSION: &str = "5.2.0";

/// Reads one JSON object of parameters a line and prints the signature of each.
const ORACLE: &str = r#"
import importlib.metadata, json, sys
from cs import CloudStack
secret, version = sys.argv[1:3]
assert importlib.metadata.version("cs") == version
signer = CloudStack(endpoint="http://localhost/", key="unused", secret=secret)
for line in sys.stdin:
    data = json.loads(line)
    signer._sign(data)
    print(data["signature"])
"#;

/// A Python with `cs` in it, kept between runs of the tests.
fn python_with_cs() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("venv-cs-{CS_VERSION}"));
    let python = folder.join("bin/python3");
    if has_cs(&python) {
        return python;
    }
    let made = Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&folder)
        .output()
        .expect("python3 not found: apt-get install python3 python3-venv");
    assert!(
        made.status.success(),
        "no virtual environment can be made: apt-get install python3-venv\n{}",
        String::from_utf8_lossy(&made.stdout)
    );
    let wanted = format!("cs=={CS_VERSION}");
    let installed = Command::new(&python).args(["-m", "pip", "install", "--quiet", &wanted]).output().unwrap();
    assert!(
        installed.status.success(),
        "pip install {wanted} failed (is PyPI reachable?)\n{}",
        String::from_utf8_lossy(&installed.stderr)
    );
    python
}

fn has_cs(python: &Path) -> bool {
    let check = format!("import cs, importlib.metadata as m; assert m.version('cs') == '{CS_VERSION}'");
    python.exists() && Command::new(python).args(["-c", &check]).output().is_ok_and(|ran| ran.status.success())
}

type Request = Vec<(String, String)>;

fn request(pairs: &[(&str, &str)]) -> Request {
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn chosen_requests() -> Vec<Request> {
    vec![
        request(&[("command", "listZones")]),
        request(&[("command", "createVolume"), ("name", "disk 0 *'()!@/+:é%&=?#\"\\<>|"), ("size", "20")]),
        request(&[
            ("command", "deployVirtualMachine"),
            ("apiKey", "KEY-abc_123"),
            ("details[0].UEFI", "SECURE"),
            ("details[0].rootDiskController", "virtio"),
            ("details[10].a", "1"),
            ("details[2].b", "2"),
            ("details[0]_x", "between"),
            ("expires", "2030-01-01T00:00:00+0000"),
            ("signatureVersion", "3"),
        ]),
        request(&[
            ("command", "x"),
            ("Zed", "1"),
            ("alpha", "2"),
            ("ALPHA", "3"),
            ("a.b", "4"),
            ("a-b", "5"),
            ("ab", "6"),
        ]),
        request(&[("command", "x"), ("empty", ""), ("space", " "), ("line", "a\nb\tc"), ("wide", "İßΣ漢字😀")]),
    ]
}

/// Requests of odd names and values; the same ones in every run.
fn drawn_requests() -> Vec<Request> {
    let names: Vec<char> = "ABZabz019[]._-".chars().collect();
    let values: Vec<char> = "AZaz09 .-*_+%&=/:;,'()!@#?$<>|\\\"`^{}[]é漢😀Ω".chars().collect();
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut draw = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    let mut requests = Vec::new();
    for _ in 0..300 {
        let mut pairs = std::collections::BTreeMap::new();
        for _ in 0..=draw(8) {
            let name: String = (0..=draw(6)).map(|_| names[draw(names.len())]).collect();
            let value: String = (0..draw(20)).map(|_| values[draw(values.len())]).collect();
            pairs.insert(name, value);
        }
        requests.push(pairs.into_iter().collect());
    }
    requests
}

#[test]
fn every_signature_is_the_one_cs_makes() {
    let python = python_with_cs();
    let requests: Vec<Request> = chosen_requests().into_iter().chain(drawn_requests()).collect();
    let mut oracle = Command::new(python)
        .args(["-c", ORACLE, SECRET_KEY, CS_VERSION])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = String::new();
    for request in &requests {
        let object: serde_json::Map<String, serde_json::Value> =
            request.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        lines.push_str(&serde_json::to_string(&object).unwrap());
        lines.push('\n');
    }
    let mut input = oracle.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
    let output = oracle.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "the oracle failed");
    let theirs: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    assert_eq!(theirs.len(), requests.len());
    for (request, theirs) in requests.iter().zip(theirs) {
        let pairs = request.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        assert_eq!(sign::signature(pairs, &Secret::new(SECRET_KEY)), theirs, "{request:?}");
    }
}
