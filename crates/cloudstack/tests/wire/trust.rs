//! Whom the client trusts, against a real TLS server with a certificate made for the test.

use std::sync::Arc;

use cloudstack::{Client, ClientOptions, CloudstackError, ConnectionSettings, Trust};
use model::{FailureKind, Secret};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BODY: &str = r#"{"listzonesresponse":{"count":1,"zone":[{"id":"z","name":"Zone-1"}]}}"#;

struct TlsServer {
    url: String,
    certificate_pem: String,
    thumbprint: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers one list to every connection. Its certificate is its own CA, for `localhost`.
async fn start() -> TlsServer {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = vec![0_u8; 8192];
            if stream.read(&mut head).await.is_err() {
                continue;
            }
            let length = BODY.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{BODY}");
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, made.cert.der());
    TlsServer {
        url: format!("https://localhost:{port}"),
        certificate_pem: made.cert.pem(),
        thumbprint: hex::encode_upper(digest),
        task,
    }
}

async fn zones(url: &str, trust: Trust) -> Result<usize, CloudstackError> {
    let settings =
        ConnectionSettings { api_url: url.to_owned(), api_key: Secret::new("k"), secret_key: Secret::new("s"), trust };
    let options = ClientOptions { read_attempts: 1, ..ClientOptions::default() };
    Ok(Client::with_options(&settings, options)?.list_zones().await?.len())
}

#[tokio::test]
async fn a_pinned_certificate_and_a_given_ca_are_trusted() {
    let server = start().await;
    assert_eq!(zones(&server.url, Trust::Thumbprint(server.thumbprint.clone())).await.unwrap(), 1);
    assert_eq!(zones(&server.url, Trust::CaPem(server.certificate_pem.clone())).await.unwrap(), 1);
    // A pin looks at the certificate, not at the name.
    let by_address = server.url.replace("localhost", "127.0.0.1");
    assert_eq!(zones(&by_address, Trust::Thumbprint(server.thumbprint.clone())).await.unwrap(), 1);
    let misnamed = zones(&by_address, Trust::CaPem(server.certificate_pem.clone())).await.unwrap_err();
    assert!(matches!(misnamed, CloudstackError::Untrusted { .. }), "{misnamed:?}");
}

#[tokio::test]
async fn another_certificate_than_the_pinned_one_is_named() {
    let server = start().await;
    let error = zones(&server.url, Trust::Thumbprint("ab".repeat(32))).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Invalid);
    let CloudstackError::Untrusted { seen_thumbprint: Some(seen), .. } = &error else { panic!("{error:?}") };
    assert_eq!(seen.to_uppercase(), server.thumbprint);
    assert!(error.to_string().contains(seen) && error.remedy().is_some());
}

#[tokio::test]
async fn nobody_vouches_for_it() {
    let server = start().await;
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let error = zones(&server.url, Trust::CaPem(other.cert.pem())).await.unwrap_err();
    assert!(matches!(error, CloudstackError::Untrusted { seen_thumbprint: None, .. }), "{error:?}");
}
