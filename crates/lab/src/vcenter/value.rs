//! Values of the vim25 object model, walked by property path and written as XML in WSDL order.
//!
//! Knows nothing of the inventory, of sessions or of HTTP.

use std::borrow::Cow;
use std::fmt::Write as _;

use quick_xml::escape::escape;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::schema::Schema;

/// A managed object reference: type and id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct MoRef {
    /// Managed object type, for example `VirtualMachine`.
    pub(crate) kind: String,
    /// Server-side id, for example `vm-16`.
    pub(crate) id: String,
}

impl MoRef {
    /// A reference to `id` of type `kind`.
    pub(crate) fn new(kind: impl Into<String>, id: impl Into<String>) -> Self {
        Self { kind: kind.into(), id: id.into() }
    }
}

/// A data object: its dynamic type and the fields that are set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object {
    /// WSDL name of the dynamic type.
    pub(crate) type_name: Cow<'static, str>,
    fields: Vec<(&'static str, Value)>,
}

impl Object {
    /// An object with no field set.
    pub(crate) fn new(type_name: impl Into<Cow<'static, str>>) -> Self {
        Self { type_name: type_name.into(), fields: Vec::new() }
    }

    /// Sets a field.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Sets a field when there is a value for it.
    pub(crate) fn with_some<V: Into<Value>>(self, name: &'static str, value: Option<V>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The value of a field that is set.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }
}

/// Any value a property can have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// xsd:boolean
    Bool(bool),
    /// xsd:int
    Int(i32),
    /// xsd:long
    Long(i64),
    /// xsd:string
    Text(String),
    /// xsd:dateTime
    Time(OffsetDateTime),
    /// A member of the named enumeration.
    Enum(&'static str, Cow<'static, str>),
    /// A managed object reference.
    Ref(MoRef),
    /// A data object.
    Object(Object),
    /// Repeated elements of the named WSDL type.
    List(&'static str, Vec<Value>),
}

impl Value {
    /// A list of references.
    pub(crate) fn refs(items: impl IntoIterator<Item = MoRef>) -> Self {
        Self::List("ManagedObjectReference", items.into_iter().map(Self::Ref).collect())
    }

    /// A list of data objects whose declared element type is `type_name`.
    pub(crate) fn objects(type_name: &'static str, items: impl IntoIterator<Item = Object>) -> Self {
        Self::List(type_name, items.into_iter().map(Self::Object).collect())
    }

    /// A list of texts.
    pub(crate) fn texts(items: impl IntoIterator<Item = String>) -> Self {
        Self::List("string", items.into_iter().map(Self::Text).collect())
    }

    /// Follows the rest of a property path (`hardware.device`) into this value; `None` when a part is not set.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Self> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        match self {
            Self::Object(object) => object.get(first)?.at(rest),
            _ => None,
        }
    }

    /// Every reference directly in this value.
    pub(crate) fn references(&self) -> Vec<MoRef> {
        match self {
            Self::Ref(reference) => vec![reference.clone()],
            Self::List(_, items) => items.iter().flat_map(Self::references).collect(),
            _ => Vec::new(),
        }
    }

    fn xsi_type(&self) -> Cow<'_, str> {
        match self {
            Self::Bool(_) => "xsd:boolean".into(),
            Self::Int(_) => "xsd:int".into(),
            Self::Long(_) => "xsd:long".into(),
            Self::Text(_) => "xsd:string".into(),
            Self::Time(_) => "xsd:dateTime".into(),
            Self::Enum(name, _) => Cow::Borrowed(name),
            Self::Ref(_) => "ManagedObjectReference".into(),
            Self::Object(object) => object.type_name.as_ref().into(),
            Self::List(item, _) => array_type(item).into(),
        }
    }
}

/// `ArrayOfString` for `string`, `ArrayOfVirtualDevice` for `VirtualDevice`.
fn array_type(item: &str) -> String {
    let mut letters = item.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase()).unwrap_or_default();
    format!("ArrayOf{first}{}", letters.as_str())
}

/// Writes `value` as element(s) called `name`; `declared` is the type the schema gives that place.
///
/// The dynamic type is written wherever it differs from the declared one, as a real server does.
pub(crate) fn write_element(out: &mut String, name: &str, declared: &str, value: &Value) {
    if let Value::List(item_type, items) = value {
        if declared == "anyType" {
            let _ = write!(out, "<{name} xsi:type=\"{}\">", array_type(item_type));
            items.iter().for_each(|item| write_element(out, item_type, item_type, item));
            let _ = write!(out, "</{name}>");
        } else {
            items.iter().for_each(|item| write_element(out, name, declared, item));
        }
        return;
    }
    let _ = write!(out, "<{name}");
    if let Value::Ref(reference) = value {
        let _ = write!(out, " type=\"{}\"", escape(&reference.kind));
    }
    if declared == "anyType" || matches!(value, Value::Object(object) if object.type_name != declared) {
        let _ = write!(out, " xsi:type=\"{}\"", value.xsi_type());
    }
    out.push('>');
    write_content(out, value);
    let _ = write!(out, "</{name}>");
}

fn write_content(out: &mut String, value: &Value) {
    match value {
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Int(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Long(number) => {
            let _ = write!(out, "{number}");
        }
        Value::Text(text) => out.push_str(&escape(text.as_str())),
        Value::Enum(_, text) => out.push_str(&escape(text.as_ref())),
        Value::Time(time) => out.push_str(&time.format(&Rfc3339).unwrap_or_default()),
        Value::Ref(reference) => out.push_str(&escape(reference.id.as_str())),
        Value::Object(object) => write_fields(out, object),
        Value::List(item_type, items) => items.iter().for_each(|item| write_element(out, item_type, item_type, item)),
    }
}

fn write_fields(out: &mut String, object: &Object) {
    let known = Schema::get().fields(&object.type_name).unwrap_or_default();
    for field in known {
        if let Some(value) = object.get(&field.name) {
            write_element(out, &field.name, &field.type_name, value);
        }
    }
    // Types outside the dictionary (mostly faults) keep the order they were built in.
    for (name, value) in object.fields.iter().filter(|(name, _)| !known.iter().any(|field| field.name == *name)) {
        write_element(out, name, "", value);
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Long(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<OffsetDateTime> for Value {
    fn from(value: OffsetDateTime) -> Self {
        Self::Time(value)
    }
}

impl From<MoRef> for Value {
    fn from(value: MoRef) -> Self {
        Self::Ref(value)
    }
}

impl From<&MoRef> for Value {
    fn from(value: &MoRef) -> Self {
        Self::Ref(value.clone())
    }
}

impl From<Object> for Value {
    fn from(value: Object) -> Self {
        Self::Object(value)
    }
}

/// Fields the dictionary does not know, as `Type.field`; a spelling mistake here would mislead every client.
#[cfg(test)]
pub(crate) fn unknown_fields(value: &Value) -> Vec<String> {
    match value {
        Value::List(_, items) => items.iter().flat_map(unknown_fields).collect(),
        Value::Object(object) => {
            let known = Schema::get().fields(&object.type_name);
            let stray = object
                .fields
                .iter()
                .filter(|(name, _)| known.is_some_and(|fields| fields.iter().all(|field| field.name != *name)));
            let stray = stray.map(|(name, _)| format!("{}.{name}", object.type_name));
            stray.chain(object.fields.iter().flat_map(|(_, inner)| unknown_fields(inner))).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(declared: &str, value: impl Into<Value>) -> String {
        let mut out = String::new();
        write_element(&mut out, "val", declared, &value.into());
        out
    }

    #[test]
    fn anonymous_values_carry_their_type() {
        assert_eq!(written("anyType", "a<b"), r#"<val xsi:type="xsd:string">a&lt;b</val>"#);
        assert_eq!(written("boolean", true), "<val>true</val>");
        assert_eq!(
            written("anyType", MoRef::new("Task", "task-1")),
            r#"<val type="Task" xsi:type="ManagedObjectReference">task-1</val>"#
        );
    }

    #[test]
    fn arrays_are_wrapped_only_where_the_type_is_open() {
        let list = Value::texts(["a".to_owned(), "b".to_owned()]);
        assert_eq!(
            written("anyType", list.clone()),
            r#"<val xsi:type="ArrayOfString"><string>a</string><string>b</string></val>"#
        );
        assert_eq!(written("string", list), "<val>a</val><val>b</val>");
    }

    #[test]
    fn fields_are_written_in_wsdl_order_with_the_dynamic_type() {
        let disk = Object::new("VirtualDisk")
            .with("capacityInKB", 4_i64)
            .with("backing", Object::new("VirtualDiskFlatVer2BackingInfo").with("fileName", "[ds] a/a.vmdk"))
            .with("key", 2000);
        assert_eq!(
            written("VirtualDevice", disk),
            "<val xsi:type=\"VirtualDisk\"><key>2000</key>\
             <backing xsi:type=\"VirtualDiskFlatVer2BackingInfo\"><fileName>[ds] a/a.vmdk</fileName></backing>\
             <capacityInKB>4</capacityInKB></val>"
        );
    }
}
