//! `/vmware-credentials`: how to reach each vCenter. Passwords go in and never come out.

use model::Secret;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// `POST /api/v1/vmware-credentials`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCredential {
    /// Unique name.
    pub credential_name: String,
    /// `host[:port]` or `https://host[:port]`.
    pub vcenter_host: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
    /// Datacenter to look at; all when absent.
    #[serde(default)]
    pub datacenter: Option<String>,
    /// SHA-1 or SHA-256 of the server's certificate.
    #[serde(default)]
    pub tls_thumbprint: Option<String>,
    /// Whether it is the one used when none is named.
    #[serde(default)]
    pub is_default: bool,
}

/// A credential without its password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CredentialView {
    /// Row id.
    pub id: String,
    /// Unique name.
    pub credential_name: String,
    /// Host of the vCenter.
    pub vcenter_host: String,
    /// User name.
    pub username: String,
    /// Datacenter.
    pub datacenter: Option<String>,
    /// Pinned certificate.
    pub tls_thumbprint: Option<String>,
    /// Whether it is the default.
    pub is_default: bool,
    /// When it was last used.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used: Option<OffsetDateTime>,
}
