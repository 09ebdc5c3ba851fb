//! A small XML tree for incoming requests: namespaces resolved, size and depth bounded.
//!
//! Reads only; what the elements mean is not known here.

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

/// Deepest nesting a request may have; real requests stay below 20.
const MAX_DEPTH: usize = 64;
/// Most elements in one request; the largest real ones have a few hundred.
const MAX_ELEMENTS: usize = 50_000;
/// The namespace of `xsi:type`.
const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// One element with what it contains.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    /// Local name.
    pub(crate) name: String,
    /// Namespace URI, empty when unbound.
    pub(crate) namespace: String,
    /// Local part of `xsi:type`.
    pub(crate) xsi_type: Option<String>,
    /// The plain `type` attribute of a managed object reference.
    pub(crate) reference_type: Option<String>,
    /// Character data directly inside.
    pub(crate) text: String,
    /// Child elements in document order.
    pub(crate) children: Vec<Element>,
}

impl Element {
    /// First child of that name.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of that name.
    pub(crate) fn children_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Text of the first child of that name.
    pub(crate) fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.trim())
    }

    /// A boolean child; absent is `false`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.text_of(name), Some("true" | "1"))
    }

    /// An integer child that is present and well formed.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.text_of(name)?.parse().ok()
    }
}

/// Parses a document.
///
/// # Errors
/// A short English reason when the text is not well-formed XML within the bounds.
pub(crate) fn parse(text: &str) -> Result<Element, String> {
    let mut reader = NsReader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut count = 0_usize;
    loop {
        let (resolved, event) = reader.read_resolved_event().map_err(|error| error.to_string())?;
        let namespace = match resolved {
            ResolveResult::Bound(namespace) => namespace.0.to_owned(),
            _ => String::new(),
        };
        match event {
            Event::Start(start) => {
                count += 1;
                if count > MAX_ELEMENTS || open.len() >= MAX_DEPTH {
                    return Err("the document is too large or nested too deeply".to_owned());
                }
                open.push(element(&reader, &start, namespace)?);
            }
            Event::Empty(start) => {
                count += 1;
                let done = element(&reader, &start, namespace)?;
                if let Some(root) = close(&mut open, done) {
                    return Ok(root);
                }
            }
            Event::End(_) => {
                let done = open.pop().ok_or("an end tag without a start tag")?;
                if let Some(root) = close(&mut open, done) {
                    return Ok(root);
                }
            }
            Event::Text(text) => append(&mut open, &text.xml10_content()),
            Event::CData(data) => append(&mut open, &data.xml10_content()),
            Event::GeneralRef(reference) => {
                let resolved = match reference.resolve_char_ref().map_err(|error| error.to_string())? {
                    Some(letter) => letter.to_string(),
                    None => quick_xml::escape::resolve_predefined_entity(&reference.xml10_content())
                        .ok_or("an entity that is not predefined")?
                        .to_owned(),
                };
                append(&mut open, &resolved);
            }
            Event::DocType(_) => return Err("document types are not accepted".to_owned()),
            Event::Eof => return Err("the document ends early".to_owned()),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
        }
    }
}

/// Puts a finished element into its parent; the root is handed back.
fn close(open: &mut [Element], done: Element) -> Option<Element> {
    match open.last_mut() {
        Some(parent) => {
            parent.children.push(done);
            None
        }
        None => Some(done),
    }
}

fn append(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn element(reader: &NsReader<&[u8]>, start: &BytesStart<'_>, namespace: String) -> Result<Element, String> {
    let mut element = Element { name: start.local_name().into_inner().to_owned(), namespace, ..Element::default() };
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| error.to_string())?;
        let (resolved, local) = reader.resolver().resolve_attribute(attribute.key);
        match (resolved, local.into_inner()) {
            (ResolveResult::Bound(space), "type") if space.0 == XSI => {
                element.xsi_type = Some(value.rsplit(':').next().unwrap_or_default().to_owned());
            }
            (ResolveResult::Unbound, "type") => element.reference_type = Some(value.into_owned()),
            _ => {}
        }
    }
    Ok(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_instance_prefix_is_free() {
        let text = r#"<a xmlns="urn:vim25" xmlns:q="http://www.w3.org/2001/XMLSchema-instance">
            <b q:type="ns1:TraversalSpec"><c type="VirtualMachine">vm-1</c></b><d>x &amp; &#65;<![CDATA[<]]></d></a>"#;
        let root = parse(text).unwrap();
        assert_eq!(root.namespace, "urn:vim25");
        assert_eq!(root.child("b").unwrap().xsi_type.as_deref(), Some("TraversalSpec"));
        assert_eq!(root.child("b").unwrap().child("c").unwrap().reference_type.as_deref(), Some("VirtualMachine"));
        assert_eq!(root.text_of("d"), Some("x & A<"));
    }

    #[test]
    fn broken_and_hostile_documents_are_refused() {
        assert!(parse("<a><b></a>").is_err());
        assert!(parse("<a>").is_err());
        assert!(parse("").is_err());
        assert!(parse("<!DOCTYPE a [<!ENTITY e \"x\">]><a>&e;</a>").is_err());
        assert!(parse(&"<a>".repeat(MAX_DEPTH + 2)).is_err());
    }
}
