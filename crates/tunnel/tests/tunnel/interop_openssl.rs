//! The same port and files as OpenSSL sees them: a TLS stack and X.509 code that share nothing with ours.

use std::process::{Output, Stdio};

use nbd::channel::Channel;
use tokio::process::Command;

use crate::support::{Hub, soon};

async fn openssl(arguments: &[&str]) -> Output {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    match soon("openssl", command.output()).await {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            panic!("openssl not found: apt-get install openssl")
        }
        Err(error) => panic!("openssl does not run: {error}"),
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let hub = Hub::start().await;
    let address = hub.address.to_string();
    for alpn in ["http/1.1", "nbd"] {
        let output = openssl(&["s_client", "-connect", &address, "-tls1_2", "-alpn", alpn]).await;
        assert!(!output.status.success());
        assert!(text(&output).contains("alert protocol version"), "{}", text(&output));
    }
}

#[tokio::test]
async fn an_agent_made_of_openssl_gets_in() {
    let mut hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let address = hub.address.to_string();
    let (file, ca) = (agent.file(), hub.folder.path().join("hub-ca.crt"));
    let (file, ca) = (file.to_str().unwrap(), ca.to_str().unwrap());
    let client = async {
        openssl(&[
            "s_client",
            "-connect",
            &address,
            "-tls1_3",
            "-alpn",
            "nbd",
            "-cert",
            file,
            "-key",
            file,
            "-CAfile",
            ca,
            "-verify_return_error",
            "-verify_ip",
            "127.0.0.1",
            "-ign_eof",
        ])
        .await
    };
    let serve = async {
        let mut accepted = hub.next_nbd().await;
        accepted.channel.send(&[b"NBDMAGIC from the hub\n"]).unwrap();
        accepted.channel.finish();
        accepted.peer
    };
    let (output, peer) = tokio::join!(client, serve);
    let said = text(&output);
    assert_eq!(peer, *agent.identity.facts());
    for expected in ["NBDMAGIC from the hub", "ALPN protocol: nbd", "Verification: OK", "TLS_AES_256_GCM_SHA384"] {
        assert!(said.contains(expected), "no {expected} in {said}");
    }
}

#[tokio::test]
async fn without_a_certificate_openssl_is_told_so() {
    let hub = Hub::start().await;
    let address = hub.address.to_string();
    let output = openssl(&["s_client", "-connect", &address, "-alpn", "migratekit-agent/1", "-ign_eof"]).await;
    assert!(text(&output).contains("alert certificate required"), "{}", text(&output));
}

#[tokio::test]
async fn the_files_are_what_openssl_takes_them_for() {
    let hub = Hub::start().await;
    let agent = hub.enrol("e-1");
    let (file, ca) = (agent.file(), hub.folder.path().join("hub-ca.crt"));
    let server = hub.folder.path().join("server.pem");
    let (file, ca, server) = (file.to_str().unwrap(), ca.to_str().unwrap(), server.to_str().unwrap());
    for (purpose, certificate, accepted) in [
        ("sslclient", file, true),
        ("sslserver", file, false),
        ("sslserver", server, true),
        ("sslclient", server, false),
    ] {
        let output = openssl(&["verify", "-x509_strict", "-CAfile", ca, "-purpose", purpose, certificate]).await;
        assert_eq!(output.status.success(), accepted, "{purpose} {certificate}: {}", text(&output));
    }
    let der = agent.folder.path().join("key.der");
    let der = der.to_str().unwrap();
    let output = openssl(&["pkey", "-in", file, "-pubout", "-outform", "DER", "-out", der]).await;
    assert!(output.status.success(), "{}", text(&output));
    let output = openssl(&["dgst", "-sha256", "-r", der]).await;
    assert!(text(&output).starts_with(&agent.identity.facts().fingerprint), "{}", text(&output));
    let request = agent.folder.path().join("request.der");
    std::fs::write(&request, agent.identity.key().csr("vma").unwrap()).unwrap();
    let output = openssl(&["req", "-verify", "-noout", "-inform", "DER", "-in", request.to_str().unwrap()]).await;
    assert!(output.status.success() && text(&output).contains("OK"), "{}", text(&output));
}
