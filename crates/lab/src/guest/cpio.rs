//! The `newc` form of cpio archives, as the Linux kernel unpacks them: only what an initial file system needs.
//!
//! Format: `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel.

/// File type bits of a folder and of a plain file.
const FOLDER_MODE: u32 = 0o040_755;
const FILE_MODE: u32 = 0o100_000;
/// Name that ends an archive.
const TRAILER: &str = "TRAILER!!!";
/// Names and contents begin on multiples of this.
const ALIGNMENT: usize = 4;

/// An archive being made.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder; parents come before children.
    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER_MODE, &[]);
    }

    /// Adds a file with its permission bits.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.entry(path, FILE_MODE | permissions, content);
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links: u32 = 1;
        let header: [usize; 13] = [
            self.entries as usize,
            mode as usize,
            0,
            0,
            links as usize,
            0,
            content.len(),
            0,
            0,
            0,
            0,
            path.len() + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in header {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Field `index` of the header at `at`.
    fn field(bytes: &[u8], at: usize, index: usize) -> usize {
        let start = at + 6 + index * 8;
        usize::from_str_radix(std::str::from_utf8(&bytes[start..start + 8]).unwrap(), 16).unwrap()
    }

    #[test]
    fn entries_can_be_walked_from_the_first_to_the_trailer() {
        let mut archive = Archive::default();
        archive.folder("bin");
        archive.file("bin/sh", 0o755, b"12345");
        let bytes = archive.finish();
        let (mut at, mut seen) = (0, Vec::new());
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let (mode, size, name_size) = (field(&bytes, at, 1), field(&bytes, at, 6), field(&bytes, at, 11));
            let name = String::from_utf8(bytes[at + 110..at + 110 + name_size - 1].to_vec()).unwrap();
            let content = (at + 110 + name_size).next_multiple_of(ALIGNMENT);
            seen.push((name, mode, bytes[content..content + size].to_vec()));
            at = (content + size).next_multiple_of(ALIGNMENT);
        }
        let expected = [
            ("bin".to_owned(), 0o040_755, Vec::new()),
            ("bin/sh".to_owned(), 0o100_755, b"12345".to_vec()),
            (TRAILER.to_owned(), 0, Vec::new()),
        ];
        assert_eq!(seen, expected);
    }
}
