//! What the property collector sees: objects of the inventory and of the session, selected and rendered.

use std::collections::{BTreeMap, HashSet};

use quick_xml::escape::escape;

use super::fault::Fault;
use super::schema::Schema;
use super::service_content;
use super::sessions::Session;
use super::soap::reference;
use super::state::Lab;
use super::value::{MoRef, Object, Value, write_element};
use super::xml::Element;

/// Property values of one object, already written as `<val …>` elements, by property path.
pub(crate) type Rendered = BTreeMap<String, String>;

/// The world as one session sees it.
pub(crate) struct Sight<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) session: &'a Session,
}

/// The property paths wanted of one object.
struct Wanted {
    object: MoRef,
    paths: Vec<String>,
}

impl Sight<'_> {
    /// Whether the reference means anything to this session.
    pub(crate) fn exists(&self, object: &MoRef) -> bool {
        match object.kind.as_str() {
            "ContainerView" => self.session.objects.lock().views.contains_key(&object.id),
            "PropertyCollector" => {
                object.id == service_content::PROPERTY_COLLECTOR
                    || self.session.objects.lock().collectors.contains_key(&object.id)
            }
            "Task" => self.lab.tasks.find(object).is_some(),
            _ if service_content::is_singleton(object) => true,
            _ => self.lab.inventory.contains(object),
        }
    }

    fn top_level(&self, object: &MoRef, name: &str) -> Option<Value> {
        match (object.kind.as_str(), name) {
            ("ContainerView", _) => self.view_property(object, name),
            ("Task", "info") => Some(self.lab.tasks.find(object)?.info().into()),
            ("ServiceInstance", "content") => Some(service_content::object(self.lab).into()),
            ("ServiceInstance", "serverClock") => Some(self.lab.now().into()),
            ("SessionManager", "currentSession") => Some(self.session.to_object().into()),
            ("SessionManager", "defaultLocale") => Some("en".into()),
            ("SessionManager", "sessionList") => Some(Value::objects("UserSession", [self.session.to_object()])),
            _ => self.lab.inventory.property(object, name),
        }
    }

    fn view_property(&self, object: &MoRef, name: &str) -> Option<Value> {
        let view = self.session.objects.lock().views.get(&object.id).cloned()?;
        match name {
            "container" => Some(view.container.into()),
            "recursive" => Some(view.recursive.into()),
            "type" => Some(Value::texts(view.types)),
            "view" => {
                let schema = Schema::get();
                let fits = |found: &MoRef| {
                    view.types.is_empty() || view.types.iter().any(|wanted| schema.is_a(&found.kind, wanted))
                };
                let all = self.lab.inventory.descendants(&view.container, view.recursive);
                Some(Value::refs(all.into_iter().filter(fits)))
            }
            _ => None,
        }
    }

    /// A property by its path; `None` when it is not set.
    ///
    /// # Errors
    /// `ManagedObjectNotFound`, or `InvalidProperty` for a path the type does not have.
    pub(crate) fn property(&self, object: &MoRef, path: &str) -> Result<Option<Value>, Fault> {
        if !self.exists(object) {
            return Err(Fault::not_found_reference(object));
        }
        let parts: Vec<&str> = path.split('.').collect();
        if !path_exists(&object.kind, &parts) {
            return Err(Fault::invalid_property(path));
        }
        let (first, rest) = parts.split_first().ok_or_else(|| Fault::invalid_property(path))?;
        Ok(self.top_level(object, first).and_then(|value| value.at(rest).cloned()))
    }

    /// Evaluates a `PropertyFilterSpec`: the objects it selects with the values asked for, in order of selection.
    ///
    /// # Errors
    /// As for `property`; a root object that does not exist is `ManagedObjectNotFound`.
    pub(crate) fn evaluate(&self, spec: &Element) -> Result<Vec<(MoRef, Rendered)>, Fault> {
        let mut found = Vec::new();
        for wanted in self.select(spec)? {
            let mut rendered = Rendered::new();
            for path in wanted.paths {
                // An object may vanish between selection and reading; then it is simply not there.
                let Ok(Some(value)) = self.property(&wanted.object, &path) else { continue };
                let mut text = String::new();
                write_element(&mut text, "val", "anyType", &value);
                rendered.insert(path, text);
            }
            found.push((wanted.object, rendered));
        }
        Ok(found)
    }

    fn select(&self, spec: &Element) -> Result<Vec<Wanted>, Fault> {
        let property_sets: Vec<&Element> = spec.children_named("propSet").collect();
        let mut objects = Vec::new();
        for object_set in spec.children_named("objectSet") {
            let root = object_set.child("obj").and_then(reference).ok_or_else(|| Fault::invalid_argument("obj"))?;
            if !self.exists(&root) {
                return Err(Fault::not_found_reference(&root));
            }
            let mut walk = Walk { sight: self, named: Vec::new(), seen: HashSet::new(), found: Vec::new() };
            walk.collect_names(object_set);
            walk.visit(&root, object_set.flag("skip"), object_set)?;
            objects.extend(walk.found);
        }
        let mut known = HashSet::new();
        objects.retain(|object| known.insert(object.clone()));
        objects.into_iter().filter_map(|object| wanted_of(object, &property_sets).transpose()).collect()
    }
}

/// The paths the property sets ask of an object; `None` when none of them is for its type.
fn wanted_of(object: MoRef, property_sets: &[&Element]) -> Result<Option<Wanted>, Fault> {
    let schema = Schema::get();
    let mut paths: Vec<String> = Vec::new();
    let mut fits = false;
    for set in property_sets {
        let type_name = set.text_of("type").unwrap_or_default();
        if !schema.is_a(&object.kind, type_name) {
            continue;
        }
        fits = true;
        if set.flag("all") {
            paths.extend(schema.fields(&object.kind).unwrap_or_default().iter().map(|field| field.name.clone()));
        }
        for path in set.children_named("pathSet").map(|path| path.text.trim()) {
            if !path_exists(&object.kind, &path.split('.').collect::<Vec<_>>()) {
                return Err(Fault::invalid_property(path));
            }
            paths.push(path.to_owned());
        }
    }
    Ok(fits.then_some(Wanted { object, paths }))
}

/// Whether a type has that property path. Types outside the dictionary are not looked into.
fn path_exists(type_name: &str, parts: &[&str]) -> bool {
    let Some((first, rest)) = parts.split_first() else { return true };
    let schema = Schema::get();
    if schema.fields(type_name).is_none() {
        return true;
    }
    match schema.field(type_name, first) {
        Some(field) => {
            rest.is_empty() || (!field.many && field.type_name != "ref" && path_exists(&field.type_name, rest))
        }
        None => false,
    }
}

/// One traversal from a root object.
struct Walk<'a> {
    sight: &'a Sight<'a>,
    /// Traversal specs by name, for `SelectionSpec`s that refer to them.
    named: Vec<(String, &'a Element)>,
    seen: HashSet<(MoRef, String)>,
    found: Vec<MoRef>,
}

impl<'a> Walk<'a> {
    fn collect_names(&mut self, owner: &'a Element) {
        for set in owner.children_named("selectSet") {
            if let (Some(name), true) = (set.text_of("name"), set.child("path").is_some()) {
                self.named.push((name.to_owned(), set));
            }
            self.collect_names(set);
        }
    }

    fn visit(&mut self, object: &MoRef, skip: bool, owner: &'a Element) -> Result<(), Fault> {
        if !skip {
            self.found.push(object.clone());
        }
        for set in owner.children_named("selectSet") {
            let Some(traversal) = self.resolve(set) else { continue };
            let (type_name, path) =
                (traversal.text_of("type").unwrap_or_default(), traversal.text_of("path").unwrap_or_default());
            let step = (object.clone(), format!("{type_name}.{path}"));
            if !Schema::get().is_a(&object.kind, type_name) || !self.seen.insert(step) {
                continue;
            }
            let next = self.sight.property(object, path)?.map(|value| value.references()).unwrap_or_default();
            for child in next {
                self.visit(&child, traversal.flag("skip"), traversal)?;
            }
        }
        Ok(())
    }

    fn resolve(&self, set: &'a Element) -> Option<&'a Element> {
        if set.child("path").is_some() {
            return Some(set);
        }
        let name = set.text_of("name")?;
        self.named.iter().find(|(known, _)| known == name).map(|(_, traversal)| *traversal)
    }
}

/// The inside of an `ObjectContent`.
pub(crate) fn object_content(object: &MoRef, properties: &Rendered) -> String {
    let mut out = String::new();
    write_element(&mut out, "obj", "ref", &object.into());
    for (path, value) in properties {
        out.push_str(&format!("<propSet><name>{}</name>{value}</propSet>", escape(path.as_str())));
    }
    out
}

/// An `ObjectContent` whose properties are all missing for the same reason.
pub(crate) fn missing_content(object: &MoRef, paths: &[String], fault: &Fault) -> String {
    let mut out = String::new();
    write_element(&mut out, "obj", "ref", &object.into());
    for path in paths {
        let missing = Object::new("MissingProperty").with("path", path.clone()).with("fault", fault.to_localized());
        write_element(&mut out, "missingSet", "MissingProperty", &missing.into());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::path_exists;

    #[test]
    fn paths_are_checked_against_the_types() {
        for good in ["config.hardware.device", "runtime.powerState", "config.keyId", "guest.net", "layout.disk"] {
            assert!(path_exists("VirtualMachine", &good.split('.').collect::<Vec<_>>()), "{good}");
        }
        for bad in ["config.hardware.devices", "power", "network.name", "config.hardware.device.key"] {
            assert!(!path_exists("VirtualMachine", &bad.split('.').collect::<Vec<_>>()), "{bad}");
        }
    }
}
