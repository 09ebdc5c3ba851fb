//! The vim25 definitions of `vim25.txt`: which fields a type has, in which order, and which parameters a method takes.
//!
//! A dictionary only: nothing here reads a request or writes an answer.

use std::collections::HashMap;
use std::sync::LazyLock;

/// One field of a data object or one parameter of a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// Element name.
    pub(crate) name: String,
    /// WSDL type name, or `ref`, `enum`, or an XML Schema primitive.
    pub(crate) type_name: String,
    /// May be absent.
    pub(crate) optional: bool,
    /// May be repeated (and then also absent).
    pub(crate) many: bool,
}

/// A data object or managed object type.
#[derive(Debug)]
struct TypeDefinition {
    base: Option<String>,
    /// Own and inherited fields, base class first.
    fields: Vec<Field>,
}

/// A method: the type that answers it, and its parameters.
#[derive(Debug)]
pub(crate) struct Method {
    /// Type of `_this` the method belongs to (or a type derived from it).
    pub(crate) receiver: String,
    /// Parameters after `_this`, in order.
    pub(crate) parameters: Vec<Field>,
}

/// Everything `vim25.txt` defines.
#[derive(Debug)]
pub(crate) struct Schema {
    types: HashMap<String, TypeDefinition>,
    methods: HashMap<String, Method>,
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| Schema::parse(include_str!("vim25.txt")));

impl Schema {
    /// The one dictionary of the process.
    pub(crate) fn get() -> &'static Self {
        &SCHEMA
    }

    fn parse(text: &str) -> Self {
        let mut schema = Self { types: HashMap::new(), methods: HashMap::new() };
        let mut in_methods = false;
        for paragraph in paragraphs(text) {
            if paragraph == "methods" {
                in_methods = true;
                continue;
            }
            schema.define(&paragraph, in_methods);
        }
        schema
    }

    fn define(&mut self, paragraph: &str, is_method: bool) {
        let mut words = paragraph.split_whitespace();
        let Some((name, owner)) = words.next().and_then(|head| head.trim_end_matches(')').split_once('(')) else {
            return;
        };
        let own = words.filter_map(parse_field);
        if is_method {
            let method = Method { receiver: owner.to_owned(), parameters: own.collect() };
            self.methods.insert(name.to_owned(), method);
            return;
        }
        let mut fields = self.types.get(owner).map(|base| base.fields.clone()).unwrap_or_default();
        fields.extend(own);
        let base = (!owner.is_empty()).then(|| owner.to_owned());
        self.types.insert(name.to_owned(), TypeDefinition { base, fields });
    }

    /// All fields of a type, base class first; `None` when the type is not in the dictionary.
    pub(crate) fn fields(&self, type_name: &str) -> Option<&[Field]> {
        self.types.get(type_name).map(|definition| definition.fields.as_slice())
    }

    /// One field of a type.
    pub(crate) fn field(&self, type_name: &str, name: &str) -> Option<&Field> {
        self.fields(type_name)?.iter().find(|field| field.name == name)
    }

    /// The method of that name.
    pub(crate) fn method(&self, name: &str) -> Option<&Method> {
        self.methods.get(name)
    }

    /// Whether `type_name` is `ancestor` or derived from it.
    pub(crate) fn is_a(&self, type_name: &str, ancestor: &str) -> bool {
        let mut current = Some(type_name);
        while let Some(name) = current {
            if name == ancestor || ancestor == "ManagedObject" {
                return true;
            }
            current = self.types.get(name).and_then(|definition| definition.base.as_deref());
        }
        false
    }
}

/// Joins indented continuation lines to the definition they belong to and drops comments.
fn paragraphs(text: &str) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        match joined.last_mut() {
            Some(previous) if line.starts_with(' ') => {
                previous.push(' ');
                previous.push_str(line.trim());
            }
            _ => joined.push(line.trim().to_owned()),
        }
    }
    joined
}

fn parse_field(word: &str) -> Option<Field> {
    let (name, rest) = word.split_once(':')?;
    let type_name = rest.trim_end_matches(['?', '*']);
    Some(Field {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        optional: rest.ends_with('?'),
        many: rest.ends_with('*'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inherited_fields_come_first() {
        let names: Vec<_> =
            Schema::get().fields("VirtualDisk").unwrap().iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names[0], "key");
        assert!(names.iter().position(|name| *name == "unitNumber") < names.iter().position(|n| *n == "capacityInKB"));
    }

    #[test]
    fn derivation_follows_every_level() {
        let schema = Schema::get();
        assert!(schema.is_a("VirtualVmxnet3", "VirtualEthernetCard"));
        assert!(schema.is_a("ClusterComputeResource", "ManagedEntity"));
        assert!(!schema.is_a("VirtualDisk", "VirtualController"));
    }

    #[test]
    fn parameters_keep_their_order() {
        let method = Schema::get().method("QueryChangedDiskAreas").unwrap();
        let names: Vec<_> = method.parameters.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["snapshot", "deviceKey", "startOffset", "changeId"]);
        assert!(method.parameters[0].optional);
    }
}
