//! Templates (what shell VMs are deployed from) and guest OS types.

use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::CloudstackError;
use crate::paging::Listed;
use crate::params::Params;
use crate::wire;

/// Whose templates. `All` is for root administrators only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum TemplateFilter {
    /// Every template.
    All,
    /// Featured ones.
    Featured,
    /// The caller's own.
    #[strum(serialize = "self")]
    Own,
    /// The caller's own and shared ones that are ready.
    SelfExecutable,
    /// Shared ones that are ready.
    SharedExecutable,
    /// Everything the caller can deploy.
    #[default]
    Executable,
    /// Public but not featured ones.
    Community,
}

/// Which templates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TemplateQuery {
    /// Whose.
    pub filter: TemplateFilter,
    /// Only this one.
    pub id: Option<String>,
    /// Only those in this zone.
    pub zone_id: Option<String>,
    /// Only those for this hypervisor, such as `KVM`.
    pub hypervisor: Option<String>,
}

/// A template in a zone: one row for each zone it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// UUID.
    #[serde(deserialize_with = "wire::id")]
    pub id: String,
    /// Name.
    #[serde(default, deserialize_with = "wire::text_or_empty")]
    pub name: String,
    /// Zone of this row.
    #[serde(alias = "zoneid", default, deserialize_with = "wire::text")]
    pub zone_id: Option<String>,
    /// Whether VMs can be made of it.
    #[serde(alias = "isready", default, deserialize_with = "wire::truth")]
    pub is_ready: bool,
    /// Such as `Download Complete`.
    #[serde(default, deserialize_with = "wire::text")]
    pub status: Option<String>,
    /// Such as `KVM`.
    #[serde(default, deserialize_with = "wire::text")]
    pub hypervisor: Option<String>,
    /// `QCOW2`, `RAW`, …
    #[serde(default, deserialize_with = "wire::text")]
    pub format: Option<String>,
    /// Size of the disk in bytes.
    #[serde(alias = "size", default, deserialize_with = "wire::count")]
    pub size_bytes: Option<u64>,
    /// `USER`, `SYSTEM`, `BUILTIN`, …
    #[serde(alias = "templatetype", default, deserialize_with = "wire::text")]
    pub template_type: Option<String>,
    /// Guest OS type.
    #[serde(alias = "ostypeid", default, deserialize_with = "wire::text")]
    pub os_type_id: Option<String>,
    /// Guest OS type's name.
    #[serde(alias = "ostypename", default, deserialize_with = "wire::text")]
    pub os_type_name: Option<String>,
    /// Whether a VM made of it gets a generated password.
    #[serde(alias = "passwordenabled", default, deserialize_with = "wire::truth")]
    pub password_enabled: bool,
}

/// Which guest OS types.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OsTypeQuery {
    /// Only this one.
    pub id: Option<String>,
    /// Only those with exactly this description.
    pub description: Option<String>,
    /// Only those whose description holds this.
    pub keyword: Option<String>,
}

/// A guest OS type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OsType {
    /// UUID.
    #[serde(deserialize_with = "wire::id")]
    pub id: String,
    /// Such as `Debian GNU/Linux 12 (64-bit)`.
    #[serde(default, deserialize_with = "wire::text_or_empty")]
    pub description: String,
    /// Category.
    #[serde(alias = "oscategoryid", default, deserialize_with = "wire::text")]
    pub category_id: Option<String>,
}

impl Listed for Template {
    const OBJECT: &'static str = "template";

    fn identity(&self) -> String {
        format!("{}@{}", self.id, self.zone_id.as_deref().unwrap_or_default())
    }
}

impl Listed for OsType {
    const OBJECT: &'static str = "ostype";

    fn identity(&self) -> String {
        self.id.clone()
    }
}

impl Client {
    /// `listTemplates`.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn list_templates(&self, query: &TemplateQuery) -> Result<Vec<Template>, CloudstackError> {
        let filter: &'static str = query.filter.into();
        let params = Params::new("listTemplates")
            .set("templatefilter", filter)
            .set("listall", true)
            .maybe("id", query.id.as_ref())
            .maybe("zoneid", query.zone_id.as_ref())
            .maybe("hypervisor", query.hypervisor.as_ref());
        self.list(params).await
    }

    /// `listOsTypes`.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn list_os_types(&self, query: &OsTypeQuery) -> Result<Vec<OsType>, CloudstackError> {
        let params = Params::new("listOsTypes")
            .maybe("id", query.id.as_ref())
            .maybe("description", query.description.as_ref())
            .maybe("keyword", query.keyword.as_ref());
        self.list(params).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_spelled_as_the_server_wants_them() {
        let text = |filter: TemplateFilter| -> &'static str { filter.into() };
        assert_eq!(text(TemplateFilter::Own), "self");
        assert_eq!(text(TemplateFilter::SharedExecutable), "sharedexecutable");
        assert_eq!(text(TemplateFilter::default()), "executable");
    }
}
