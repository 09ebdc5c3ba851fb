//! The control plane's configuration: one table of one TOML file, read once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// What the control plane needs to know. Every field has a default; unknown ones are refused.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OmaConfig {
    /// Local HTTP, for the command line on this machine; must be a loopback address, because it is not encrypted.
    pub listen: SocketAddr,
    /// Where the hub's identity, the sealing key and the operator's token are kept.
    pub state_dir: PathBuf,
    /// Where the sockets to the other processes of the hub are.
    pub run_dir: PathBuf,
    /// Where the volume daemon answers.
    pub volume_daemon_url: String,
    /// Name of this process in the job log's leases; must differ between processes that share a database.
    pub instance_name: String,
    /// How long one call of CloudStack may take, in seconds.
    pub call_timeout_seconds: u32,
    /// How long a CloudStack job may take, in seconds; one that takes longer is asked about again.
    pub job_deadline_seconds: u32,
}

impl Default for OmaConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8082)),
            state_dir: PathBuf::from("/var/lib/migratekit"),
            run_dir: PathBuf::from("/run/migratekit"),
            volume_daemon_url: "http://127.0.0.1:8090".to_owned(),
            instance_name: "oma".to_owned(),
            call_timeout_seconds: 60,
            job_deadline_seconds: 60 * 60,
        }
    }
}

impl OmaConfig {
    /// See [`Self::call_timeout_seconds`].
    #[must_use]
    pub fn call_timeout(&self) -> Duration {
        Duration::from_secs(self.call_timeout_seconds.into())
    }

    /// See [`Self::job_deadline_seconds`].
    #[must_use]
    pub fn job_deadline(&self) -> Duration {
        Duration::from_secs(self.job_deadline_seconds.into())
    }

    /// The socket on which the gateway hands over what comes in from outside.
    #[must_use]
    pub fn front_socket(&self) -> PathBuf {
        self.run_dir.join("oma-front.sock")
    }

    /// The socket the gateway is controlled through.
    #[must_use]
    pub fn gateway_socket(&self) -> PathBuf {
        self.run_dir.join("gateway.sock")
    }

    /// The file with the operator's token, written once at the first start.
    #[must_use]
    pub fn operator_token_file(&self) -> PathBuf {
        self.state_dir.join("operator.token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_enough_and_a_misspelt_key_is_refused() {
        let config: OmaConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8082");
        assert_eq!(config.front_socket(), PathBuf::from("/run/migratekit/oma-front.sock"));
        assert!(serde_json::from_str::<OmaConfig>(r#"{"listne": "127.0.0.1:1"}"#).is_err());
    }
}
