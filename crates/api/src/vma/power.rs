//! The source VM's power: what the hub asks of the agent, and how the VM stands.

use serde::{Deserialize, Serialize};

use super::VcenterConnection;

/// How a VM is to be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownKind {
    /// The guest is asked to shut down; the answer comes before it has.
    GuestShutdown,
    /// The power is cut: what the guest has not written yet is lost. The answer comes when it is done.
    Hard,
}

/// Switches a VM off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PowerOffRequest {
    /// Where.
    pub vcenter: VcenterConnection,
    /// The VM's instance uuid: must match, because managed object ids are used again.
    pub instance_uuid: String,
    /// How.
    pub how: ShutdownKind,
}

/// Switches a VM on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PowerOnRequest {
    /// Where.
    pub vcenter: VcenterConnection,
    /// The VM's instance uuid: must match.
    pub instance_uuid: String,
}

/// How a VM stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PowerView {
    /// `poweredOn`, `poweredOff`, `suspended`, or `unknown` while vCenter has lost the VM.
    pub power_state: String,
}

impl PowerView {
    /// Whether the VM is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.power_state == "poweredOff"
    }
}
