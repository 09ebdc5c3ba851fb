//! The faults the simulated vCenter answers with, by their vim25 type names.
//!
//! Values only; who raises them and how they reach the wire is decided elsewhere.

use std::borrow::Cow;

use super::value::{MoRef, Object, Value};

/// A vim25 fault: type, English text, and the fields of the type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    /// WSDL name of the fault type.
    pub(crate) type_name: Cow<'static, str>,
    /// `faultstring`, or `localizedMessage` inside a task.
    pub(crate) message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Fault {
    /// A fault with no fields of its own.
    pub(crate) fn new(type_name: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { type_name: type_name.into(), message: message.into(), fields: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The session is missing, expired or logged out.
    pub(crate) fn not_authenticated(object: &MoRef) -> Self {
        Self::new("NotAuthenticated", "The session is not authenticated.")
            .with("object", object)
            .with("privilegeId", "System.View")
    }

    /// Wrong user name or password.
    pub(crate) fn invalid_login() -> Self {
        Self::new("InvalidLogin", "Cannot complete login due to an incorrect user name or password.")
    }

    /// A parameter that cannot be accepted.
    pub(crate) fn invalid_argument(property: &str) -> Self {
        Self::new("InvalidArgument", format!("A specified parameter was not correct: {property}"))
            .with("invalidProperty", property)
    }

    /// A request that does not have the shape its WSDL asks for.
    pub(crate) fn invalid_request(message: impl Into<String>) -> Self {
        Self::new("InvalidRequest", message)
    }

    /// A property path that does not exist on the type.
    pub(crate) fn invalid_property(name: &str) -> Self {
        Self::new("InvalidProperty", "").with("name", name)
    }

    /// The referenced object was deleted or never existed.
    pub(crate) fn not_found_reference(object: &MoRef) -> Self {
        Self::new(
            "ManagedObjectNotFound",
            format!(
                "The object '{}:{}' has already been deleted or has not been completely created",
                object.kind, object.id
            ),
        )
        .with("obj", object)
    }

    /// The method does not exist on that object.
    pub(crate) fn method_not_found(receiver: &MoRef, method: &str) -> Self {
        Self::new("MethodNotFound", format!("{} does not have a method {method}", receiver.kind))
            .with("receiver", receiver)
            .with("method", method)
    }

    /// A power operation that does not fit the VM's state.
    pub(crate) fn invalid_power_state(requested: Option<&'static str>, existing: &'static str) -> Self {
        let state = |text: &'static str| Value::Enum("VirtualMachinePowerState", text.into());
        let mut fault = Self::new(
            "InvalidPowerState",
            "The attempted operation cannot be performed in the current state (power state).",
        );
        if let Some(requested) = requested {
            fault = fault.with("requestedState", state(requested));
        }
        fault.with("existingState", state(existing))
    }

    /// A file of the VM cannot be used as asked.
    pub(crate) fn file_fault(file: &str) -> Self {
        Self::new("FileFault", format!("Error caused by file {file}")).with("file", file)
    }

    /// Another task holds the VM.
    pub(crate) fn task_in_progress(task: &MoRef) -> Self {
        Self::new("TaskInProgress", "Another task is already in progress.").with("task", task)
    }

    /// The operation does not apply to this object.
    pub(crate) fn not_supported() -> Self {
        Self::new("NotSupported", "The operation is not supported on the object.")
    }

    /// The task or request was cancelled.
    pub(crate) fn request_canceled() -> Self {
        Self::new("RequestCanceled", "The task was canceled by a user.")
    }

    /// Something went wrong inside the server itself.
    pub(crate) fn system_error(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::new("SystemError", format!("A general system error occurred: {reason}")).with("reason", reason)
    }

    /// The fault as a data object, for task errors and missing sets.
    pub(crate) fn to_object(&self) -> Object {
        self.fields
            .iter()
            .fold(Object::new(self.type_name.clone()), |object, (name, value)| object.with(name, value.clone()))
    }

    /// The fault wrapped with its text, as `TaskInfo.error` holds it.
    pub(crate) fn to_localized(&self) -> Object {
        Object::new("LocalizedMethodFault")
            .with("fault", self.to_object())
            .with("localizedMessage", self.message.clone())
    }
}
