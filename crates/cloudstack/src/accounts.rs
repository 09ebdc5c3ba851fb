//! The caller's own account: its role and what it may still use.

use model::Secret;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::error::CloudstackError;
use crate::paging::Listed;
use crate::params::Params;
use crate::wire::{self, Limit};

/// `accounttype` of a root administrator.
const ROOT_ADMIN_TYPE: u64 = 1;

/// Which accounts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountQuery {
    /// Only this one.
    pub id: Option<String>,
    /// Only the one of this name.
    pub name: Option<String>,
    /// All the caller may see, not only its own.
    pub list_all: bool,
}

/// An account with its limits. Storage is in GiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// UUID.
    #[serde(deserialize_with = "wire::id")]
    pub id: String,
    /// Name.
    #[serde(default, deserialize_with = "wire::text_or_empty")]
    pub name: String,
    /// 0 user, 1 root administrator, 2 domain administrator.
    #[serde(alias = "accounttype", default, deserialize_with = "wire::count")]
    pub account_type: Option<u64>,
    /// `Admin`, `ResourceAdmin`, `DomainAdmin` or `User`.
    #[serde(alias = "roletype", default, deserialize_with = "wire::text")]
    pub role_type: Option<String>,
    /// Name of the role.
    #[serde(alias = "rolename", default, deserialize_with = "wire::text")]
    pub role_name: Option<String>,
    /// Domain.
    #[serde(alias = "domainid", default, deserialize_with = "wire::text")]
    pub domain_id: Option<String>,
    /// Domain's name.
    #[serde(default, deserialize_with = "wire::text")]
    pub domain: Option<String>,
    /// Domain's path (`ROOT/a`).
    #[serde(alias = "domainpath", default, deserialize_with = "wire::text")]
    pub domain_path: Option<String>,
    /// `enabled`, `disabled` or `locked`.
    #[serde(default, deserialize_with = "wire::text")]
    pub state: Option<String>,
    /// Most volumes.
    #[serde(alias = "volumelimit", default, deserialize_with = "wire::limit")]
    pub volume_limit: Option<Limit>,
    /// Volumes it has.
    #[serde(alias = "volumetotal", default, deserialize_with = "wire::count")]
    pub volume_total: Option<u64>,
    /// Volumes it may still make.
    #[serde(alias = "volumeavailable", default, deserialize_with = "wire::limit")]
    pub volume_available: Option<Limit>,
    /// Most primary storage, in GiB.
    #[serde(alias = "primarystoragelimit", default, deserialize_with = "wire::limit")]
    pub primary_storage_limit_gib: Option<Limit>,
    /// Primary storage it uses, in GiB.
    #[serde(alias = "primarystoragetotal", default, deserialize_with = "wire::count")]
    pub primary_storage_total_gib: Option<u64>,
    /// Primary storage it may still use, in GiB.
    #[serde(alias = "primarystorageavailable", default, deserialize_with = "wire::limit")]
    pub primary_storage_available_gib: Option<Limit>,
    /// Most VMs.
    #[serde(alias = "vmlimit", default, deserialize_with = "wire::limit")]
    pub vm_limit: Option<Limit>,
    /// VMs it has.
    #[serde(alias = "vmtotal", default, deserialize_with = "wire::count")]
    pub vm_total: Option<u64>,
    /// VMs it may still make.
    #[serde(alias = "vmavailable", default, deserialize_with = "wire::limit")]
    pub vm_available: Option<Limit>,
    /// Most volume snapshots.
    #[serde(alias = "snapshotlimit", default, deserialize_with = "wire::limit")]
    pub volume_snapshot_limit: Option<Limit>,
    /// Volume snapshots it has.
    #[serde(alias = "snapshottotal", default, deserialize_with = "wire::count")]
    pub volume_snapshot_total: Option<u64>,
    /// Volume snapshots it may still make.
    #[serde(alias = "snapshotavailable", default, deserialize_with = "wire::limit")]
    pub volume_snapshot_available: Option<Limit>,
    /// Its users.
    #[serde(alias = "user", default, deserialize_with = "wire::rows", skip_serializing)]
    pub users: Vec<AccountUser>,
}

/// A user of an account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AccountUser {
    /// UUID.
    #[serde(deserialize_with = "wire::id")]
    pub id: String,
    /// Login name.
    #[serde(alias = "username", default, deserialize_with = "wire::text_or_empty")]
    pub user_name: String,
    /// API key, when the server shows it.
    #[serde(alias = "apikey", default)]
    pub api_key: Option<Secret>,
}

impl Account {
    /// Whether it may choose ids of what it makes (`customid`) and see other accounts' things.
    #[must_use]
    pub fn is_root_admin(&self) -> bool {
        match &self.role_type {
            Some(role) => role == "Admin",
            None => self.account_type == Some(ROOT_ADMIN_TYPE),
        }
    }
}

/// A kind of limited resource (`resourcetype` of `listResourceLimits`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ResourceKind {
    /// Virtual machines.
    VirtualMachine = 0,
    /// Volumes.
    Volume = 2,
    /// Volume snapshots.
    VolumeSnapshot = 3,
    /// Primary storage, in GiB.
    PrimaryStorage = 10,
    /// Secondary storage, in GiB.
    SecondaryStorage = 11,
}

/// One limit of an account or domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// Number of the kind, see [`ResourceKind`].
    #[serde(alias = "resourcetype", deserialize_with = "wire::id")]
    pub resource_type: String,
    /// Name of the kind, such as `volume`.
    #[serde(alias = "resourcetypename", default, deserialize_with = "wire::text")]
    pub resource_type_name: Option<String>,
    /// At most this many.
    #[serde(default, deserialize_with = "wire::limit")]
    pub max: Option<Limit>,
    /// Account, when it is an account's limit.
    #[serde(default, deserialize_with = "wire::text")]
    pub account: Option<String>,
    /// Domain.
    #[serde(alias = "domainid", default, deserialize_with = "wire::text")]
    pub domain_id: Option<String>,
    /// Storage or host tag it counts for; absent for the limit of everything.
    #[serde(default, deserialize_with = "wire::text")]
    pub tag: Option<String>,
}

impl ResourceLimit {
    /// Whether it limits this kind as a whole.
    #[must_use]
    pub fn is_of(&self, kind: ResourceKind) -> bool {
        self.tag.is_none() && self.resource_type == (kind as u8).to_string()
    }
}

impl Listed for Account {
    const OBJECT: &'static str = "account";

    fn identity(&self) -> String {
        self.id.clone()
    }
}

impl Listed for ResourceLimit {
    const OBJECT: &'static str = "resourcelimit";

    fn identity(&self) -> String {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        [self.resource_type.clone(), text(&self.account), text(&self.domain_id), text(&self.tag)].join("/")
    }
}

impl Client {
    /// `listAccounts`.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn list_accounts(&self, query: &AccountQuery) -> Result<Vec<Account>, CloudstackError> {
        let params = Params::new("listAccounts")
            .maybe("id", query.id.as_ref())
            .maybe("name", query.name.as_ref())
            .maybe("listall", query.list_all.then_some(true));
        self.list(params).await
    }

    /// The account whose keys these are, when the server's answer leaves no doubt.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn own_account(&self) -> Result<Option<Account>, CloudstackError> {
        // Without `listall` the server answers with the caller's own account, also to a root administrator.
        let accounts = self.list_accounts(&AccountQuery::default()).await?;
        Ok(own_among(accounts, self.transport.api_key()))
    }

    /// The limits of one account (`listResourceLimits`); of the caller's own without names.
    ///
    /// # Errors
    /// Those of any read.
    pub async fn list_resource_limits(
        &self,
        account_and_domain_id: Option<(&str, &str)>,
    ) -> Result<Vec<ResourceLimit>, CloudstackError> {
        let params = Params::new("listResourceLimits")
            .maybe("account", account_and_domain_id.map(|(account, _)| account))
            .maybe("domainid", account_and_domain_id.map(|(_, domain)| domain));
        self.list(params).await
    }
}

fn own_among(mut accounts: Vec<Account>, api_key: &Secret) -> Option<Account> {
    let is_own = |account: &Account| account.users.iter().any(|user| user.api_key.as_ref() == Some(api_key));
    if let Some(position) = accounts.iter().position(is_own) {
        return Some(accounts.swap_remove(position));
    }
    if accounts.len() == 1 { accounts.pop() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(text: &str) -> Account {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_own_account_is_the_one_with_the_key_or_the_only_one() {
        let mine = account(r#"{"id":"a","name":"admin","user":[{"id":"u","username":"admin","apikey":"K"}]}"#);
        let other = account(r#"{"id":"b","name":"other"}"#);
        let key = Secret::new("K");
        assert_eq!(own_among(vec![other.clone(), mine.clone()], &key).unwrap().id, "a");
        assert_eq!(own_among(vec![other.clone()], &key).unwrap().id, "b");
        assert!(own_among(vec![other.clone(), other], &key).is_none());
        assert!(!serde_json::to_string(&mine).unwrap().contains('K'), "keys are never written out");
    }

    #[test]
    fn root_administrators_are_known_by_role_or_type() {
        for (text, expected) in [
            (r#"{"id":"a","accounttype":1,"roletype":"Admin"}"#, true),
            (r#"{"id":"a","accounttype":"1"}"#, true),
            (r#"{"id":"a","accounttype":2,"roletype":"DomainAdmin"}"#, false),
            (r#"{"id":"a","accounttype":0}"#, false),
        ] {
            assert_eq!(account(text).is_root_admin(), expected, "{text}");
        }
    }
}
