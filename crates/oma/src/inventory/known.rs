//! The VMs that were added, by what an operator calls them.

use model::FailureKind;
use store::vm_replication_contexts::{self, VmContext};

use crate::error::OmaError;
use crate::state::OmaState;

/// The VM with this context id or unique name.
///
/// # Errors
/// There is none, or several have the name; the database fails.
pub(crate) async fn vm_called(state: &OmaState, vm: &str) -> Result<VmContext, OmaError> {
    vm_replication_contexts::find(state.store(), vm).await.map_err(|error| {
        let is_absent = error.kind() == FailureKind::NotFound;
        let problem = OmaError::from(error).into_problem();
        if is_absent {
            let remedy = "`migratekit vm list` shows the VMs that were added, `migratekit vm add` adds one";
            return problem.remedy(remedy).into();
        }
        problem.into()
    })
}
