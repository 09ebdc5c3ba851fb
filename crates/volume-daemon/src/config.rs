//! The volume daemon's configuration: one table of one TOML file, read once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cloudstack::ClientOptions;
use serde::Deserialize;

/// What the volume daemon needs to know. Every field has a default; unknown ones are refused.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VolumeDaemonConfig {
    /// Local HTTP; must be a loopback address, because callers are not authenticated.
    pub listen: SocketAddr,
    /// Where the key that seals stored passwords is kept; shared with the control plane.
    pub state_dir: PathBuf,
    /// Where the links to this machine's disks are, named by their serials.
    pub by_id_dir: PathBuf,
    /// Where this machine's network cards are, each a folder with a file `address`.
    pub interfaces_dir: PathBuf,
    /// How long an attached volume may take to appear as a device, in seconds.
    pub device_wait_seconds: u32,
    /// How long one CloudStack job is waited for, in seconds.
    pub job_deadline_seconds: u32,
    /// How long one ordinary CloudStack call may take, in seconds.
    pub call_timeout_seconds: u32,
    /// How long the deletion of one volume may take, in seconds: CloudStack erases it within the call.
    pub delete_timeout_seconds: u32,
    /// How often rows, devices and CloudStack are compared, in seconds.
    pub reconcile_interval_seconds: u32,
    /// Name of this process in the job log's leases; must differ between processes that share a database.
    pub instance_name: String,
}

impl Default for VolumeDaemonConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8090)),
            state_dir: PathBuf::from("/var/lib/migratekit"),
            by_id_dir: PathBuf::from("/dev/disk/by-id"),
            interfaces_dir: PathBuf::from("/sys/class/net"),
            device_wait_seconds: 30,
            job_deadline_seconds: 60 * 60,
            call_timeout_seconds: 60,
            delete_timeout_seconds: 30 * 60,
            reconcile_interval_seconds: 60,
            instance_name: "volume-daemon".to_owned(),
        }
    }
}

impl VolumeDaemonConfig {
    /// How long an attached volume may take to appear as a device.
    pub(crate) fn device_wait(&self) -> Duration {
        Duration::from_secs(self.device_wait_seconds.into())
    }

    /// How long single calls may take.
    pub(crate) fn client_options(&self) -> ClientOptions {
        ClientOptions {
            call_timeout: Duration::from_secs(self.call_timeout_seconds.into()),
            delete_timeout: Duration::from_secs(self.delete_timeout_seconds.into()),
            ..ClientOptions::default()
        }
    }

    /// How long one CloudStack job is waited for.
    pub(crate) fn job_deadline(&self) -> Duration {
        Duration::from_secs(self.job_deadline_seconds.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_enough_and_a_misspelt_key_is_refused() {
        let config: VolumeDaemonConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8090");
        assert_eq!((config.device_wait_seconds, config.by_id_dir), (30, PathBuf::from("/dev/disk/by-id")));
        assert!(serde_json::from_str::<VolumeDaemonConfig>(r#"{"by_id": "/dev"}"#).is_err());
    }
}
