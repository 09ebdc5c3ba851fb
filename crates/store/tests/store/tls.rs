//! MariaDB over TLS: the server's certificate must come from our CA and carry the server's name.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use store::{DatabaseConfig, MariaDbTls, Store, StoreError};

use crate::mariadb::{MariaDbServer, ServerTls};

struct Ca {
    file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

fn ca(folder: &Path, name: &str) -> Ca {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let file = folder.join(name);
    fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
    Ca { file, issuer: Issuer::new(params, key) }
}

fn server_files(folder: &Path, ca: &Ca) -> ServerTls {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &ca.issuer).unwrap();
    let (certificate_file, key_file) = (folder.join("server.pem"), folder.join("server.key"));
    fs::write(&certificate_file, certificate.pem()).unwrap();
    fs::write(&key_file, key.serialize_pem()).unwrap();
    ServerTls { ca_file: ca.file.clone(), certificate_file, key_file }
}

/// The same database, trusted by another CA file or called by another name.
fn altered(config: &DatabaseConfig, other_host: Option<&str>, other_tls: Option<MariaDbTls>) -> DatabaseConfig {
    let mut config = config.clone();
    if let DatabaseConfig::MariaDb { host, tls, .. } = &mut config {
        *host = other_host.map_or(host.clone(), str::to_owned);
        *tls = other_tls.unwrap_or(tls.clone());
    }
    config
}

async fn refusal(config: &DatabaseConfig) -> String {
    let error = Store::connect(config).await.err().expect("it connected");
    assert!(matches!(error, StoreError::Connect { .. }), "{error:?}");
    let chain = std::iter::successors(Some(&error as &dyn Error), |error: &&dyn Error| (*error).source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test]
async fn only_the_right_server_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, wrong) = (ca(folder.path(), "ca.pem"), ca(folder.path(), "wrong.pem"));
    let server = MariaDbServer::start(Some(&server_files(folder.path(), &ours))).unwrap();
    let config = server.database("tls").unwrap();
    let store = Store::connect(&config).await.unwrap();
    store.migrate().await.unwrap();
    let used = server.execute("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'migratekit'").unwrap();
    assert_ne!(used.trim(), "0");

    let told = refusal(&altered(&config, None, Some(MariaDbTls::VerifyIdentity { ca_file: wrong.file }))).await;
    assert!(told.contains("UnknownIssuer"), "{told}");
    let told = refusal(&altered(&config, Some("localhost"), None)).await;
    assert!(told.contains("not valid for name"), "{told}");
    let told = refusal(&altered(&config, None, Some(MariaDbTls::Disabled))).await;
    assert!(told.contains("Access denied") || told.contains("insecure transport"), "{told}");
    let missing = MariaDbTls::VerifyIdentity { ca_file: folder.path().join("none.pem") };
    let error = Store::connect(&altered(&config, None, Some(missing))).await.err().expect("it connected");
    assert!(matches!(error, StoreError::File { .. }), "{error:?}");
}
