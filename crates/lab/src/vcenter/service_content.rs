//! The singletons of the service and what `RetrieveServiceContent` says about it.

use super::state::Lab;
use super::value::{MoRef, Object};

/// Id of the property collector every session starts with.
pub(crate) const PROPERTY_COLLECTOR: &str = "propertyCollector";

/// API version the simulated vCenter speaks.
pub(crate) const API_VERSION: &str = "8.0.3.0";
/// Versions it also accepts in `SOAPAction`.
const PRIOR_VERSIONS: [&str; 12] = [
    "8.0.2.0", "8.0.1.0", "8.0.0.1", "8.0.0.0", "7.0.3.0", "7.0.2.0", "7.0.1.0", "7.0.0.0", "6.7.3", "6.7", "6.5",
    "6.0",
];

/// Type, id and the `ServiceContent` field of each singleton.
const SINGLETONS: [(&str, &str, &str); 8] = [
    ("PropertyCollector", PROPERTY_COLLECTOR, "propertyCollector"),
    ("ViewManager", "ViewManager", "viewManager"),
    ("SessionManager", "SessionManager", "sessionManager"),
    ("AuthorizationManager", "AuthorizationManager", "authorizationManager"),
    ("TaskManager", "TaskManager", "taskManager"),
    ("SearchIndex", "SearchIndex", "searchIndex"),
    ("FileManager", "FileManager", "fileManager"),
    ("VirtualDiskManager", "virtualDiskManager", "virtualDiskManager"),
];

/// Whether the reference is one of the singletons.
pub(crate) fn is_singleton(object: &MoRef) -> bool {
    (object.kind == "ServiceInstance" && object.id == "ServiceInstance")
        || SINGLETONS.iter().any(|(kind, id, _)| object.kind == *kind && object.id == *id)
}

/// The `ServiceContent`.
pub(crate) fn object(lab: &Lab) -> Object {
    let about = Object::new("AboutInfo")
        .with("name", "VMware vCenter Server")
        .with("fullName", "VMware vCenter Server 8.0.3 build-24022515 (laboratory)")
        .with("vendor", "VMware, Inc.")
        .with("version", "8.0.3")
        .with("build", "24022515")
        .with("localeVersion", "INTL")
        .with("localeBuild", "000")
        .with("osType", "linux-x64")
        .with("productLineId", "vpx")
        .with("apiType", "VirtualCenter")
        .with("apiVersion", API_VERSION)
        .with("instanceUuid", lab.instance_uuid.clone())
        .with("licenseProductName", "VMware VirtualCenter Server")
        .with("licenseProductVersion", "8.0");
    let content = Object::new("ServiceContent").with("rootFolder", lab.inventory.root()).with("about", about);
    SINGLETONS.iter().fold(content, |content, (kind, id, field)| content.with(field, MoRef::new(*kind, *id)))
}

/// `GET /sdk/vimServiceVersions.xml`.
pub(crate) fn versions_document() -> String {
    let prior: String = PRIOR_VERSIONS.iter().map(|version| format!("<version>{version}</version>")).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<namespaces version=\"1.0\"><namespace><name>urn:vim25</name>\
         <version>{API_VERSION}</version><priorVersions>{prior}</priorVersions></namespace></namespaces>"
    )
}

/// Whether the version part of a `SOAPAction` (`urn:vim25/6.5`) is one the server speaks.
pub(crate) fn accepts_action(action: &str) -> bool {
    let action = action.trim().trim_matches('"');
    match action.strip_prefix("urn:vim25/") {
        Some(version) => version == API_VERSION || PRIOR_VERSIONS.contains(&version),
        None => matches!(action, "" | "urn:vim25"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soap_actions_name_a_known_version() {
        assert!(accepts_action("\"urn:vim25/6.5\"") && accepts_action("urn:vim25/8.0.3.0") && accepts_action(""));
        assert!(!accepts_action("urn:vim25/9.1.0.0") && !accepts_action("urn:other/6.5"));
    }
}
