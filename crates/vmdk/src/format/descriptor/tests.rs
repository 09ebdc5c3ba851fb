//! Descriptors as products write them, and as nobody should.

use super::*;

const ESXI_CHILD: &str = "# Disk DescriptorFile\r\nversion=3\r\nencoding=\"UTF-8\"\r\nCID=2a3b4c5d\r\nparentCID=FFFFFFFE\r\n\
    isNativeSnapshot=\"no\"\r\ncreateType=\"seSparse\"\r\nparentFileNameHint=\"web1.vmdk\"\r\n# Extent description\r\n\
    RW 83886080 SESPARSE \"web1-000001-sesparse.vmdk\"\r\n\r\n# Change Tracking File\r\n\
    changeTrackPath=\"web1-000001-ctk.vmdk\"\r\n\r\n# The Disk Data Base\r\n#DDB\r\n\r\n\
    ddb.uuid = \"60 00 C2 9a 11 22 33 44-55 66 77 88 99 aa bb cc\"\r\nddb.longContentID = \"0f\"\r\n";

fn with(lines: &str) -> Result<Descriptor, FormatError> {
    Descriptor::parse(format!("# Disk DescriptorFile\nversion=1\nCID=1\n{lines}").as_bytes())
}

#[test]
fn what_esxi_writes_is_understood() {
    let mut padded = ESXI_CHILD.as_bytes().to_vec();
    padded.extend_from_slice(&[0; 700]);
    let descriptor = Descriptor::parse(&padded).unwrap();
    assert_eq!(descriptor.cid, Some(0x2a3b_4c5d));
    assert_eq!(descriptor.parent, Some(ParentLink { cid: 0xffff_fffe, hint: "web1.vmdk".into() }));
    assert_eq!(descriptor.create_type, "seSparse");
    let extent =
        ExtentLine { sectors: 83_886_080, kind: ExtentKind::SeSparse, file: "web1-000001-sesparse.vmdk".into() };
    assert_eq!(descriptor.extents, [extent]);
    assert_eq!(descriptor.size_bytes(), 40 << 30);
    assert_eq!(descriptor.entry("ddb.UUID"), Some("60 00 C2 9a 11 22 33 44-55 66 77 88 99 aa bb cc"));
}

#[test]
fn every_extent_type_is_understood() {
    let cases = [
        ("RW 1 FLAT \"a b=c.vmdk\" 7", ExtentKind::Flat { first_sector: 7 }, "a b=c.vmdk"),
        ("rw 1 VMFS \"a\"", ExtentKind::Flat { first_sector: 0 }, "a"),
        ("RDONLY 1 sparse \"ä.vmdk\"", ExtentKind::Sparse, "ä.vmdk"),
        ("RW 1 VMFSSPARSE \"a\"", ExtentKind::Sparse, "a"),
        ("RW\t1  SESPARSE\t\"a\" ", ExtentKind::SeSparse, "a"),
        ("RW 1 ZERO", ExtentKind::Zero, ""),
    ];
    for (line, kind, file) in cases {
        assert_eq!(with(line).unwrap().extents, [ExtentLine { sectors: 1, kind, file: file.into() }], "{line}");
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (lines, reason) in [
        ("", "names no extent"),
        ("RW 1 FLAT \"a\"", "needs its offset"),
        ("RW 1 FLAT \"a\" -1", "needs its offset"),
        ("RW 1 FLAT \"a\" 0 more", "needs its offset"),
        ("RW 1 FLAT \"a\" 18446744073709551615", "needs its offset"),
        ("RW 0 ZERO", "not a number of sectors"),
        ("RW -5 ZERO", "not a number of sectors"),
        ("RW ZERO", "not a number of sectors"),
        ("RW 1 SPARSE \"a", "not closed"),
        ("RW 1 SPARSE a", "file name"),
        ("RW 1 SPARSE", "file name"),
        ("RW 1 ZERO \"a\"", "file name"),
        ("RW 1 SPARSE \"a\" 5", "nothing may follow"),
        ("RW 133143986177 ZERO", "62 TiB"),
        ("RW 133143986176 ZERO\nRW 1 ZERO", "62 TiB"),
        ("RW 18446744073709551615 ZERO\nRW 18446744073709551615 ZERO", "62 TiB"),
        ("RW 1 ZERO\nCID=2", "twice"),
        ("RW 1 ZERO\nparentCID=5", "no parentFileNameHint"),
        ("RW 1 ZERO\nparentFileNameHint=\"a\"", "no parentCID"),
        ("RW 1 ZERO\nparentCID=ffffffff\nparentFileNameHint=\"a\"", "no parentCID"),
        ("RW 1 ZERO\nparentCID=xyz", "no content id"),
        ("RW 1 ZERO\nwhat is this", "neither"),
    ] {
        let error = with(lines).unwrap_err();
        assert!(!matches!(error, FormatError::Unsupported { .. }), "{lines}: {error}");
        assert!(error.to_string().contains(reason), "{lines}: {error}");
    }
}

#[test]
fn what_cannot_be_read_from_files_is_named() {
    for (lines, what) in [
        ("NOACCESS 1 ZERO", "accessed"),
        ("RW 1 VMFSRDM \"a-rdm.vmdk\"", "raw device"),
        ("RW 1 VMFSRAW \"a\"", "raw device"),
        ("RW 1 VSANSPARSE \"a\"", "vSAN"),
        ("RW 1 NEWKIND \"a\"", "not known"),
        ("RW 1 ZERO\nddb.iofilters = \"vmwarevmcrypt\"", "encrypted"),
        ("RW 1 ZERO\nencryptionKeys=\"vmware:key\"", "encrypted"),
        ("RW 1 ZERO\nisNativeSnapshot=\"yes\"", "native"),
    ] {
        let error = with(lines).unwrap_err();
        assert!(matches!(error, FormatError::Unsupported { .. }), "{lines}: {error}");
        assert!(error.to_string().contains(what), "{lines}: {error}");
    }
    let extents = "RW 1 ZERO\n".repeat(MAX_EXTENTS + 1);
    assert!(matches!(with(&extents), Err(FormatError::Unsupported { .. })));
}

#[test]
fn no_parent_is_said_in_three_ways() {
    for line in ["parentCID=ffffffff", "parentCID=00000000", "parentFileNameHint=\"\""] {
        assert_eq!(with(&format!("RW 1 ZERO\n{line}")).unwrap().parent, None, "{line}");
    }
}

#[test]
fn only_the_first_line_makes_a_descriptor() {
    assert!(is_descriptor(b"\xef\xbb\xbf\n # disk descriptorFILE"));
    assert!(!is_descriptor(b"version=1\n# Disk DescriptorFile"));
    assert!(!is_descriptor(b"# Disk Descr"));
    assert!(Descriptor::parse(b"").is_err());
}
