//! Writes one vim25 call. Every text is escaped; elements are closed in the order they were opened.
//!
//! The order of the children is the caller's: real servers read them in WSDL order, base class first.

use quick_xml::escape::{escape, partial_escape};

use crate::moref::MoRef;

const HEAD: &str = concat!(
    r#"<?xml version="1.0" encoding="UTF-8"?>"#,
    r#"<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" "#,
    r#"xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">"#,
    "<soapenv:Body>",
);
const TAIL: &str = "</soapenv:Body></soapenv:Envelope>";

/// A call being written.
#[derive(Clone)]
pub(crate) struct Request {
    method: &'static str,
    text: String,
    open: Vec<&'static str>,
    is_repeatable: bool,
}

impl Request {
    /// A call of `method` on `this`. It is taken to be repeatable.
    pub(crate) fn new(method: &'static str, this: &MoRef) -> Self {
        let text = format!("{HEAD}<{method} xmlns=\"urn:vim25\">");
        Self { method, text, open: vec![method], is_repeatable: true }.reference("_this", this)
    }

    /// Marks a call that does something else when it is sent twice, so that it is never replayed.
    pub(crate) fn once_only(mut self) -> Self {
        self.is_repeatable = false;
        self
    }

    /// The method's name.
    pub(crate) fn method(&self) -> &'static str {
        self.method
    }

    /// Whether sending it again does no harm.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.is_repeatable
    }

    /// Adds `<name>text</name>`.
    pub(crate) fn text(mut self, name: &'static str, text: &str) -> Self {
        self.leaf(name, "", text);
        self
    }

    /// Adds a boolean.
    pub(crate) fn flag(self, name: &'static str, value: bool) -> Self {
        self.text(name, if value { "true" } else { "false" })
    }

    /// Adds a number.
    pub(crate) fn number(self, name: &'static str, value: impl Into<i64>) -> Self {
        self.text(name, &value.into().to_string())
    }

    /// Adds a managed object reference.
    pub(crate) fn reference(mut self, name: &'static str, value: &MoRef) -> Self {
        self.leaf(name, &format!(" type=\"{}\"", escape(value.kind())), value.id());
        self
    }

    /// Opens an element of the declared type.
    pub(crate) fn open(mut self, name: &'static str) -> Self {
        self.text.push_str(&format!("<{name}>"));
        self.open.push(name);
        self
    }

    /// Opens an element whose type is a subclass of the declared one.
    pub(crate) fn open_as(mut self, name: &'static str, xsi_type: &'static str) -> Self {
        self.text.push_str(&format!("<{name} xsi:type=\"{xsi_type}\">"));
        self.open.push(name);
        self
    }

    /// Closes the element opened last.
    pub(crate) fn close(mut self) -> Self {
        if let Some(name) = self.open.pop() {
            self.text.push_str(&format!("</{name}>"));
        }
        self
    }

    /// Applies `add` to each item: an array.
    pub(crate) fn each<T>(self, items: impl IntoIterator<Item = T>, add: impl Fn(Self, T) -> Self) -> Self {
        items.into_iter().fold(self, add)
    }

    /// The envelope as sent.
    pub(crate) fn envelope(&self) -> String {
        let mut text = self.text.clone();
        for name in self.open.iter().rev() {
            text.push_str(&format!("</{name}>"));
        }
        text.push_str(TAIL);
        text
    }

    fn leaf(&mut self, name: &'static str, attributes: &str, text: &str) {
        self.text.push_str(&format!("<{name}{attributes}>{}</{name}>", partial_escape(text)));
    }
}
