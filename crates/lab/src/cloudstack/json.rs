//! JSON whose keys keep the order they were put in, as CloudStack's own serialiser prints them.
//!
//! Only for answers; requests are forms. Rendering is total: nothing here can fail.

/// One JSON value of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number; CloudStack prints no others that matter here.
    Int(i64),
    /// A string.
    Text(String),
    /// Text that is JSON already: the stored result of a job.
    Raw(String),
    /// An array.
    List(Vec<Json>),
    /// An object.
    Object(Object),
}

/// A JSON object in the order of its making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Object(Vec<(String, Json)>);

impl Object {
    /// An object without keys.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a key at the end.
    #[must_use]
    pub(crate) fn put(mut self, key: &str, value: impl Into<Json>) -> Self {
        self.0.push((key.to_owned(), value.into()));
        self
    }

    /// Adds a key at the end when there is a value: CloudStack omits null fields.
    #[must_use]
    pub(crate) fn maybe<V: Into<Json>>(self, key: &str, value: Option<V>) -> Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }

    /// Adds a key only when `wanted`: fields that only some callers or states see.
    #[must_use]
    pub(crate) fn put_if(self, wanted: bool, key: &str, value: impl Into<Json>) -> Self {
        if wanted { self.put(key, value) } else { self }
    }

    /// Appends all keys of another object.
    #[must_use]
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The string under a key, for filters over finished rows.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find_map(|(name, value)| match value {
            Json::Text(text) if name == key => Some(text.as_str()),
            _ => None,
        })
    }
}

impl Json {
    /// The JSON text.
    pub(crate) fn render(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => out.push_str(&value.to_string()),
            Self::Text(text) => write_text(text, out),
            Self::Raw(text) => out.push_str(text),
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    separate(index, out);
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(object) => {
                out.push('{');
                for (index, (key, value)) in object.0.iter().enumerate() {
                    separate(index, out);
                    write_text(key, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

fn separate(index: usize, out: &mut String) {
    if index > 0 {
        out.push(',');
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Json {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Json {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<u64> for Json {
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Json {
    fn from(value: usize) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<&str> for Json {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Json {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&String> for Json {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<Object> for Json {
    fn from(value: Object) -> Self {
        Self::Object(value)
    }
}

impl From<Vec<Json>> for Json {
    fn from(value: Vec<Json>) -> Self {
        Self::List(value)
    }
}

impl From<Vec<Object>> for Json {
    fn from(value: Vec<Object>) -> Self {
        Self::List(value.into_iter().map(Json::Object).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order_and_text_is_escaped() {
        let value = Json::from(
            Object::new()
                .put("zeta", 1_u32)
                .put("alpha", "a\"b\\\n\u{1}<é>")
                .maybe("absent", None::<&str>)
                .put("list", vec![Json::from(true), Json::Raw("{\"x\":1}".to_owned())]),
        );
        assert_eq!(value.render(), r#"{"zeta":1,"alpha":"a\"b\\\n\u0001<é>","list":[true,{"x":1}]}"#);
        assert!(serde_json::from_str::<serde_json::Value>(&value.render()).is_ok());
    }
}
