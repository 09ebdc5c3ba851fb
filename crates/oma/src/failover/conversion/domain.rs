//! What the tool is told about the guest: the least libvirt domain that `-i libvirtxml` takes (virt-v2v(1), "Minimal XML
//! for -i libvirtxml option"). Pure.

use std::path::{Path, PathBuf};

use model::status::Firmware;

use super::ConversionError;

/// Most disks of one guest (vSphere allows 256 per VM).
const MAX_DISKS: usize = 256;
/// Longest path, in bytes (Linux' `PATH_MAX`).
const MAX_PATH_BYTES: usize = 4096;

/// The domain with these disks in this order. Memory and processors are of no meaning for a conversion.
///
/// # Errors
/// A path cannot be written in XML, is not absolute, or there are no disks or too many.
pub(super) fn xml(disks: &[PathBuf], firmware: Firmware) -> Result<String, ConversionError> {
    if disks.is_empty() || disks.len() > MAX_DISKS {
        return Err(ConversionError::DiskCount { count: disks.len() });
    }
    let firmware = match firmware {
        Firmware::Bios => "bios",
        Firmware::Efi => "efi",
    };
    let mut text = format!(
        "<domain type='kvm'>\n  <name>replica</name>\n  <memory unit='KiB'>1048576</memory>\n  <vcpu>1</vcpu>\n  \
         <os firmware='{firmware}'><type>hvm</type><boot dev='hd'/></os>\n  \
         <features><acpi/><apic/><pae/></features>\n  <devices>\n"
    );
    for (index, disk) in disks.iter().enumerate() {
        text.push_str(&format!(
            "    <disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='{}'/>\
             <target dev='{}' bus='scsi'/></disk>\n",
            escaped(disk)?,
            device_name(index)
        ));
    }
    text.push_str("  </devices>\n</domain>\n");
    Ok(text)
}

/// A path as the value of an attribute. Paths of another form than our own devices have are refused, not mended: the
/// wrong disk would be converted.
fn escaped(path: &Path) -> Result<String, ConversionError> {
    let refused = |reason| ConversionError::Disk { path: path.to_owned(), reason };
    let text = path.to_str().ok_or_else(|| refused("it is not UTF-8"))?;
    if !path.is_absolute() {
        return Err(refused("it is not absolute"));
    }
    if text.len() > MAX_PATH_BYTES {
        return Err(refused("it is too long"));
    }
    if text.chars().any(|letter| letter.is_control() || matches!(letter, '\u{FFFE}' | '\u{FFFF}')) {
        return Err(refused("it holds characters that XML cannot carry"));
    }
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&apos;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    Ok(escaped)
}

/// `sda` to `sdz`, `sdaa`, …
fn device_name(index: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = index + 1;
    while rest > 0 {
        rest -= 1;
        letters.push(char::from(b'a' + u8::try_from(rest % 26).unwrap_or_default()));
        rest /= 26;
    }
    format!("sd{}", letters.iter().rev().collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn paths(texts: &[&str]) -> Vec<PathBuf> {
        texts.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn disks_keep_their_order_and_cannot_break_out_of_their_place() {
        let text = xml(&paths(&["/dev/vdc", "/dev/vdb", "/tmp/a'/><b c=\"&\".img"]), Firmware::Efi).unwrap();
        let sources: Vec<&str> = text.match_indices("<source").map(|(at, _)| &text[at..at + 24]).collect();
        assert_eq!(sources[..2], ["<source dev='/dev/vdc'/>", "<source dev='/dev/vdb'/>"]);
        assert!(text.contains("<source dev='/tmp/a&apos;/&gt;&lt;b c=&quot;&amp;&quot;.img'/>"), "{text}");
        assert!(text.contains("firmware='efi'") && text.contains("<target dev='sdc' bus='scsi'/>"));
        assert!(xml(&paths(&["/dev/vdb"]), Firmware::Bios).unwrap().contains("firmware='bios'"));
    }

    #[test]
    fn paths_that_could_mean_another_disk_are_refused() {
        let not_text = PathBuf::from(OsString::from_vec(b"/dev/\xFF".to_vec()));
        let long = format!("/{}", "a".repeat(MAX_PATH_BYTES));
        for (path, reason) in [
            (PathBuf::from("vdb"), "not absolute"),
            (not_text, "not UTF-8"),
            (PathBuf::from("/dev/a\nb"), "XML cannot carry"),
            (PathBuf::from(long), "too long"),
        ] {
            let error = xml(std::slice::from_ref(&path), Firmware::Bios).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        for count in [0, MAX_DISKS + 1] {
            let error = xml(&vec![PathBuf::from("/dev/vdb"); count], Firmware::Bios).unwrap_err();
            assert!(matches!(error, ConversionError::DiskCount { .. }), "{error}");
        }
    }

    #[test]
    fn names_of_targets_go_on_after_z() {
        let names: Vec<String> = [0, 25, 26, 51, 52, 255].map(device_name).into();
        assert_eq!(names, ["sda", "sdz", "sdaa", "sdaz", "sdba", "sdiv"]);
    }
}
