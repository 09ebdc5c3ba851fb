//! Reading properties of managed objects through the server's property collector, page by page.
//!
//! Unset properties are absent, unreadable ones are reported apart; what they mean is the caller's.

use std::collections::HashMap;

use crate::error::VsphereError;
use crate::fault::Fault;
use crate::moref::MoRef;
use crate::session::VimSession;
use crate::soap::{Element, Request};

/// Objects asked for per page; a VM with many devices is about 100 KiB of XML.
const PAGE_OBJECTS: i32 = 50;
/// Most pages read for one question; far above the largest inventory of one vCenter (40,000 VMs).
const MAX_PAGES: usize = 4_000;

const RETRIEVE: &str = "RetrievePropertiesEx";

/// Which properties of which type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// vim25 type of the objects.
    pub(crate) kind: &'a str,
    /// Property paths.
    pub(crate) paths: &'a [&'a str],
}

/// Which objects.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Among<'a> {
    /// These.
    Objects(&'a [MoRef]),
    /// All in this container view, which lives as long as the session.
    View(&'a MoRef),
}

/// What is known of one object.
#[derive(Debug)]
pub(crate) struct ObjectContent {
    pub(crate) moref: MoRef,
    properties: HashMap<String, Element>,
}

impl ObjectContent {
    pub(crate) fn read(element: Element) -> Option<Self> {
        let moref = element.reference_of("obj")?;
        let mut properties = HashMap::new();
        for mut child in element.children {
            match child.name.as_str() {
                "propSet" => {
                    let name = child.text_of("name").map(|name| name.trim().to_owned());
                    let value = child.children.iter().position(|part| part.name == "val");
                    if let (Some(name), Some(value)) = (name, value) {
                        properties.insert(name, child.children.swap_remove(value));
                    }
                }
                "missingSet" => {
                    let fault = child.child("fault").map(Fault::from_localized);
                    tracing::debug!(object = moref.id(), path = child.text_of("path"), ?fault, "property not readable");
                }
                _ => {}
            }
        }
        Some(Self { moref, properties })
    }

    /// The value of a property.
    pub(crate) fn get(&self, path: &str) -> Option<&Element> {
        self.properties.get(path)
    }

    /// The text of a property.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.get(path).map(|value| value.text.as_str())
    }

    /// A boolean property.
    pub(crate) fn flag(&self, path: &str) -> Option<bool> {
        self.get(path).and_then(Element::flag)
    }

    /// A numeric property.
    pub(crate) fn number<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.get(path).and_then(Element::number)
    }

    /// A reference property.
    pub(crate) fn reference(&self, path: &str) -> Option<MoRef> {
        self.get(path).and_then(Element::reference)
    }

    /// The items of an array property.
    pub(crate) fn items(&self, path: &str) -> &[Element] {
        self.get(path).map(|value| value.children.as_slice()).unwrap_or_default()
    }
}

/// Asks for properties and hands each object to `take`, page by page.
///
/// # Errors
/// `ManagedObjectNotFound` as a refusal when one of the objects is gone.
pub(crate) async fn retrieve(
    session: &VimSession,
    wanted: Wanted<'_>,
    among: Among<'_>,
    mut take: impl FnMut(ObjectContent) + Send,
) -> Result<(), VsphereError> {
    let collector = &session.service().property_collector;
    let mut response = session.call(retrieve_request(collector, wanted, among)).await?;
    for _ in 0..MAX_PAGES {
        let Some(page) = response.children.into_iter().find(|child| child.name == "returnval") else { return Ok(()) };
        let token = page.text_of("token").map(str::to_owned);
        let objects = page.children.into_iter().filter(|child| child.name == "objects");
        objects.filter_map(ObjectContent::read).for_each(&mut take);
        let Some(token) = token else { return Ok(()) };
        // The token is good for this session only, and only once.
        let next = Request::new("ContinueRetrievePropertiesEx", collector).text("token", &token).once_only();
        response = session.call(next).await?;
    }
    Err(VsphereError::unexpected(RETRIEVE, format!("there are more than {MAX_PAGES} pages")))
}

/// Asks for properties of one object.
///
/// # Errors
/// `Unexpected` when the server answers without the object.
pub(crate) async fn retrieve_one(
    session: &VimSession,
    object: &MoRef,
    paths: &[&str],
) -> Result<ObjectContent, VsphereError> {
    let mut found = None;
    let wanted = Wanted { kind: object.kind(), paths };
    let among = Among::Objects(std::slice::from_ref(object));
    retrieve(session, wanted, among, |content| found = Some(content)).await?;
    found.ok_or_else(|| VsphereError::unexpected(RETRIEVE, format!("it does not tell about {object}")))
}

pub(crate) fn retrieve_request(collector: &MoRef, wanted: Wanted<'_>, among: Among<'_>) -> Request {
    let request = filter_spec(Request::new(RETRIEVE, collector).open("specSet"), wanted, among).close();
    let request = request.open("options").number("maxObjects", PAGE_OBJECTS).close();
    // A view is gone with its session: another one would not know it.
    if matches!(among, Among::View(_)) { request.once_only() } else { request }
}

/// The inside of a `PropertyFilterSpec`.
pub(crate) fn filter_spec(request: Request, wanted: Wanted<'_>, among: Among<'_>) -> Request {
    let request = request
        .open("propSet")
        .text("type", wanted.kind)
        .flag("all", false)
        .each(wanted.paths, |request, path| request.text("pathSet", path))
        .close();
    match among {
        Among::Objects(objects) => objects.iter().fold(request, |request, object| {
            request.open("objectSet").reference("obj", object).flag("skip", false).close()
        }),
        Among::View(view) => request
            .open("objectSet")
            .reference("obj", view)
            .flag("skip", true)
            .open_as("selectSet", "TraversalSpec")
            .text("name", "view")
            .text("type", "ContainerView")
            .text("path", "view")
            .flag("skip", false)
            .close()
            .close(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soap::parse;

    fn names(element: &Element) -> Vec<&str> {
        element.children.iter().map(|child| child.name.as_str()).collect()
    }

    #[test]
    fn requests_follow_the_wsdl() {
        let collector = MoRef::new("PropertyCollector", "propertyCollector");
        let wanted = Wanted { kind: "VirtualMachine", paths: &["name", "config.hardware.device"] };
        let view = MoRef::new("ContainerView", "session[52a]1");
        let request = retrieve_request(&collector, wanted, Among::View(&view));
        let root = parse(request.envelope().as_bytes()).unwrap();
        let call = root.at(&["Body", RETRIEVE]).unwrap();
        assert_eq!(names(call), ["_this", "specSet", "options"]);
        let spec = call.child("specSet").unwrap();
        assert_eq!(names(spec), ["propSet", "objectSet"]);
        assert_eq!(names(spec.child("propSet").unwrap()), ["type", "all", "pathSet", "pathSet"]);
        let object = spec.child("objectSet").unwrap();
        assert_eq!(names(object), ["obj", "skip", "selectSet"]);
        let traversal = object.child("selectSet").unwrap();
        assert_eq!(traversal.xsi_type.as_deref(), Some("TraversalSpec"));
        assert_eq!(names(traversal), ["name", "type", "path", "skip"], "SelectionSpec's name comes first");
        assert!(!request.is_repeatable(), "the view is gone with its session");

        let objects = [MoRef::vm("vm-1"), MoRef::vm("vm-2")];
        let request = retrieve_request(&collector, wanted, Among::Objects(&objects));
        let root = parse(request.envelope().as_bytes()).unwrap();
        let spec = root.at(&["Body", RETRIEVE, "specSet"]).unwrap();
        assert_eq!(names(spec), ["propSet", "objectSet", "objectSet"]);
        assert!(request.is_repeatable());
    }

    #[test]
    fn unreadable_and_unset_properties_are_absent() {
        let text = r#"<objects xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><obj type="VirtualMachine">vm-1</obj>
            <propSet><name>name</name><val xsi:type="xsd:string">web</val></propSet><propSet><name>odd</name></propSet>
            <missingSet><path>config.keyId</path><fault><fault xsi:type="NoPermission"/></fault></missingSet></objects>"#;
        let content = ObjectContent::read(parse(text.as_bytes()).unwrap()).unwrap();
        assert_eq!(content.text("name"), Some("web"));
        assert!(content.get("odd").is_none() && content.get("config.keyId").is_none());
        assert!(content.items("config.hardware.device").is_empty());
    }
}
