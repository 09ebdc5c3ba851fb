//! The text descriptor of a VMDK, as far as finding its flat data file needs it. Pure.

/// Most extents read from a descriptor; ESXi writes one.
const MAX_EXTENTS: usize = 1024;

/// A descriptor.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    has_parent: bool,
    extents: Vec<ExtentLine>,
}

/// One line `RW 4192256 VMFS "disk-flat.vmdk" 0`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ExtentLine {
    kind: String,
    sectors: u64,
    file_name: String,
    offset_sectors: u64,
}

/// The file that holds all of a disk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PlainExtent {
    pub(crate) file_name: String,
    pub(crate) sectors: u64,
    pub(crate) offset_sectors: u64,
}

impl Descriptor {
    /// Reads a descriptor; the error says what it is instead.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_start_matches('\u{feff}');
        if !text.trim_start().to_ascii_lowercase().starts_with("# disk descriptorfile") {
            return Err("it is not a disk descriptor".to_owned());
        }
        let mut descriptor = Self { has_parent: false, extents: Vec::new() };
        for line in text.split(['\n', '\r', '\0']).map(str::trim).filter(|line| !line.starts_with('#')) {
            if let Some(extent) = extent_line(line)? {
                if descriptor.extents.len() == MAX_EXTENTS {
                    return Err(format!("it has more than {MAX_EXTENTS} extents"));
                }
                descriptor.extents.push(extent);
            } else if let Some((key, value)) = line.split_once('=') {
                let is_hint = key.trim().eq_ignore_ascii_case("parentFileNameHint");
                descriptor.has_parent |= is_hint && !value.trim().trim_matches('"').is_empty();
            }
        }
        Ok(descriptor)
    }

    /// The one data file of a plain disk; the error says why there is none.
    pub(crate) fn plain_extent(&self) -> Result<PlainExtent, String> {
        if self.has_parent {
            return Err("it is a delta over another disk file, not a base".to_owned());
        }
        let [extent] = self.extents.as_slice() else {
            return Err(format!("it has {} extents instead of one", self.extents.len()));
        };
        if !matches!(extent.kind.as_str(), "VMFS" | "FLAT") {
            return Err(format!("its data is of kind {}, not flat", extent.kind));
        }
        if extent.file_name.is_empty() || extent.file_name.contains('/') || extent.file_name == ".." {
            return Err("its data file is not beside it".to_owned());
        }
        Ok(PlainExtent {
            file_name: extent.file_name.clone(),
            sectors: extent.sectors,
            offset_sectors: extent.offset_sectors,
        })
    }
}

fn extent_line(line: &str) -> Result<Option<ExtentLine>, String> {
    let mut words = line.splitn(2, [' ', '\t']);
    if !matches!(words.next(), Some("RW" | "RDONLY" | "NOACCESS")) {
        return Ok(None);
    }
    let malformed = || format!("the extent line {:?} is malformed", line.chars().take(120).collect::<String>());
    let rest = words.next().ok_or_else(malformed)?.trim_start();
    let (sectors, rest) = rest.split_once([' ', '\t']).ok_or_else(malformed)?;
    let (kind, rest) = rest.trim_start().split_once([' ', '\t']).unwrap_or((rest.trim(), ""));
    let (file_name, offset) = match rest.trim_start().strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or_else(malformed)?,
        None => ("", ""),
    };
    let offset = offset.trim();
    Ok(Some(ExtentLine {
        kind: kind.to_ascii_uppercase(),
        sectors: sectors.parse().map_err(|_| malformed())?,
        file_name: file_name.to_owned(),
        offset_sectors: if offset.is_empty() { 0 } else { offset.parse().map_err(|_| malformed())? },
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn descriptor(extra: &str, extents: &str) -> String {
        format!(
            "# Disk DescriptorFile\r\nversion=1\r\nencoding=\"UTF-8\"\r\nCID=fffffffe\r\nparentCID=ffffffff\r\n\
             createType=\"vmfs\"\r\n{extra}\r\n# Extent description\r\n{extents}\r\n\r\n# The Disk Data Base\r\n\
             ddb.adapterType = \"lsilogic\"\r\nddb.uuid = \"60 00 C2 9f\"\r\n\0\0\0\0"
        )
    }

    fn plain(text: &str) -> Result<PlainExtent, String> {
        Descriptor::parse(text.as_bytes()).and_then(|descriptor| descriptor.plain_extent())
    }

    #[test]
    fn the_flat_file_is_found() {
        let cases = [
            ("RW 4192256 VMFS \"web-flat.vmdk\"", ("web-flat.vmdk", 4_192_256, 0)),
            ("RW 2048 FLAT \"a b \u{fc}-flat.vmdk\" 128", ("a b \u{fc}-flat.vmdk", 2048, 128)),
        ];
        for (line, (file, sectors, offset)) in cases {
            let expected = PlainExtent { file_name: file.to_owned(), sectors, offset_sectors: offset };
            assert_eq!(plain(&descriptor("", line)), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_not_a_plain_base_is_refused_with_a_reason() {
        let flat = "RW 2048 VMFS \"a-flat.vmdk\"";
        let cases = [
            (descriptor("parentFileNameHint=\"base.vmdk\"", flat), "delta"),
            (descriptor("", "RW 2048 SESPARSE \"a-sesparse.vmdk\""), "SESPARSE"),
            (descriptor("", "RW 2048 VMFSRDM \"a-rdm.vmdk\""), "VMFSRDM"),
            (descriptor("", &format!("{flat}\n{flat}")), "2 extents"),
            (descriptor("", ""), "0 extents"),
            (descriptor("", "RW 2048 VMFS \"/vmfs/volumes/x/a-flat.vmdk\""), "beside"),
            (descriptor("", "RW many VMFS \"a-flat.vmdk\""), "malformed"),
            (descriptor("", "RW 2048 VMFS \"a-flat.vmdk"), "malformed"),
            ("KDMV\u{1}".to_owned(), "not a disk descriptor"),
            (String::new(), "not a disk descriptor"),
        ];
        for (text, part) in cases {
            let reason = plain(&text).unwrap_err();
            assert!(reason.contains(part), "{reason:?} does not say {part:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = b"# Disk DescriptorFile\nRW 1 ".to_vec();
            bytes.extend(tail);
            let _ = Descriptor::parse(&bytes).map(|descriptor| descriptor.plain_extent());
        }
    }
}
