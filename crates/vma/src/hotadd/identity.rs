//! Which VM this is: its BIOS uuid, as the firmware tells it or the configuration does.
//!
//! VMware writes the same sixteen bytes twice into the firmware's tables. The serial number (`VMware-56 4d …`) is in the
//! order vCenter shows; the uuid is read with its first three groups swapped from virtual hardware 13 on.

use super::HotAddError;

/// Where the serial number is. Only root may read the kernel's file: the service copies it for its user.
const SERIAL_FILES: [&str; 2] = ["/run/migratekit-vma/product_serial", "/sys/class/dmi/id/product_serial"];
/// Where the uuid is.
const UUID_FILES: [&str; 2] = ["/run/migratekit-vma/product_uuid", "/sys/class/dmi/id/product_uuid"];
/// Hexadecimal digits of a uuid.
const DIGITS: usize = 32;

/// The uuids this VM may have in vCenter: one, or two where the order of the bytes is not known.
pub(super) fn uuids(configured: Option<&str>) -> Result<Vec<String>, HotAddError> {
    let unknown = |reason: &str| HotAddError::OwnVm { reason: reason.to_owned() };
    if let Some(text) = configured {
        let digits = digits(text).ok_or_else(|| unknown("`vm_uuid` of the configuration is not a uuid"))?;
        return Ok(vec![with_hyphens(&digits)]);
    }
    let read = |files: [&str; 2]| files.iter().find_map(|file| std::fs::read_to_string(file).ok());
    if let Some(uuid) = read(SERIAL_FILES).as_deref().and_then(of_serial) {
        return Ok(vec![uuid]);
    }
    let found = read(UUID_FILES).as_deref().map(of_firmware_uuid).unwrap_or_default();
    if found.is_empty() { Err(unknown("the firmware's tables cannot be read, or are not VMware's")) } else { Ok(found) }
}

fn of_serial(text: &str) -> Option<String> {
    digits(text.trim().strip_prefix("VMware-")?).map(|digits| with_hyphens(&digits))
}

fn of_firmware_uuid(text: &str) -> Vec<String> {
    let Some(digits) = digits(text) else { return Vec::new() };
    let swapped: String = [3, 2, 1, 0, 5, 4, 7, 6].iter().map(|byte| &digits[byte * 2..byte * 2 + 2]).collect();
    vec![with_hyphens(&(swapped + &digits[16..])), with_hyphens(&digits)]
}

fn digits(text: &str) -> Option<String> {
    let is_separator = |c: &char| *c == '-' || *c == ' ';
    let digits: String = text.trim().chars().filter(|c| !is_separator(c)).map(|c| c.to_ascii_lowercase()).collect();
    (digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(digits)
}

fn with_hyphens(digits: &str) -> String {
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const AS_VCENTER_SHOWS: &str = "421f245c-7fa8-60fa-6af6-a46351ced0eb";

    #[test]
    fn the_serial_number_is_in_vcenters_order_and_the_uuid_may_be_swapped() {
        let serial = "VMware-42 1f 24 5c 7f a8 60 fa-6a f6 a4 63 51 ce d0 eb\n";
        assert_eq!(of_serial(serial).as_deref(), Some(AS_VCENTER_SHOWS));
        assert_eq!(of_serial("To be filled by O.E.M."), None);
        let swapped = of_firmware_uuid("5C241F42-A87F-FA60-6AF6-A46351CED0EB\n");
        assert_eq!(swapped, [AS_VCENTER_SHOWS, "5c241f42-a87f-fa60-6af6-a46351ced0eb"]);
        assert!(of_firmware_uuid("none").is_empty());
    }

    #[test]
    fn what_the_configuration_says_counts() {
        assert_eq!(uuids(Some("421F245C-7FA8-60FA-6AF6-A46351CED0EB")).unwrap(), [AS_VCENTER_SHOWS]);
        assert!(matches!(uuids(Some("web1")), Err(HotAddError::OwnVm { .. })));
        assert!(matches!(uuids(Some(&"é".repeat(16))), Err(HotAddError::OwnVm { .. })));
    }
}
