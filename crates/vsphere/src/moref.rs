//! References to managed objects, as vim25 writes them: a type and an id that is valid on one server.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A managed object reference (vim25 `ManagedObjectReference`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MoRef {
    kind: String,
    id: String,
}

impl MoRef {
    /// A reference of any type, such as `Task` and `task-74`.
    #[must_use]
    pub fn new(kind: impl Into<String>, id: impl Into<String>) -> Self {
        Self { kind: kind.into(), id: id.into() }
    }

    /// A virtual machine, such as `vm-62`.
    #[must_use]
    pub fn vm(id: impl Into<String>) -> Self {
        Self::new("VirtualMachine", id)
    }

    /// A vm_snapshot, such as `snapshot-75`.
    #[must_use]
    pub fn vm_snapshot(id: impl Into<String>) -> Self {
        Self::new("VirtualMachineSnapshot", id)
    }

    /// A task, such as `task-74`.
    #[must_use]
    pub fn task(id: impl Into<String>) -> Self {
        Self::new("Task", id)
    }

    /// The vim25 type name.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The id within its server.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for MoRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}
