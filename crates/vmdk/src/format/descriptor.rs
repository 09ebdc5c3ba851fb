//! The descriptor: the text that says which extents make up a disk and which parent it has (VDF "The Descriptor
//! File"). Pure. It says nothing about which files may be opened.

use std::collections::BTreeMap;

use super::{FormatError, MAX_CAPACITY_BYTES, SECTOR_BYTES};

/// The longest descriptor, in bytes. 4096 extents of 2 GiB need a quarter of it.
pub const MAX_DESCRIPTOR_BYTES: u64 = 1 << 20;
/// The most extents of one disk: 8 TiB in files of 2 GiB, more than any product that splits disks makes.
pub const MAX_EXTENTS: usize = 4096;
/// How a descriptor begins.
const FIRST_LINE: &str = "# disk descriptorfile";
/// VDF: the parentCID of a disk that has no parent.
const NO_PARENT: u32 = u32::MAX;

/// What an extent's bytes are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    /// `FLAT` or `VMFS`: as they are, from this sector of the file on.
    Flat {
        /// First sector in the file.
        first_sector: u64,
    },
    /// `SPARSE` or `VMFSSPARSE`: `KDMV` or `COWD`, as the file's first bytes say.
    Sparse,
    /// `SESPARSE`.
    SeSparse,
    /// `ZERO`: zeroes, without a file.
    Zero,
}

/// A line that describes an extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentLine {
    /// Its size, in sectors.
    pub sectors: u64,
    /// What its bytes are in.
    pub kind: ExtentKind,
    /// The file, as written; empty for [`ExtentKind::Zero`].
    pub file: String,
}

/// The parent a descriptor names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentLink {
    /// The content id the parent must have.
    pub cid: u32,
    /// Where it was when the child was made, as written: may be any path of another machine.
    pub hint: String,
}

/// A descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// `CID`: changes whenever the content does.
    pub cid: Option<u32>,
    /// The parent, when it has one.
    pub parent: Option<ParentLink>,
    /// `createType`, as written.
    pub create_type: String,
    /// The extents in the disk's order; at least one.
    pub extents: Vec<ExtentLine>,
    /// All other entries by their lower-case key (`ddb.uuid`, `ddb.adaptertype`, …).
    pub entries: BTreeMap<String, String>,
}

/// Whether a file that begins with these bytes is a descriptor.
#[must_use]
pub fn is_descriptor(first_bytes: &[u8]) -> bool {
    let text = without_byte_order_mark(first_bytes).trim_ascii_start();
    text.get(..FIRST_LINE.len()).is_some_and(|start| start.eq_ignore_ascii_case(FIRST_LINE.as_bytes()))
}

fn without_byte_order_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

impl Descriptor {
    /// Reads a descriptor; what follows a NUL is padding.
    ///
    /// # Errors
    /// When a line is not understood, or what it says is contradictory, impossible or of a kind that cannot be read.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() as u64 > MAX_DESCRIPTOR_BYTES {
            return Err(FormatError::unsupported(format!("a descriptor of {} bytes is too long", bytes.len())));
        }
        if !is_descriptor(bytes) {
            return Err(FormatError::malformed(0, "there is no descriptor"));
        }
        let text = without_byte_order_mark(bytes).split(|byte| *byte == 0).next().unwrap_or_default();
        let mut lines = Lines::default();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if !line.is_empty() && !line.starts_with(b"#") {
                lines.read(line).map_err(|problem| problem.at_line(index + 1))?;
            }
        }
        lines.finish()
    }

    /// An entry by its key in any case, for example `ddb.uuid`.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&str> {
        self.entries.get(&key.to_ascii_lowercase()).map(String::as_str)
    }

    /// The disk's size, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        // The sum was checked to be at most 62 TiB.
        self.extents.iter().map(|extent| extent.sectors).sum::<u64>() * SECTOR_BYTES
    }
}

/// What is wrong with a line.
enum Problem {
    Malformed(String),
    Unsupported(String),
}

impl Problem {
    fn at_line(self, line: usize) -> FormatError {
        match self {
            Self::Malformed(reason) => FormatError::Line { line, reason },
            Self::Unsupported(what) => FormatError::unsupported(format!("{what} (line {line} of the descriptor)")),
        }
    }
}

fn malformed<T>(reason: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Malformed(reason.into()))
}

#[derive(Default)]
struct Lines {
    extents: Vec<ExtentLine>,
    sectors: u64,
    entries: BTreeMap<String, String>,
}

impl Lines {
    fn read(&mut self, line: &[u8]) -> Result<(), Problem> {
        let first_word = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        if ["RW", "RDONLY", "NOACCESS"].iter().any(|access| first_word.eq_ignore_ascii_case(access.as_bytes())) {
            return self.read_extent(line);
        }
        let Some(equals) = line.iter().position(|byte| *byte == b'=') else {
            return malformed("it is neither an extent nor an entry");
        };
        let (key, value) = line.split_at(equals);
        let key = String::from_utf8_lossy(key.trim_ascii()).to_ascii_lowercase();
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let value = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
        let value = match std::str::from_utf8(value) {
            Ok(text) => text.to_owned(),
            Err(_) if key == "parentfilenamehint" => return malformed("the parent's name is not UTF-8"),
            Err(_) => String::from_utf8_lossy(value).into_owned(),
        };
        let is_ours = ["cid", "parentcid", "parentfilenamehint", "createtype"].contains(&key.as_str());
        match self.entries.insert(key, value) {
            Some(_) if is_ours => malformed("the entry stands there twice"),
            _ => Ok(()),
        }
    }

    /// VDF "Extents": access, size in sectors, type, file name, offset.
    fn read_extent(&mut self, line: &[u8]) -> Result<(), Problem> {
        let Ok(line) = std::str::from_utf8(line) else {
            return malformed("the file's name is not UTF-8");
        };
        let (words, quoted) = line.split_once('"').map_or((line, None), |(words, rest)| (words, Some(rest)));
        let mut words = words.split_ascii_whitespace();
        let (access, sectors, kind) = (words.next(), words.next(), words.next());
        if access.is_some_and(|access| access.eq_ignore_ascii_case("NOACCESS")) {
            return Err(Problem::Unsupported("an extent that may not be accessed cannot be read".into()));
        }
        let Some(sectors) = sectors.and_then(|number| number.parse::<u64>().ok()).filter(|sectors| *sectors > 0) else {
            return malformed("the extent's size is not a number of sectors");
        };
        let kind = kind.unwrap_or_default().to_ascii_uppercase();
        let (file, rest) = match quoted {
            Some(quoted) => quoted.split_once('"').ok_or(Problem::Malformed("a quote is not closed".into()))?,
            None => ("", ""),
        };
        if words.next().is_some() || (kind == "ZERO") != file.is_empty() {
            return malformed("the extent's file name is not as it should be");
        }
        let kind = extent_kind(&kind, rest.trim())?;
        self.sectors = self.sectors.saturating_add(sectors);
        if self.sectors > MAX_CAPACITY_BYTES / SECTOR_BYTES {
            return malformed("the disk would be larger than 62 TiB");
        }
        if self.extents.len() >= MAX_EXTENTS {
            return Err(Problem::Unsupported(format!("more than {MAX_EXTENTS} extents")));
        }
        self.extents.push(ExtentLine { sectors, kind, file: file.to_owned() });
        Ok(())
    }

    fn finish(mut self) -> Result<Descriptor, FormatError> {
        refuse_encrypted(&self.entries)?;
        if self.extents.is_empty() {
            return Err(FormatError::malformed(0, "the descriptor names no extent"));
        }
        let cid = self.take_cid("cid")?;
        let parent_cid = self.take_cid("parentcid")?;
        let hint = self.entries.remove("parentfilenamehint").filter(|hint| !hint.is_empty());
        let create_type = self.entries.remove("createtype").unwrap_or_default();
        let parent = match (parent_cid, hint) {
            (Some(NO_PARENT) | None, None) => None,
            // Some writers put a 0 where VDF asks for ffffffff.
            (Some(0), None) => None,
            (Some(cid), Some(hint)) if cid != NO_PARENT => Some(ParentLink { cid, hint }),
            (Some(_), None) => {
                return Err(FormatError::malformed(0, "there is a parentCID, but no parentFileNameHint"));
            }
            (_, Some(_)) => {
                return Err(FormatError::malformed(0, "there is a parentFileNameHint, but no parentCID"));
            }
        };
        Ok(Descriptor { cid, parent, create_type, extents: self.extents, entries: self.entries })
    }

    fn take_cid(&mut self, key: &str) -> Result<Option<u32>, FormatError> {
        let Some(value) = self.entries.remove(key) else { return Ok(None) };
        match u32::from_str_radix(&value, 16) {
            Ok(cid) => Ok(Some(cid)),
            Err(_) => Err(FormatError::malformed(0, format!("{value:?} is no content id"))),
        }
    }
}

fn extent_kind(kind: &str, offset: &str) -> Result<ExtentKind, Problem> {
    match kind {
        "FLAT" | "VMFS" => {
            // VDF: an offset only for flat extents; ESXi leaves it out for VMFS.
            let offset = if offset.is_empty() && kind == "VMFS" { "0" } else { offset };
            match offset.parse::<u64>() {
                Ok(first_sector) if first_sector <= u64::MAX / SECTOR_BYTES => Ok(ExtentKind::Flat { first_sector }),
                _ => malformed("a flat extent needs its offset, a number of sectors, and nothing after it"),
            }
        }
        "SPARSE" | "VMFSSPARSE" | "SESPARSE" | "ZERO" if !offset.is_empty() => {
            malformed(format!("nothing may follow in an extent of type {kind}"))
        }
        "SPARSE" | "VMFSSPARSE" => Ok(ExtentKind::Sparse),
        "SESPARSE" => Ok(ExtentKind::SeSparse),
        "ZERO" => Ok(ExtentKind::Zero),
        "VMFSRDM" | "VMFSRAW" => {
            Err(Problem::Unsupported("a raw device mapping has no file to read; its content is on the LUN".into()))
        }
        "VSANSPARSE" => Err(Problem::Unsupported("a vSAN redo log can only be read through VDDK or NFC".into())),
        _ => Err(Problem::Unsupported(format!("an extent of type {kind:?} is not known"))),
    }
}

/// Content that would be read as cipher text, or that an array has and no file.
fn refuse_encrypted(entries: &BTreeMap<String, String>) -> Result<(), FormatError> {
    let says = |key: &str, word: &str| {
        entries.get(key).is_some_and(|value| value.to_ascii_lowercase().split([',', ' ']).any(|part| part == word))
    };
    let is_encrypted = entries.contains_key("encryptionkeys")
        || entries.contains_key("encryption.keysafe")
        || entries.contains_key("keysafe")
        || entries.get("ddb.iofilters").is_some_and(|filters| filters.to_ascii_lowercase().contains("vmcrypt"));
    if is_encrypted {
        return Err(FormatError::unsupported("the disk is encrypted; its files hold cipher text"));
    }
    if says("isnativesnapshot", "yes") {
        return Err(FormatError::unsupported("a native snapshot is kept by the storage array and not in files"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
