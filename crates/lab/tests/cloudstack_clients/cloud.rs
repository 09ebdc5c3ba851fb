//! A simulated CloudStack in a temporary folder, with an administrator and a plain user.

use std::path::PathBuf;

use lab::cloudstack::{AccountConfig, CloudstackConfig, CloudstackHandle, CloudstackSim};
use model::Secret;
use serde_json::Value;
use tempfile::TempDir;

use super::signed_client::SignedClient;

/// The server, its folder and two callers.
pub(crate) struct Cloud {
    pub(crate) folder: TempDir,
    pub(crate) sim: CloudstackHandle,
    pub(crate) admin: SignedClient,
    pub(crate) user: SignedClient,
}

impl Cloud {
    /// Starts with the defaults.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts with a changed configuration.
    pub(crate) async fn start_with(change: impl FnOnce(&mut CloudstackConfig)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = config_in(folder.path().to_owned());
        change(&mut config);
        let sim = CloudstackSim::start(config).await.expect("the simulator starts");
        let admin = SignedClient::new(&sim.url, "admin-KEY", "admin-SECRET");
        let user = SignedClient::new(&sim.url, "user-KEY", "user-SECRET");
        Self { folder, sim, admin, user }
    }

    pub(crate) fn by_id(&self) -> PathBuf {
        self.folder.path().join("by-id")
    }

    /// Creates a volume on the custom offering; returns its id.
    pub(crate) async fn volume(&self, client: &SignedClient, name: &str, size_gib: u32) -> String {
        let size = size_gib.to_string();
        let (offering, zone) = (self.sim.custom_disk_offering_id(), self.sim.zone_id());
        let parameters = [("name", name), ("diskofferingid", &offering), ("zoneid", &zone), ("size", &size)];
        text(&client.done("createVolume", &parameters).await["volume"]["id"])
    }

    /// Deploys a stopped VM; returns its id.
    pub(crate) async fn shell_vm(&self, name: &str) -> String {
        let templates = self.admin.ok("listTemplates", &[("templatefilter", "executable")]).await;
        let template = text(&templates["template"][1]["id"]);
        let (offering, zone) = (self.sim.service_offering_id(), self.sim.zone_id());
        let parameters = [
            ("name", name),
            ("zoneid", &zone),
            ("serviceofferingid", &offering),
            ("templateid", &template),
            ("startvm", "false"),
        ];
        text(&self.admin.done("deployVirtualMachine", &parameters).await["virtualmachine"]["id"])
    }

    /// Attaches a volume to the worker VM.
    pub(crate) async fn attach_to_worker(&self, volume_id: &str) -> Value {
        let worker = self.sim.oma_vm_id();
        self.admin.done("attachVolume", &[("id", volume_id), ("virtualmachineid", &worker)]).await
    }
}

/// The configuration of a server whose folders lie in `folder`.
pub(crate) fn config_in(folder: PathBuf) -> CloudstackConfig {
    let mut config = CloudstackConfig::new(folder.join("state"), folder.join("by-id"), "admin-KEY", "admin-SECRET");
    config.accounts.push(AccountConfig {
        name: "tenant".to_owned(),
        api_key: "user-KEY".to_owned(),
        secret_key: Secret::new("user-SECRET"),
        root_admin: false,
    });
    config
}

/// A JSON string.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no string: {value}")).to_owned()
}
