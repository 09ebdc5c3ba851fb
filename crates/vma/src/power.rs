//! The source VM's power: off before a live failover, on again after a rollback. It does what it is told and answers how
//! the VM stands; whether to wait, to force or to give up is the hub's decision.

use std::time::Duration;

use api::vma::{PowerOffRequest, PowerOnRequest, PowerView, ShutdownKind, VcenterConnection};
use vsphere::{MoRef, PowerState, Task, VimSession, VsphereError};

use crate::error::VmaError;
use crate::vcenter::{connect, disconnect};

/// How long a power task may stand still. Cutting the power takes seconds; a VM that waits for an answer to a question,
/// or for room on a host, must not hold a request for hours.
const POWER_STALL_LIMIT: Duration = Duration::from_secs(5 * 60);

/// Switches a VM off, or asks its guest to shut down, and answers how it stands then. One that is off already is left
/// alone.
///
/// # Errors
/// As [`connect`]; another VM has this reference; the guest cannot be asked; vCenter refuses.
pub(crate) async fn power_off(moref: &str, request: &PowerOffRequest) -> Result<PowerView, VmaError> {
    let source = SourceVm::open(moref, &request.vcenter).await?;
    let done = source.switch_off(&request.instance_uuid, request.how).await;
    source.close().await;
    done
}

/// Switches a VM on and answers how it stands then. One that is on already is left alone.
///
/// # Errors
/// As [`connect`]; another VM has this reference; vCenter refuses.
pub(crate) async fn power_on(moref: &str, request: &PowerOnRequest) -> Result<PowerView, VmaError> {
    let source = SourceVm::open(moref, &request.vcenter).await?;
    let done = source.switch_on(&request.instance_uuid).await;
    source.close().await;
    done
}

/// A VM in a session of its own.
struct SourceVm {
    session: VimSession,
    vm: MoRef,
}

impl SourceVm {
    async fn open(moref: &str, vcenter: &VcenterConnection) -> Result<Self, VmaError> {
        Ok(Self { session: connect(vcenter).await?, vm: MoRef::vm(moref) })
    }

    async fn close(self) {
        disconnect(&self.session).await;
    }

    async fn switch_off(&self, instance_uuid: &str, how: ShutdownKind) -> Result<PowerView, VmaError> {
        if self.identified(instance_uuid).await? == PowerState::PoweredOff {
            return Ok(view(PowerState::PoweredOff));
        }
        tracing::info!(vm = self.vm.id(), ?how, "switching the source VM off");
        let asked = match how {
            ShutdownKind::GuestShutdown => self.session.shut_down_guest(&self.vm).await,
            ShutdownKind::Hard => self.finished(self.session.start_power_off(&self.vm).await).await,
        };
        match asked {
            Err(source) if is_fault(&source, "ToolsUnavailable") => {
                Err(VmaError::NoGuestTools { moref: self.vm.id().to_owned(), source })
            }
            asked => self.settled(asked, PowerState::PoweredOff, "switching the VM off").await,
        }
    }

    async fn switch_on(&self, instance_uuid: &str) -> Result<PowerView, VmaError> {
        if self.identified(instance_uuid).await? == PowerState::PoweredOn {
            return Ok(view(PowerState::PoweredOn));
        }
        tracing::info!(vm = self.vm.id(), "switching the source VM on");
        let asked = self.finished(self.session.start_power_on(&self.vm).await).await;
        self.settled(asked, PowerState::PoweredOn, "switching the VM on").await
    }

    /// The power state of the VM, once it is proven to be the one that is meant: references are used again.
    async fn identified(&self, instance_uuid: &str) -> Result<PowerState, VmaError> {
        let found = self.session.virtual_machine(&self.vm).await.map_err(VmaError::vsphere("reading the VM"))?;
        if found.instance_uuid != instance_uuid {
            return Err(VmaError::OtherVm { moref: self.vm.id().to_owned() });
        }
        Ok(found.power_state)
    }

    async fn finished(&self, started: Result<Task, VsphereError>) -> Result<(), VsphereError> {
        self.session.wait_for_task_within(&started?, POWER_STALL_LIMIT, |_| {}).await.map(drop)
    }

    /// How the VM stands after it was asked. Somebody else may have been quicker, which vCenter tells as a fault.
    async fn settled(
        &self,
        asked: Result<(), VsphereError>,
        wanted: PowerState,
        doing: &'static str,
    ) -> Result<PowerView, VmaError> {
        let now = self.session.power_state(&self.vm).await;
        match asked {
            Err(source) if is_fault(&source, "InvalidPowerState") && now.as_ref().is_ok_and(|now| *now == wanted) => {
                Ok(view(wanted))
            }
            Err(source) => Err(VmaError::Vsphere { doing, source }),
            Ok(()) => now.map(view).map_err(VmaError::vsphere("reading the power state")),
        }
    }
}

fn view(state: PowerState) -> PowerView {
    PowerView { power_state: state.as_str().to_owned() }
}

fn is_fault(error: &VsphereError, type_name: &str) -> bool {
    error.fault().is_some_and(|fault| fault.is(type_name))
}
