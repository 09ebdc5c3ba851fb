//! Reads an answer: bytes to a bounded tree, and the tree to either a result or a fault.
//!
//! Hostile input is expected: depth, size and number of elements are limited, a DTD or an unknown entity is refused,
//! and nothing here panics.

use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::attributes::Attribute;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::name::{Namespace as XmlNamespace, ResolveResult};
use quick_xml::{NsReader, XmlVersion};

use super::element::{Element, Namespace};
use crate::fault::Fault;

/// Largest answer taken, in bytes; a page of 50 large VMs is about 5 MiB.
pub const MAX_DOCUMENT_BYTES: usize = 32 * 1024 * 1024;
/// Most elements in one answer; a page of 50 large VMs has about 100,000.
pub const MAX_ELEMENTS: usize = 400_000;
/// Deepest nesting; the longest disk chains (32 links) stay below 50.
pub const MAX_DEPTH: usize = 96;

const ENVELOPE_URI: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const VIM25_URI: &str = "urn:vim25";
const INSTANCE_URI: &str = "http://www.w3.org/2001/XMLSchema-instance";

/// Why bytes are not an answer.
#[derive(Debug, thiserror::Error)]
pub enum SoapError {
    /// More bytes than any answer needs.
    #[error("the document is larger than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge,
    /// Not text.
    #[error("the document is not UTF-8")]
    NotUtf8,
    /// Not well-formed.
    #[error("the document is not well-formed XML")]
    NotXml(#[source] quick_xml::Error),
    /// An attribute is not well-formed.
    #[error("the document has a malformed attribute")]
    Attribute(#[source] quick_xml::events::attributes::AttrError),
    /// Document type definitions are never accepted.
    #[error("the document has a document type definition")]
    DocumentType,
    /// An entity other than the five of XML.
    #[error("the document uses the entity {0:?}")]
    Entity(String),
    /// Nested too deeply.
    #[error("the document is nested deeper than {MAX_DEPTH} elements")]
    TooDeep,
    /// Too many elements.
    #[error("the document has more than {MAX_ELEMENTS} elements")]
    TooManyElements,
    /// It ends too early, or there is something after the root element.
    #[error("the document does not have exactly one complete root element")]
    NotOneRoot,
    /// Well-formed, but not a SOAP 1.1 envelope with a body.
    #[error("the document is not a SOAP 1.1 envelope")]
    NotSoap,
}

/// What an envelope holds.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The `…Response` element.
    Response(Element),
    /// A fault.
    Fault(Fault),
}

/// Reads an envelope.
///
/// # Errors
/// When the bytes are not a bounded, well-formed SOAP 1.1 envelope.
pub(crate) fn answer(bytes: &[u8]) -> Result<Answer, SoapError> {
    let root = parse(bytes)?;
    let is_soap = |element: &Element, name: &str| element.name == name && element.namespace == Namespace::Envelope;
    if !is_soap(&root, "Envelope") {
        return Err(SoapError::NotSoap);
    }
    let body = root.children.into_iter().find(|child| is_soap(child, "Body")).ok_or(SoapError::NotSoap)?;
    let content = body.children.into_iter().next().ok_or(SoapError::NotSoap)?;
    if is_soap(&content, "Fault") {
        Ok(Answer::Fault(Fault::from_soap(&content)))
    } else {
        Ok(Answer::Response(content))
    }
}

/// Reads a document into a tree of elements.
///
/// # Errors
/// When the bytes are not one bounded, well-formed element.
pub fn parse(bytes: &[u8]) -> Result<Element, SoapError> {
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err(SoapError::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| SoapError::NotUtf8)?;
    let mut reader = NsReader::from_str(text.trim_start_matches('\u{feff}'));
    let mut tree = Tree::default();
    loop {
        match reader.read_event().map_err(SoapError::NotXml)? {
            Event::Start(start) => {
                let (element, nil) = open(&reader, &start)?;
                tree.push(element, nil)?;
            }
            Event::Empty(start) => {
                let (element, nil) = open(&reader, &start)?;
                tree.push(element, nil)?;
                tree.pop()?;
            }
            Event::End(_) => tree.pop()?,
            Event::Text(text) => tree.text(&text.xml10_content())?,
            Event::CData(text) => tree.text(&text.xml10_content())?,
            Event::GeneralRef(reference) => tree.reference(&reference)?,
            Event::DocType(_) => return Err(SoapError::DocumentType),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof => return tree.finish(),
        }
    }
}

fn open(reader: &NsReader<&[u8]>, start: &BytesStart<'_>) -> Result<(Element, bool), SoapError> {
    let (namespace, local) = reader.resolver().resolve_element(start.name());
    let mut element = Element {
        name: local.as_ref().to_owned(),
        namespace: namespace_of(&namespace),
        xsi_type: None,
        reference_type: None,
        text: String::new(),
        children: Vec::new(),
    };
    let mut nil = false;
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.map_err(SoapError::Attribute)?;
        let (namespace, local) = reader.resolver().resolve_attribute(attribute.key);
        let is_instance = matches!(&namespace, ResolveResult::Bound(XmlNamespace(uri)) if *uri == INSTANCE_URI);
        match local.as_ref() {
            "type" if is_instance => {
                let value = value_of(&attribute)?;
                element.xsi_type = Some(value.rsplit(':').next().unwrap_or_default().trim().to_owned());
            }
            "type" if matches!(namespace, ResolveResult::Unbound) => {
                element.reference_type = Some(value_of(&attribute)?);
            }
            "nil" if is_instance => nil = matches!(attribute.value.as_ref(), "true" | "1"),
            _ => {}
        }
    }
    Ok((element, nil))
}

fn value_of(attribute: &Attribute<'_>) -> Result<String, SoapError> {
    attribute.normalized_value(XmlVersion::Implicit1_0).map(|value| value.into_owned()).map_err(SoapError::NotXml)
}

fn namespace_of(resolved: &ResolveResult<'_>) -> Namespace {
    match resolved {
        ResolveResult::Bound(XmlNamespace(uri)) if *uri == ENVELOPE_URI => Namespace::Envelope,
        ResolveResult::Bound(XmlNamespace(uri)) if *uri == VIM25_URI => Namespace::Vim25,
        _ => Namespace::Other,
    }
}

/// The elements that are open, outermost first, and the finished root.
#[derive(Default)]
struct Tree {
    open: Vec<(Element, bool)>,
    root: Option<Element>,
    elements: usize,
}

impl Tree {
    fn push(&mut self, element: Element, nil: bool) -> Result<(), SoapError> {
        if self.open.is_empty() && self.root.is_some() {
            return Err(SoapError::NotOneRoot);
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(SoapError::TooDeep);
        }
        self.elements += 1;
        if self.elements > MAX_ELEMENTS {
            return Err(SoapError::TooManyElements);
        }
        self.open.push((element, nil));
        Ok(())
    }

    fn pop(&mut self) -> Result<(), SoapError> {
        let (mut element, nil) = self.open.pop().ok_or(SoapError::NotOneRoot)?;
        if !element.children.is_empty() {
            element.text = String::new();
        }
        match self.open.last_mut() {
            // A nil element says the same as an absent one.
            Some((parent, _)) if !nil => parent.children.push(element),
            Some(_) => {}
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), SoapError> {
        match self.open.last_mut() {
            Some((element, _)) => element.text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err(SoapError::NotOneRoot),
        }
        Ok(())
    }

    fn reference(&mut self, reference: &BytesRef<'_>) -> Result<(), SoapError> {
        if let Some(character) = reference.resolve_char_ref().map_err(SoapError::NotXml)? {
            return self.text(character.encode_utf8(&mut [0; 4]));
        }
        let name: &str = reference.as_ref();
        let text = resolve_xml_entity(name).ok_or_else(|| SoapError::Entity(name.chars().take(32).collect()))?;
        self.text(text)
    }

    fn finish(self) -> Result<Element, SoapError> {
        if self.open.is_empty() { self.root.ok_or(SoapError::NotOneRoot) } else { Err(SoapError::NotOneRoot) }
    }
}
