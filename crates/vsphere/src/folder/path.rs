//! Datastore paths `[datastore] folder/file.vmdk`, and their URLs. Pure.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::error::VsphereError;

/// Everything but the unreserved characters of RFC 3986 is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Longest path taken, in bytes; datastores allow 255 per name.
const MAX_PATH_BYTES: usize = 4096;

/// A file on a datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatastorePath {
    datastore: String,
    file: String,
}

impl DatastorePath {
    /// Name of the datastore.
    #[must_use]
    pub fn datastore(&self) -> &str {
        &self.datastore
    }

    /// Path within the datastore.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Another file in the same folder.
    #[must_use]
    pub fn sibling(&self, file_name: &str) -> Self {
        let folder = self.file.rsplit_once('/').map(|(folder, _)| folder);
        let file = folder.map_or_else(|| file_name.to_owned(), |folder| format!("{folder}/{file_name}"));
        Self { datastore: self.datastore.clone(), file }
    }

    /// The file below `base`; hosts want no datacenter.
    pub(crate) fn url(&self, base: &Url, datacenter_path: Option<&str>) -> Url {
        let encode = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
        let file: Vec<String> = self.file.split('/').map(encode).collect();
        let mut url = base.clone();
        url.set_path(&format!("/folder/{}", file.join("/")));
        let datastore = format!("dsName={}", encode(&self.datastore));
        match datacenter_path.filter(|path| !path.is_empty()) {
            Some(path) => url.set_query(Some(&format!("dcPath={}&{datastore}", encode(path)))),
            None => url.set_query(Some(&datastore)),
        }
        url
    }
}

impl FromStr for DatastorePath {
    type Err = VsphereError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || VsphereError::InvalidDatastorePath { path: text.chars().take(300).collect() };
        if text.len() > MAX_PATH_BYTES {
            return Err(invalid());
        }
        let (datastore, file) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).ok_or_else(invalid)?;
        let file = file.strip_prefix(' ').unwrap_or(file);
        let is_name = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
        if datastore.is_empty() || !file.split('/').all(is_name) {
            return Err(invalid());
        }
        Ok(Self { datastore: datastore.to_owned(), file: file.to_owned() })
    }
}

impl fmt::Display for DatastorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.datastore, self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_escape_every_part_by_itself() {
        let base: Url = "https://vc:8443/".parse().unwrap();
        let cases = [
            ("[ds1] web/web.vmdk", Some("DC0"), "https://vc:8443/folder/web/web.vmdk?dcPath=DC0&dsName=ds1"),
            ("[a&b #1] x y/ü%2f.vmdk", None, "https://vc:8443/folder/x%20y/%C3%BC%252f.vmdk?dsName=a%26b%20%231"),
            ("[ds1] root.vmdk", Some("EU/DC 1"), "https://vc:8443/folder/root.vmdk?dcPath=EU%2FDC%201&dsName=ds1"),
        ];
        for (text, datacenter, expected) in cases {
            let path: DatastorePath = text.parse().unwrap();
            assert_eq!(path.url(&base, datacenter).as_str(), expected);
            assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["", "x.vmdk", "[ds1", "[] a.vmdk", "[ds1] ", "[ds1] ../a.vmdk", "[ds1] /a.vmdk", "[ds1] a//b"] {
            assert!(text.parse::<DatastorePath>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_data_file_lies_beside_the_descriptor() {
        let path = |text: &str| text.parse::<DatastorePath>().unwrap();
        assert_eq!(path("[d] a/b/c.vmdk").sibling("c-flat.vmdk"), path("[d] a/b/c-flat.vmdk"));
        assert_eq!(path("[d] c.vmdk").sibling("c-flat.vmdk"), path("[d] c-flat.vmdk"));
    }
}
