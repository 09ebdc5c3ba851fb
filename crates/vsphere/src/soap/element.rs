//! One element of a parsed answer. Unknown children are kept and ignored, missing ones are `None`.

use crate::moref::MoRef;

/// The namespaces that matter; resolved from the URI, never from a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// `http://schemas.xmlsoap.org/soap/envelope/`.
    Envelope,
    /// `urn:vim25`.
    Vim25,
    /// Anything else, or none.
    Other,
}

/// An XML element: local name, type attributes, and either text or children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Name without prefix.
    pub name: String,
    /// Namespace of the name.
    pub namespace: Namespace,
    /// Local part of the XML Schema instance `type` attribute.
    pub xsi_type: Option<String>,
    /// The plain `type` attribute, which makes the element a managed object reference.
    pub reference_type: Option<String>,
    /// Text; empty when there are children.
    pub text: String,
    /// Child elements in document order.
    pub children: Vec<Element>,
}

impl Element {
    /// The first child of that name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// All children of that name: an array property.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// Follows a path of first children.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |element, name| element.child(name))
    }

    /// Text of the first child of that name.
    #[must_use]
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    /// The text as a number.
    #[must_use]
    pub fn number<T: std::str::FromStr>(&self) -> Option<T> {
        self.text.trim().parse().ok()
    }

    /// Text of the first child of that name as a number.
    #[must_use]
    pub fn number_of<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.child(name).and_then(Self::number)
    }

    /// The text as an XML Schema boolean.
    #[must_use]
    pub fn flag(&self) -> Option<bool> {
        match self.text.trim() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        }
    }

    /// Text of the first child of that name as a boolean.
    #[must_use]
    pub fn flag_of(&self, name: &str) -> Option<bool> {
        self.child(name).and_then(Self::flag)
    }

    /// The element as a managed object reference.
    #[must_use]
    pub fn reference(&self) -> Option<MoRef> {
        let kind = self.reference_type.as_ref()?;
        let id = self.text.trim();
        (!id.is_empty()).then(|| MoRef::new(kind.clone(), id))
    }

    /// The first child of that name as a managed object reference.
    #[must_use]
    pub fn reference_of(&self, name: &str) -> Option<MoRef> {
        self.child(name).and_then(Self::reference)
    }
}
