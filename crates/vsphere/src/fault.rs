//! vim25 faults: keyed by type, never by text, which is localised and may be empty.

use std::fmt;

use model::FailureKind;

use crate::soap::Element;

/// Most fields of a fault that are kept; real ones have at most five.
const MAX_FAULT_FIELDS: usize = 16;
/// Longest text kept of a fault, in characters.
const MAX_FAULT_TEXT_CHARS: usize = 1024;

/// A fault a server answered with, or a task ended with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// vim25 type, such as `InvalidPowerState`; the SOAP fault code when the server gave no detail.
    pub type_name: String,
    /// The server's words; may be empty.
    pub message: String,
    /// Its plain fields, such as `("invalidProperty", "startOffset")`.
    pub fields: Vec<(String, String)>,
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.type_name)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        for (index, (name, value)) in self.fields.iter().enumerate() {
            let separator = if index == 0 { " (" } else { ", " };
            write!(f, "{separator}{name} {value}")?;
        }
        if self.fields.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

impl Fault {
    /// From `soapenv:Fault`.
    #[must_use]
    pub fn from_soap(fault: &Element) -> Self {
        let message = clip(fault.text_of("faultstring").unwrap_or_default());
        match fault.child("detail").and_then(|detail| detail.children.first()) {
            Some(detail) => {
                let fallback = detail.name.strip_suffix("Fault").unwrap_or(&detail.name);
                Self {
                    type_name: detail.xsi_type.clone().unwrap_or_else(|| fallback.to_owned()),
                    message,
                    fields: plain_fields(detail),
                }
            }
            None => {
                let code = fault.text_of("faultcode").unwrap_or_default();
                let local = code.rsplit(':').next().unwrap_or_default();
                Self { type_name: clip(local), message, fields: Vec::new() }
            }
        }
    }

    /// From a `LocalizedMethodFault`, as in `TaskInfo.error` and `MissingProperty.fault`.
    #[must_use]
    pub fn from_localized(fault: &Element) -> Self {
        let detail = fault.child("fault");
        Self {
            type_name: detail.and_then(|detail| detail.xsi_type.clone()).unwrap_or_else(|| "MethodFault".to_owned()),
            message: clip(fault.text_of("localizedMessage").unwrap_or_default()),
            fields: detail.map(plain_fields).unwrap_or_default(),
        }
    }

    /// The value of one of its fields.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is of that vim25 type.
    #[must_use]
    pub fn is(&self, type_name: &str) -> bool {
        self.type_name == type_name
    }

    /// Whether the session is gone.
    #[must_use]
    pub fn is_not_authenticated(&self) -> bool {
        self.is("NotAuthenticated")
    }

    /// Whether the guest's file systems or applications could not be quiesced; without quiescing it may work.
    #[must_use]
    pub fn is_quiesce_failure(&self) -> bool {
        matches!(
            self.type_name.as_str(),
            "ApplicationQuiesceFault" | "FilesystemQuiesceFault" | "QuiesceDatastoreIOForHAFailed" | "ToolsUnavailable"
        )
    }

    /// The kind that decides on retries.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self.type_name.as_str() {
            "NotAuthenticated" | "InvalidLogin" | "NoSubjectName" => FailureKind::Unauthenticated,
            "NoPermission" | "RestrictedVersion" | "LicenseExpired" | "RestrictedByAdministrator" => {
                FailureKind::Forbidden
            }
            "ManagedObjectNotFound" | "NotFound" | "FileNotFound" => FailureKind::NotFound,
            "InvalidArgument"
            | "InvalidName"
            | "NotSupported"
            | "MethodNotFound"
            | "InvalidRequest"
            | "InvalidType"
            | "InvalidProperty"
            | "SnapshotNoChange"
            | "MultipleSnapshotsNotSupported"
            | "InvalidDeviceSpec"
            | "VersionMismatchFaultCode" => FailureKind::Invalid,
            "InvalidPowerState"
            | "InvalidState"
            | "DuplicateName"
            | "AlreadyExists"
            | "FileAlreadyExists"
            | "RequestCanceled"
            | "VmConfigFault"
            | "FileFault"
            | "CannotAccessFile"
            | "ToolsUnavailable"
            | "ApplicationQuiesceFault"
            | "FilesystemQuiesceFault"
            | "SnapshotFault"
            | "QuestionPending" => FailureKind::Conflict,
            "TooManySnapshotLevels"
            | "NoDiskSpace"
            | "InsufficientResourcesFault"
            | "InsufficientCpuResourcesFault"
            | "InsufficientMemoryResourcesFault"
            | "FileTooLarge"
            | "OutOfBounds" => FailureKind::Exhausted,
            "TaskInProgress"
            | "ConcurrentAccess"
            | "FileLocked"
            | "HostNotConnected"
            | "HostNotReachable"
            | "HostCommunication"
            | "HostConnectFault"
            | "Timedout"
            | "VimFault"
            | "InvalidCollectorVersion"
            | "ResourceInUse"
            | "GenericVmConfigFault" => FailureKind::Unavailable,
            _ => FailureKind::Internal,
        }
    }

    /// What the operator does, where that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self.type_name.as_str() {
            "NoPermission" => {
                "give the user the missing privilege on this object (the list of least privileges is in docs/operations.md)"
            }
            "RestrictedVersion" => "the host's free licence only allows reading: use a licensed host or its vCenter",
            "NotSupported" => "the VM or the host does not support this; look at the VM's preflight findings",
            "TaskInProgress" => "wait until the VM's running task has ended",
            "InvalidPowerState" => "bring the VM into the power state the operation needs",
            "ToolsUnavailable" => "start VMware Tools in the guest, or power the VM off instead of shutting it down",
            "TooManySnapshotLevels" => "remove old vm_snapshots of the VM",
            "NoDiskSpace" => "make room on the VM's datastore",
            "ApplicationQuiesceFault" | "FilesystemQuiesceFault" => {
                "repair the quiescing service in the guest (VSS on Windows), or take a crash-consistent vm_snapshot"
            }
            "FileLocked" => "another task or backup product holds the file: let it end",
            "VersionMismatchFaultCode" => "vSphere 6.5 or newer is needed",
            "HostNotConnected" | "HostNotReachable" | "HostCommunication" => "reconnect the ESXi host in vCenter",
            _ => return None,
        })
    }
}

fn plain_fields(detail: &Element) -> Vec<(String, String)> {
    let plain = detail.children.iter().filter(|child| child.children.is_empty() && !child.text.trim().is_empty());
    plain.take(MAX_FAULT_FIELDS).map(|child| (clip(&child.name), clip(child.text.trim()))).collect()
}

fn clip(text: &str) -> String {
    text.chars().take(MAX_FAULT_TEXT_CHARS).collect()
}
