//! vCenter credentials: stored sealed, opened only to be sent to an agent inside its own connection.

use api::oma::credentials::{CreateCredential, CredentialView};
use api::vma::VcenterConnection;
use store::vmware_credentials::{self, NewCredential, VmwareCredential};

use crate::error::OmaError;
use crate::state::OmaState;

/// The column and row a sealed password belongs to: it opens nowhere else.
fn sealed_as(id: &str) -> String {
    format!("vmware_credentials.password_encrypted:{id}")
}

/// Stores a credential.
///
/// # Errors
/// The name is taken, the address is not one, or the database fails.
pub async fn create(
    state: &OmaState,
    request: &CreateCredential,
    created_by: &str,
) -> Result<CredentialView, OmaError> {
    let id = model::id::new_id();
    let new = NewCredential {
        id: id.clone(),
        credential_name: request.credential_name.clone(),
        vcenter_host: host(&request.vcenter_host)?,
        username: request.username.clone(),
        password_encrypted: state.sealing().seal(&request.password, &sealed_as(&id)).map_err(OmaError::Sealing)?,
        datacenter: request.datacenter.clone().unwrap_or_default(),
        tls_thumbprint: request.tls_thumbprint.clone(),
        is_default: request.is_default,
        created_by: Some(created_by.to_owned()),
    };
    Ok(view(vmware_credentials::create(state.store(), &new).await?))
}

/// Every credential, without passwords.
///
/// # Errors
/// The database fails.
pub async fn list(state: &OmaState) -> Result<Vec<CredentialView>, OmaError> {
    Ok(vmware_credentials::list(state.store()).await?.into_iter().map(view).collect())
}

/// The credential of that id, or the default one.
///
/// # Errors
/// There is none, or the database fails.
pub async fn credential(state: &OmaState, id: Option<&str>) -> Result<VmwareCredential, OmaError> {
    match id {
        Some(id) => Ok(vmware_credentials::find(state.store(), id).await?),
        None => Ok(vmware_credentials::default(state.store()).await?),
    }
}

/// What an agent needs to log in.
///
/// # Errors
/// There is no such credential, or its password cannot be opened.
pub async fn connection(state: &OmaState, id: Option<&str>) -> Result<VcenterConnection, OmaError> {
    let row = credential(state, id).await?;
    let password = state.sealing().open(&row.password_encrypted, &sealed_as(&row.id)).map_err(OmaError::Sealing)?;
    vmware_credentials::note_use(state.store(), &row.id).await?;
    Ok(VcenterConnection {
        url: format!("https://{}", row.vcenter_host),
        username: row.username,
        password,
        thumbprint: row.tls_thumbprint,
        ca_pem: None,
    })
}

/// `host[:port]` of what an operator typed.
fn host(typed: &str) -> Result<String, OmaError> {
    let invalid = |reason: &str| OmaError::Invalid { what: "the vCenter's address", reason: reason.to_owned() };
    let host = typed.trim().strip_prefix("https://").unwrap_or(typed.trim()).trim_end_matches('/');
    if host.contains("://") {
        return Err(invalid("must be host[:port] or https://host[:port]"));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']' | '_');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(invalid("must be a host name or address with an optional port, and nothing else"));
    }
    Ok(host.to_ascii_lowercase())
}

fn view(row: VmwareCredential) -> CredentialView {
    CredentialView {
        id: row.id,
        credential_name: row.credential_name,
        vcenter_host: row.vcenter_host,
        username: row.username,
        datacenter: Some(row.datacenter).filter(|name| !name.is_empty()),
        tls_thumbprint: row.tls_thumbprint,
        is_default: row.is_default,
        last_used: row.last_used.map(|at| *at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port_and_nothing_else() {
        for (typed, expected) in [
            ("vc.example", Some("vc.example")),
            (" https://VC.example:8443/ ", Some("vc.example:8443")),
            ("[2001:db8::1]:443", Some("[2001:db8::1]:443")),
            ("http://vc.example", None),
            ("vc.example/sdk", None),
            ("user@vc.example", None),
            ("", None),
        ] {
            assert_eq!(host(typed).ok().as_deref(), expected, "{typed:?}");
        }
    }
}
