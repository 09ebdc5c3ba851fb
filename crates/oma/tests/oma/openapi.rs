//! The committed document is the one the handlers describe. `UPDATE_OPENAPI=1` writes it anew.

use std::path::Path;

#[test]
fn the_committed_document_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let mut current = oma::router::openapi_document().to_pretty_json().unwrap();
    current.push('\n');
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "crates/oma/openapi.json is not current: UPDATE_OPENAPI=1 cargo nextest run -p oma openapi"
    );
}
