//! Power: on, off, and asking the guest to shut down. What to do when the guest does not obey is decided above.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::VsphereError;
use crate::inventory::{PowerState, power_state};
use crate::moref::MoRef;
use crate::properties::retrieve_one;
use crate::session::VimSession;
use crate::soap::Request;
use crate::task::Task;

/// Pause between two looks at the power state.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

impl VimSession {
    /// Starts powering a VM on.
    ///
    /// # Errors
    /// When the server refuses. A VM that is on already fails the task with `InvalidPowerState`.
    pub async fn start_power_on(&self, vm: &MoRef) -> Result<Task, VsphereError> {
        const METHOD: &str = "PowerOnVM_Task";
        Task::from_response(METHOD, &self.call(Request::new(METHOD, vm)).await?)
    }

    /// Starts cutting the power of a VM.
    ///
    /// # Errors
    /// When the server refuses. A VM that is off already fails the task with `InvalidPowerState`.
    pub async fn start_power_off(&self, vm: &MoRef) -> Result<Task, VsphereError> {
        const METHOD: &str = "PowerOffVM_Task";
        Task::from_response(METHOD, &self.call(Request::new(METHOD, vm)).await?)
    }

    /// Asks the guest to shut down; returns before it has.
    ///
    /// # Errors
    /// `ToolsUnavailable` as a refusal when VMware Tools do not run.
    pub async fn shut_down_guest(&self, vm: &MoRef) -> Result<(), VsphereError> {
        self.call(Request::new("ShutdownGuest", vm)).await.map(drop)
    }

    /// The power state now.
    ///
    /// # Errors
    /// When the server refuses or the VM is gone.
    pub async fn power_state(&self, vm: &MoRef) -> Result<PowerState, VsphereError> {
        let content = retrieve_one(self, vm, &["runtime.powerState"]).await?;
        Ok(power_state(content.text("runtime.powerState").unwrap_or_default().trim()))
    }

    /// Waits until a VM is in that power state.
    ///
    /// # Errors
    /// `PowerStateTimeout` when it is not after `limit`.
    pub async fn wait_for_power_state(
        &self,
        vm: &MoRef,
        wanted: PowerState,
        limit: Duration,
    ) -> Result<(), VsphereError> {
        let deadline = Instant::now() + limit;
        while self.power_state(vm).await? != wanted {
            if Instant::now() >= deadline {
                let waited_s = limit.as_secs();
                return Err(VsphereError::PowerStateTimeout { vm: vm.clone(), wanted: wanted.as_str(), waited_s });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }
}
