//! The headers of tar archives: ustar (POSIX.1-1988), with the extensions that writers of large or oddly named files
//! use (pax of POSIX.1-2001, GNU long names and base-256 numbers). Pure.

/// Bytes of a header, and what members are filled up to.
pub const TAR_BLOCK_BYTES: u64 = 512;
/// The longest extended header that is read, in bytes; real ones have some hundred.
pub const MAX_EXTENDED_BYTES: u64 = 64 * 1024;

/// What a header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file.
    File,
    /// The name of the next member (GNU `L`).
    LongName,
    /// Attributes of the next member (pax `x`).
    Extended,
    /// Something about the next member, or all of them, that is of no interest (GNU `K`, pax `g`).
    Ignored,
    /// A member without bytes that could be read: a folder, a link, a device.
    Other,
}

/// A header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarHeader {
    /// The member's name, with its folders.
    pub name: String,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// What it is.
    pub kind: MemberKind,
}

/// Attributes that override those of the next header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Its name.
    pub name: Option<String>,
    /// Its size, in bytes.
    pub size_bytes: Option<u64>,
    /// The member is stored with its holes left out: its bytes are not those of the file.
    pub is_sparse: bool,
}

/// Whether these bytes are the first of a tar archive.
#[must_use]
pub fn is_tar(first_bytes: &[u8]) -> bool {
    first_bytes.get(257..262) == Some(b"ustar") && matches!(parse_header(first_bytes), Ok(Some(_)))
}

/// Reads a header of 512 bytes; `None` is the end of the archive.
///
/// # Errors
/// What is wrong with it.
pub fn parse_header(block: &[u8]) -> Result<Option<TarHeader>, String> {
    let Some(block) = block.get(..512) else { return Err("the archive ends within a header".into()) };
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let sum: u64 =
        block.iter().enumerate().map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte })).sum();
    if number(&block[148..156]) != Some(sum) {
        return Err("a header has the wrong checksum".into());
    }
    let size_bytes = number(&block[124..136]).ok_or("a header has no size")?;
    let is_posix = &block[257..263] == b"ustar\0";
    let prefix = if is_posix { text(&block[345..500]) } else { String::new() };
    let name = text(&block[..100]);
    let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
    let kind = match block[156] {
        0 | b'0' | b'7' => MemberKind::File,
        b'L' => MemberKind::LongName,
        b'x' => MemberKind::Extended,
        b'K' | b'g' => MemberKind::Ignored,
        b'S' => return Err("a sparse member of GNU tar cannot be read in place".into()),
        _ => MemberKind::Other,
    };
    // Links and folders have no bytes, whatever the size says.
    let size_bytes = if matches!(block[156], b'1'..=b'6') { 0 } else { size_bytes };
    Ok(Some(TarHeader { name, size_bytes, kind }))
}

/// Reads the bytes of an extended header: lines of `length key=value`.
///
/// # Errors
/// What is wrong with them.
pub fn parse_extended(mut bytes: &[u8]) -> Result<Overrides, String> {
    let mut overrides = Overrides::default();
    while !bytes.is_empty() && bytes.first() != Some(&0) {
        let broken = || "an extended header is broken".to_owned();
        let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or_else(broken)?;
        let length: usize =
            std::str::from_utf8(&bytes[..space]).ok().and_then(|digits| digits.parse().ok()).ok_or_else(broken)?;
        let record = bytes.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(broken)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => overrides.name = Some(String::from_utf8_lossy(value).into_owned()),
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|digits| digits.parse().ok());
                overrides.size_bytes = Some(size.ok_or_else(broken)?);
            }
            _ if key.starts_with(b"GNU.sparse.") => overrides.is_sparse = true,
            _ => {}
        }
        bytes = &bytes[length..];
    }
    Ok(overrides)
}

/// The text of a name's bytes, up to a NUL.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// An octal number, or one of GNU's base-256.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if *first == 0x80 {
        return rest.iter().try_fold(0u64, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let digits = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    u64::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"00000000017\0"), Some(15));
        assert_eq!(number(b" 17 "), Some(15));
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]), Some((2 << 32) + 1));
        assert_eq!(number(&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(number(b"9"), None);
        assert_eq!(number(&[0xff; 12]), None);
    }

    #[test]
    fn extended_headers_override_name_and_size() {
        let found = parse_extended(b"19 path=disk1.vmdk\n19 size=9663676416\n30 mtime=1700000000.123456789\n").unwrap();
        let expected = Overrides { name: Some("disk1.vmdk".into()), size_bytes: Some(9_663_676_416), is_sparse: false };
        assert_eq!(found, expected);
        assert!(parse_extended(b"22 GNU.sparse.major=1\n").unwrap().is_sparse);
        for broken in [&b"5 path=a\n"[..], b"x", b"99 path=a\n", b"0 =\n", b"4 a\n", b"99999999999999999999 a=b\n"] {
            assert!(parse_extended(broken).is_err(), "{broken:?}");
        }
    }
}
