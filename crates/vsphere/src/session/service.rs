//! The entry points of a server. Their ids differ between vCenter and ESXi, so they are always read, never assumed.

use serde::{Deserialize, Serialize};

use crate::error::VsphereError;
use crate::moref::MoRef;
use crate::soap::Element;

const METHOD: &str = "RetrieveServiceContent";

/// What a server says about itself (vim25 `AboutInfo`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct About {
    /// `VMware vCenter Server` or `VMware ESXi`.
    pub name: String,
    /// Name with version and build.
    pub full_name: String,
    /// Product version, such as `8.0.2`.
    pub version: String,
    /// Build number.
    pub build: String,
    /// `VirtualCenter` or `HostAgent`.
    pub api_type: String,
    /// API version, such as `8.0.2.0`.
    pub api_version: String,
    /// Unique id of a vCenter; ESXi hosts have none.
    pub instance_uuid: Option<String>,
}

impl About {
    /// Whether this is a vCenter (else a single ESXi host).
    #[must_use]
    pub fn is_vcenter(&self) -> bool {
        self.api_type == "VirtualCenter"
    }
}

/// The singletons this crate uses (vim25 `ServiceContent`).
#[derive(Debug)]
pub(crate) struct ServiceContent {
    pub(crate) about: About,
    pub(crate) root_folder: MoRef,
    pub(crate) property_collector: MoRef,
    pub(crate) session_manager: MoRef,
    pub(crate) view_manager: MoRef,
    pub(crate) search_index: MoRef,
}

impl ServiceContent {
    pub(crate) fn read(response: &Element) -> Result<Self, VsphereError> {
        let content =
            response.child("returnval").ok_or_else(|| VsphereError::unexpected(METHOD, "there is no content"))?;
        let reference = |name: &str| {
            content.reference_of(name).ok_or_else(|| VsphereError::unexpected(METHOD, format!("there is no {name}")))
        };
        Ok(Self {
            about: content.child("about").map(about).unwrap_or_default(),
            root_folder: reference("rootFolder")?,
            property_collector: reference("propertyCollector")?,
            session_manager: reference("sessionManager")?,
            view_manager: reference("viewManager")?,
            search_index: reference("searchIndex")?,
        })
    }
}

fn about(element: &Element) -> About {
    let text = |name: &str| element.text_of(name).unwrap_or_default().to_owned();
    About {
        name: text("name"),
        full_name: text("fullName"),
        version: text("version"),
        build: text("build"),
        api_type: text("apiType"),
        api_version: text("apiVersion"),
        instance_uuid: element.text_of("instanceUuid").map(str::to_owned),
    }
}
