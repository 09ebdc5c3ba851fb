//! What an OVF descriptor (DMTF DSP0243 1.1 and 2.1, "References" and "DiskSection") says of an appliance's disks. Pure.

use std::collections::BTreeMap;

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};

/// The longest OVF that is read, in bytes.
pub const MAX_OVF_BYTES: u64 = 4 << 20;

/// A file of the appliance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OvfFile {
    /// `ovf:href`, the name in the archive.
    pub href: String,
    /// `ovf:compression`, when there is one (`gzip`).
    pub compression: Option<String>,
    /// `ovf:chunkSize` is there: the file is split into `href.000000000` and so on.
    pub is_split: bool,
}

/// A disk of the appliance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OvfDisk {
    /// `ovf:diskId`.
    pub id: String,
    /// Its file; `None` for a disk that begins empty.
    pub file: Option<OvfFile>,
    /// Its size, in bytes, when it is told in units that are known.
    pub capacity_bytes: Option<u64>,
}

/// The disks in the order of the DiskSection.
///
/// # Errors
/// What is wrong with the text.
pub fn disks(xml: &[u8]) -> Result<Vec<OvfDisk>, String> {
    let mut reader = quick_xml::Reader::from_reader(xml);
    let mut files = BTreeMap::new();
    let mut disks = Vec::new();
    // Other sections may have elements of the same names.
    let mut section = String::new();
    loop {
        let event = reader.read_event().map_err(|error| format!("the OVF is no XML: {error}"))?;
        match event {
            Event::Eof => break,
            Event::End(element) if element.local_name().as_ref() == section => section.clear(),
            Event::Start(element) | Event::Empty(element) => match (section.as_str(), element.local_name().as_ref()) {
                ("", name @ ("References" | "DiskSection")) => name.clone_into(&mut section),
                ("References", "File") => {
                    let attributes = attributes(&element)?;
                    let file = OvfFile {
                        href: attributes.get("href").cloned().ok_or("a File has no href")?,
                        compression: attributes.get("compression").filter(|kind| *kind != "identity").cloned(),
                        is_split: attributes.contains_key("chunkSize"),
                    };
                    files.insert(attributes.get("id").cloned().ok_or("a File has no id")?, file);
                }
                ("DiskSection", "Disk") => disks.push(attributes(&element)?),
                _ => {}
            },
            _ => {}
        }
    }
    disks.into_iter().map(|attributes| disk(&attributes, &files)).collect()
}

fn disk(attributes: &BTreeMap<String, String>, files: &BTreeMap<String, OvfFile>) -> Result<OvfDisk, String> {
    let file = match attributes.get("fileRef") {
        Some(reference) => Some(files.get(reference).cloned().ok_or(format!("there is no File {reference:?}"))?),
        None => None,
    };
    let units = attributes.get("capacityAllocationUnits").map_or(Some(1), |units| unit_bytes(units));
    let capacity = attributes.get("capacity").and_then(|number| number.trim().parse::<u64>().ok());
    Ok(OvfDisk {
        id: attributes.get("diskId").cloned().unwrap_or_default(),
        file,
        capacity_bytes: capacity.zip(units).and_then(|(capacity, unit)| capacity.checked_mul(unit)),
    })
}

/// DSP0004 programmatic units: `byte`, `byte * 2^30`, `byte * 1024`; and the names of OVF 0.9.
fn unit_bytes(units: &str) -> Option<u64> {
    let mut factors = units.split('*').map(str::trim);
    let first = match factors.next()?.to_ascii_lowercase().as_str() {
        "byte" | "bytes" => 1,
        "kilobytes" => 1 << 10,
        "megabytes" => 1 << 20,
        "gigabytes" => 1 << 30,
        _ => return None,
    };
    factors.try_fold(first, |product: u64, factor| {
        let value = match factor.split_once('^') {
            Some((base, power)) => base.trim().parse::<u64>().ok()?.checked_pow(power.trim().parse().ok()?)?,
            None => factor.parse().ok()?,
        };
        product.checked_mul(value)
    })
}

/// Attributes by their local name.
fn attributes(element: &BytesStart<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|error| format!("the OVF has a broken attribute: {error}"))?;
        let key = attribute.key.local_name().as_ref().to_owned();
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| format!("the OVF has a broken attribute: {error}"))?;
        found.insert(key, value.into_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPLIANCE: &str = r#"<?xml version="1.0"?>
        <Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
          <References>
            <File ovf:href="a&amp;b-disk2.vmdk" ovf:id="f2"/>
            <File ovf:href="disk1.vmdk.gz" ovf:id="f1" ovf:compression="gzip" ovf:chunkSize="100"/>
          </References>
          <DiskSection><Info>x</Info>
            <Disk ovf:capacity="4" ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="d1" ovf:fileRef="f1"/>
            <Disk ovf:capacity="1048576" ovf:diskId="d2" ovf:fileRef="f2"></Disk>
            <Disk ovf:capacity="${size}" ovf:diskId="d3"/>
          </DiskSection>
        </Envelope>"#;

    #[test]
    fn disks_come_in_their_order_with_their_files() {
        let disks = disks(APPLIANCE.as_bytes()).unwrap();
        assert_eq!(disks.len(), 3);
        assert_eq!((disks[0].id.as_str(), disks[0].capacity_bytes), ("d1", Some(4 << 30)));
        let packed = disks[0].file.clone().unwrap();
        assert!(packed.is_split && packed.compression.as_deref() == Some("gzip"));
        assert_eq!(disks[1].file.clone().unwrap(), OvfFile { href: "a&b-disk2.vmdk".into(), ..OvfFile::default() });
        assert_eq!((&disks[2].file, disks[2].capacity_bytes), (&None, None));
    }

    #[test]
    fn broken_texts_are_told() {
        assert!(disks(b"<a><b></a>").is_err());
        for broken in ["<Disk fileRef='f'/>", "<Disk a='&x;'/>", "<Disk a='1' a='2'/>"] {
            assert!(disks(format!("<DiskSection>{broken}</DiskSection>").as_bytes()).is_err(), "{broken}");
            assert_eq!(disks(format!("<Other>{broken}</Other>").as_bytes()), Ok(vec![]), "{broken}");
        }
        assert!(disks(b"<References><File id='f'/></References>").is_err());
    }

    #[test]
    fn units_are_products() {
        for (units, bytes) in [("byte", Some(1)), ("byte*2^10 * 3", Some(3072)), ("GigaBytes", Some(1 << 30))] {
            assert_eq!(unit_bytes(units), bytes);
        }
        for unknown in ["", "bit", "byte * x", "byte * 2^64", "byte * 2^60 * 2^60"] {
            assert_eq!(unit_bytes(unknown), None, "{unknown}");
        }
    }
}
