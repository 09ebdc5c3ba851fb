//! The parameters of one request: the command and its named values, each name once.
//!
//! Only gathers; what is signed and how it is sent is decided elsewhere. Never printed: user data may hold secrets.

use std::collections::BTreeMap;
use std::fmt::Display;

/// A command with its parameters.
#[derive(Clone)]
pub(crate) struct Params {
    command: &'static str,
    values: BTreeMap<String, String>,
}

impl Params {
    /// A command without parameters yet.
    pub(crate) fn new(command: &'static str) -> Self {
        Self { command, values: BTreeMap::new() }
    }

    /// The command's name, as CloudStack spells it.
    pub(crate) fn command(&self) -> &'static str {
        self.command
    }

    /// Every parameter, without the command.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets a parameter; a second value replaces the first.
    #[must_use]
    pub(crate) fn set(mut self, name: &str, value: impl Display) -> Self {
        self.values.insert(name.to_owned(), value.to_string());
        self
    }

    /// Sets a parameter when there is a value.
    #[must_use]
    pub(crate) fn maybe(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.set(name, value),
            None => self,
        }
    }

    /// Sets a list parameter (`a,b,c`); nothing for an empty list.
    #[must_use]
    pub(crate) fn list(self, name: &str, values: &[String]) -> Self {
        if values.is_empty() { self } else { self.set(name, values.join(",")) }
    }

    /// Sets a map of the shape `name[0].key=value`: the shape of `details`, of which servers read only index 0.
    #[must_use]
    pub(crate) fn details(mut self, name: &str, values: &BTreeMap<String, String>) -> Self {
        for (key, value) in values {
            self = self.set(&format!("{name}[0].{key}"), value);
        }
        self
    }

    /// Sets a map of the shape `tags[i].key=…&tags[i].value=…`.
    #[must_use]
    pub(crate) fn tags(mut self, values: &BTreeMap<String, String>) -> Self {
        for (index, (key, value)) in values.iter().enumerate() {
            self = self.set(&format!("tags[{index}].key"), key).set(&format!("tags[{index}].value"), value);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_shapes_of_maps() {
        let map = BTreeMap::from([("UEFI".to_owned(), "SECURE".to_owned()), ("a".to_owned(), "1".to_owned())]);
        let params = Params::new("x").details("details", &map).tags(&map).list("ids", &[]).maybe("n", None::<u8>);
        let pairs: Vec<(&str, &str)> = params.iter().collect();
        let expected = [
            ("details[0].UEFI", "SECURE"),
            ("details[0].a", "1"),
            ("tags[0].key", "UEFI"),
            ("tags[0].value", "SECURE"),
            ("tags[1].key", "a"),
            ("tags[1].value", "1"),
        ];
        assert_eq!(pairs, expected);
    }
}
